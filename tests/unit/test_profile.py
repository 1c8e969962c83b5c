"""A profile arrives with other disks and networks and nothing else changed."""

import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from drover.model.profile import Profile
from drover.platforms.libvirt.changes import obstacles
from drover.platforms.libvirt.profile import NewDisk, is_marked, mark_migrated, networks_in, translate

PROFILE = """
<domain type='kvm' id='7'>
  <name>web-1</name><uuid>4dea22b3-1d52-d8f3-2516-782e98ab3fa0</uuid>
  <metadata><app:owner xmlns:app="https://example.org/app">ops</app:owner></metadata>
  <memory unit='KiB'>131072</memory>
  <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>
  <seclabel type='dynamic' model='apparmor' relabel='yes'/>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw' cache='none' discard='unmap'/>
      <source file='/a/web-1.img' index='2'/><backingStore/>
      <target dev='vda' bus='virtio'/><serial>S1</serial><alias name='virtio-disk0'/>
    </disk>
    <disk type='file' device='cdrom'><source file='/a/install.iso'/><target dev='sda' bus='sata'/><readonly/></disk>
    <interface type='network'>
      <mac address='52:54:00:00:00:01'/><source network='prod' portid='x' bridge='virbr0'/>
      <target dev='vnet3'/><model type='virtio'/><alias name='net0'/>
    </interface>
    <interface type='bridge'><mac address='52:54:00:00:00:02'/><source bridge='br0'/></interface>
  </devices>
</domain>"""


def translated() -> ET.Element:
    disks = {"vda": NewDisk(path="/b/web-1-vda.qcow2", format="qcow2", block=False)}
    return ET.fromstring(translate(PROFILE, disks=disks, networks={"prod": "dmz", "br0": "lan"}, emulator=None))


def test_disks_point_at_their_copies_and_keep_their_identity() -> None:
    disk = translated().find("devices/disk")
    assert disk is not None
    assert [child.tag for child in disk] == ["source", "driver", "target", "serial"]
    assert disk.find("source").attrib == {"file": "/b/web-1-vda.qcow2"}
    assert disk.find("driver").attrib == {"name": "qemu", "type": "qcow2", "cache": "none", "discard": "unmap"}
    assert disk.find("serial").text == "S1"


def test_networks_are_mapped_and_addresses_kept() -> None:
    first, second = translated().findall("devices/interface")
    assert first.find("source").attrib == {"network": "dmz"}
    assert first.find("mac").get("address") == "52:54:00:00:00:01"
    assert first.find("target") is None
    assert second.get("type") == "network"
    assert second.find("source").attrib == {"network": "lan"}


def test_what_belongs_to_the_vm_stays() -> None:
    profile = translated()
    assert profile.findtext("uuid") == "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"
    assert profile.find("metadata/{https://example.org/app}owner") is not None
    assert profile.get("id") is None
    assert profile.find("seclabel") is None
    cdrom = profile.findall("devices/disk")[1]
    assert cdrom.find("source") is None


def changed(changes: dict[str, Any], xml: str = PROFILE) -> ET.Element:
    made = translate(xml, disks={}, networks={}, emulator=None, changes=Profile.model_validate(changes), seed="m-1")
    return ET.fromstring(made)


def test_a_profile_arrives_with_what_a_plan_says() -> None:
    pinned = PROFILE.replace(
        "<memory",
        "<vcpu placement='static' current='2'>4</vcpu><currentMemory unit='MiB'>64</currentMemory><cputune>"
        "<vcpupin vcpu='1' cpuset='1'/><vcpupin vcpu='3' cpuset='2'/></cputune>"
        "<cpu><topology sockets='2' cores='2' threads='1'/></cpu><memory",
    )
    profile = changed({"name": "{name}-new", "cpus": 2, "memory": "512MiB", "mac": "new"}, pinned)
    assert profile.findtext("name") == "web-1-new"
    assert profile.findtext("uuid") == "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"
    assert [(profile.find(tag).get("unit"), profile.findtext(tag)) for tag in ("memory", "currentMemory")] == [
        ("KiB", "524288")
    ] * 2
    assert (profile.findtext("vcpu"), profile.find("vcpu").attrib) == ("2", {"placement": "static"})
    assert [pin.get("vcpu") for pin in profile.findall("cputune/vcpupin")] == ["1"]
    assert profile.find("cpu/topology").attrib == {"sockets": "1", "cores": "2", "threads": "1"}


def test_new_addresses_are_others_and_the_same_in_each_try() -> None:
    first, again = ([mac.get("address") for mac in changed({"mac": "new"}).iter("mac")] for _ in range(2))
    assert first == again
    assert len({*first, "52:54:00:00:00:01", "52:54:00:00:00:02"}) == 4
    assert all(re.fullmatch("52:54:00(:[0-9a-f]{2}){3}", str(address)) for address in first)


def test_nothing_said_changes_nothing() -> None:
    whole = {"name": "{name}", "mac": "keep", "autostart": "on", "start": "off"}
    plain = ET.tostring(changed({}))
    assert ET.tostring(changed(whole)) == plain


@pytest.mark.parametrize(
    ("inside", "changes", "word"),
    [
        ("<cpu><numa><cell id='0' cpus='0-1' memory='65536'/></numa></cpu>", {"memory": "1GiB"}, "NUMA"),
        ("<cpu><numa><cell id='0' cpus='0-1' memory='65536'/></numa></cpu>", {"name": "x"}, None),
        ("<maxMemory slots='4'>9999999</maxMemory>", {"memory": "1GiB"}, "plugged in"),
        ("<maxMemory slots='4'>9999999</maxMemory>", {"cpus": 3}, None),
        ("<cpu><topology sockets='1' dies='1' cores='2' threads='2'/></cpu>", {"cpus": 6}, "sockets of 4"),
        ("<cpu><topology sockets='1' dies='1' cores='2' threads='2'/></cpu>", {"cpus": 8}, None),
    ],
)
def test_what_a_number_alone_cannot_change_is_said(inside: str, changes: dict[str, Any], word: str | None) -> None:
    found = obstacles(PROFILE.replace("<memory", f"{inside}<memory"), Profile.model_validate(changes))
    assert [word in said for said, _ in found] == ([] if word is None else [True])


def test_networks_in_a_profile_are_named_once() -> None:
    assert networks_in(PROFILE) == ["prod", "br0"]


def test_a_marked_profile_says_where_the_vm_went() -> None:
    assert is_marked(PROFILE) is None
    marked = mark_migrated(PROFILE, migration="m-1", destination="qemu:///b", when="2026-11-23T00:00:00Z")
    assert is_marked(marked) == {"migration": "m-1", "destination": "qemu:///b", "at": "2026-11-23T00:00:00Z"}
    assert len(ET.fromstring(marked).findall("seclabel")) == 2
    again = mark_migrated(marked, migration="m-1", destination="qemu:///b", when="2026-11-23T00:00:01Z")
    assert len(ET.fromstring(again).findall("seclabel")) == 2
