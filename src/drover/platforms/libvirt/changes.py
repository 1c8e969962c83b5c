"""What a plan changes of a VM's profile (domain XML), and what in the profile stands against it."""

import hashlib
import xml.etree.ElementTree as ET
from math import prod

from drover.model.profile import Mac, Profile

_OUI = "52:54:00"
"""QEMU's and KVM's own."""
_INNER = ("dies", "clusters", "cores", "threads")
"""Of a socket."""


def apply(profile: ET.Element, changes: Profile, *, seed: str) -> None:
    """Changes the profile; new addresses follow from `seed` and the old ones, so that they are the same each time."""
    name = profile.find("name")
    assert name is not None
    name.text = changes.named(name.text or "")
    if changes.cpus is not None:
        _set_cpus(profile, changes.cpus)
    if (memory := changes.memory_bytes) is not None:
        _set_memory(profile, memory)
    if changes.mac is Mac.NEW:
        for number, address in enumerate(profile.findall("devices/interface/mac")):
            address.set("address", _new_address(f"{seed} {number} {address.get('address')}"))


def obstacles(xml: str, changes: Profile) -> list[tuple[str, str]]:
    """What in a profile cannot be changed by a number alone, each with the way out."""
    profile, found = ET.fromstring(xml), []
    if changes.cpus is None and changes.memory is None:
        return []
    if profile.find("cpu/numa") is not None:
        found.append(("it has NUMA cells, which say where its processors and memory are", _BY_HAND))
    if changes.memory is not None and profile.find("maxMemory") is not None:
        found.append(("it has memory that is plugged in while it runs", _BY_HAND))
    topology = profile.find("cpu/topology")
    if changes.cpus is not None and topology is not None and changes.cpus % (each := _in_a_socket(topology)):
        multiples = f"{each}, {2 * each}, {3 * each}, …"
        found.append(
            (f"{changes.cpus} processors do not fit into sockets of {each} each", f"give it one of {multiples}")
        )
    return found


_BY_HAND = "leave cpus and memory as they are and change its profile by hand"


def _set_cpus(profile: ET.Element, cpus: int) -> None:
    count = profile.find("vcpu")
    if count is None:
        count = ET.SubElement(profile, "vcpu")
    count.text = str(cpus)
    count.attrib.pop("current", None)
    if (each := profile.find("vcpus")) is not None:
        profile.remove(each)
    if (topology := profile.find("cpu/topology")) is not None:
        topology.set("sockets", str(cpus // _in_a_socket(topology)))
    if (tune := profile.find("cputune")) is not None:
        for pin in [pin for pin in tune.findall("vcpupin") if int(pin.get("vcpu", "0")) >= cpus]:
            tune.remove(pin)


def _in_a_socket(topology: ET.Element) -> int:
    return prod(int(topology.get(part, "1")) for part in _INNER)


def _set_memory(profile: ET.Element, size: int) -> None:
    for tag in ("memory", "currentMemory"):
        element = profile.find(tag)
        if element is not None:
            element.set("unit", "KiB")
            element.text = str(size // 1024)


def _new_address(text: str) -> str:
    return ":".join([_OUI, *(f"{byte:02x}" for byte in hashlib.blake2s(text.encode(), digest_size=3).digest())])
