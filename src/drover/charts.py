"""Pictures of reports, as SVG that needs no script, in one style."""

from typing import Any

from markupsafe import Markup
from pygal.etree import etree
from pygal.style import Style

_STYLE = Style(
    background="transparent", plot_background="transparent", font_family="sans-serif",
    colors=("#0b6e99", "#c8553d", "#588157", "#8d6a9f", "#b08900"),
    label_font_size=13, major_label_font_size=13, legend_font_size=13, value_font_size=12,
)  # fmt: skip


def settings(form: Any, *, height: int) -> dict[str, Any]:
    """What every chart is made with; `form` writes its values."""
    return {
        "style": _STYLE,
        "js": (),
        "value_formatter": form,
        "width": 860,
        "height": height,
        "truncate_label": -1,
        "disable_xml_declaration": True,
    }


def drawn(chart: Any) -> Markup:
    """The chart as SVG without scripts."""
    tree = chart.render_tree()
    for parent in list(tree.iter()):
        for script in [child for child in parent if str(child.tag).endswith("script")]:
            parent.remove(script)
    # Texts are escaped when the tree becomes text.
    return Markup(etree.tostring(tree, encoding="unicode"))
