"""Translating a VM's profile (domain XML) from its site to another, and marking the one that stays behind."""

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass

from drover.model.profile import Profile
from drover.platforms.libvirt.changes import apply
from drover.platforms.libvirt.inventory import network_of

NAMESPACE = "https://drover.dev/xmlns/libvirt/1"
_BLOCKER = "this VM was migrated by Drover: it must not start here"
_RUNTIME = ("backingStore", "mirror", "privateData", "alias", "encryption")

ET.register_namespace("drover", NAMESPACE)


@dataclass(frozen=True, kw_only=True)
class NewDisk:
    """Where a VDISK lives at the destination."""

    path: str
    format: str
    block: bool


def translate(
    xml: str,
    *,
    disks: Mapping[str, NewDisk],
    networks: Mapping[str, str],
    emulator: str | None,
    changes: Profile = Profile(),  # noqa: B008
    seed: str = "",
) -> str:
    """The profile for the destination: its VDISKs, networks and emulator, and what is to be different.

    Everything else, the UUID too, is as it was. New MAC addresses follow from `seed`. Read-only media (CD, floppy) are
    emptied: they do not travel. `emulator` None keeps the source's.
    """
    profile = ET.fromstring(xml)
    apply(profile, changes, seed=seed)
    profile.attrib.pop("id", None)
    devices = profile.find("devices")
    assert devices is not None
    for label in profile.findall("seclabel"):
        if label.get("type") == "dynamic":
            profile.remove(label)
    present = devices.find("emulator")
    if emulator and present is not None:
        present.text = emulator
    for disk in devices.findall("disk"):
        target = disk.find("target")
        name = "" if target is None else target.get("dev", "")
        if name in disks:
            _point_at(disk, disks[name])
        elif disk.get("device") in ("cdrom", "floppy"):
            _empty(disk)
    for interface in devices.findall("interface"):
        _plug(interface, networks)
    return ET.tostring(profile, encoding="unicode")


def networks_in(xml: str) -> list[str]:
    """Names of the networks and bridges that a profile's interfaces are plugged into, each once."""
    interfaces = ET.fromstring(xml).findall("devices/interface")
    return list(dict.fromkeys(filter(None, map(network_of, interfaces))))


def mark_migrated(xml: str, *, migration: str, destination: str, when: str) -> str:
    """The profile of a VM that has moved away, such that it does not start by accident.

    A security label of a model that no host has makes libvirt refuse to start it and say the model's name.
    Marking twice is marking once.
    """
    profile = ET.fromstring(xml)
    note = _metadata(profile, "migrated")
    note.attrib.update({"migration": migration, "destination": destination, "at": when})
    for label in profile.findall(f"seclabel[@model='{_BLOCKER}']"):
        profile.remove(label)
    blocker = ET.SubElement(profile, "seclabel", {"type": "static", "model": _BLOCKER, "relabel": "no"})
    ET.SubElement(blocker, "label").text = migration
    return ET.tostring(profile, encoding="unicode")


def is_marked(xml: str) -> dict[str, str] | None:
    """What `mark_migrated` noted in this profile, or None."""
    note = ET.fromstring(xml).find(f"metadata/{{{NAMESPACE}}}migrated")
    return None if note is None else dict(note.attrib)


def _metadata(profile: ET.Element, name: str) -> ET.Element:
    metadata = profile.find("metadata")
    if metadata is None:
        metadata = ET.SubElement(profile, "metadata")
    found = metadata.find(f"{{{NAMESPACE}}}{name}")
    return ET.SubElement(metadata, f"{{{NAMESPACE}}}{name}") if found is None else found


def _point_at(disk: ET.Element, new: NewDisk) -> None:
    for child in [child for child in disk if child.tag in (*_RUNTIME, "source", "auth")]:
        disk.remove(child)
    disk.set("type", "block" if new.block else "file")
    disk.insert(0, ET.Element("source", {"dev" if new.block else "file": new.path}))
    driver = disk.find("driver")
    if driver is None:
        driver = ET.Element("driver", {"name": "qemu"})
        disk.insert(0, driver)
    driver.set("type", new.format)


def _empty(disk: ET.Element) -> None:
    source = disk.find("source")
    if source is not None:
        disk.remove(source)


def _plug(interface: ET.Element, networks: Mapping[str, str]) -> None:
    name, source = network_of(interface), interface.find("source")
    for child in [child for child in interface if child.tag in ("alias", "target", "virtualport", "backend")]:
        interface.remove(child)
    if name is None or source is None:
        return
    interface.set("type", "network")
    source.attrib.clear()
    source.set("network", networks.get(name, name))
