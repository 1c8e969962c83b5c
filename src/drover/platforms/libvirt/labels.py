"""Labels of a VM in its profile: tags and a folder in metadata of a namespace of their own, title and description.

libvirt keeps one element of a namespace in a profile's <metadata>, and puts all that is in it into that namespace:

    <drover:labels xmlns:drover="https://drover.dev/xmlns/labels/1">
      <drover:tag>production</drover:tag>
      <drover:folder>/shop/web</drover:folder>
    </drover:labels>
"""

import xml.etree.ElementTree as ET

from drover.model.vm import Labels

NAMESPACE = "https://drover.dev/xmlns/labels/1"


def labels_of(profile: ET.Element) -> Labels:
    """What a profile says; blanks around it do not count, nor do the same tag twice and any folder but the first."""
    inside = f"metadata/{{{NAMESPACE}}}labels/{{{NAMESPACE}}}"
    tags = [(tag.text or "").strip() for tag in profile.findall(inside + "tag")]
    return Labels(
        tags=tuple(dict.fromkeys(tag for tag in tags if tag)),
        folder=(profile.findtext(inside + "folder") or "").strip(),
        title=(profile.findtext("title") or "").strip(),
        description=(profile.findtext("description") or "").strip(),
    )
