"""What is at a libvirt site: a VM with its VDISKs and networks, read from its profile and from QEMU."""

import contextlib
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Any

import libvirt

from drover.errors import InputError, PlatformError
from drover.model.vm import IoStatistics, Vdisk, Vm
from drover.platforms.libvirt.connection import doing, qmp
from drover.platforms.libvirt.labels import labels_of


@dataclass(frozen=True, kw_only=True)
class Node:
    """Where a VDISK sits inside a running QEMU: the block node that the guest's device reads and writes."""

    vdisk: str
    node: str
    device: str
    """QOM path of the guest's device."""
    bitmaps: dict[str, bool]
    """Dirty bitmaps by name; true while one records."""
    dirty: dict[str, int]
    """Bytes that each bitmap holds."""
    raw: str | None
    """Path on the VM's host of the file or block device that holds exactly the VDISK's bytes; None if there is none."""


def find_domain(connection: libvirt.virConnect, vm: str) -> libvirt.virDomain:
    """The domain with this name or UUID. Raises InputError that names what is there."""
    with contextlib.suppress(libvirt.libvirtError):
        return connection.lookupByName(vm)
    with contextlib.suppress(libvirt.libvirtError):
        return connection.lookupByUUIDString(vm)
    names = sorted(domain.name() for domain in connection.listAllDomains())
    raise InputError(
        f"there is no VM {vm!r} at {connection.getURI()}",
        remedy=f"its VMs are {', '.join(names[:12])}" if names else "it has no VMs",
    )


def is_running(domain: libvirt.virDomain) -> bool:
    """Whether the VM has a hypervisor process (it may be paused)."""
    with doing(f"asking for the state of {domain.name()}"):
        return bool(domain.isActive())


def describe(domain: libvirt.virDomain) -> Vm:
    """The VM as it is now. Raises PlatformError."""
    with doing(f"reading the profile of {domain.name()}"):
        profile = ET.fromstring(domain.XMLDesc(0))
    os_type = profile.find("os/type")
    assert os_type is not None
    return Vm(
        name=domain.name(),
        uuid=domain.UUIDString(),
        running=is_running(domain),
        memory=domain.maxMemory() * 1024,
        resident=resident(domain),
        machine=os_type.get("machine", ""),
        arch=os_type.get("arch", ""),
        virtualisation=profile.get("type", ""),
        vdisks=tuple(_vdisks(domain, profile)),
        networks=tuple(dict.fromkeys(filter(None, map(network_of, profile.findall("devices/interface"))))),
        labels=labels_of(profile),
    )


def resident(domain: libvirt.virDomain) -> int | None:
    """Bytes of the host's memory that the VM's process has taken, more than the guest ever used; None if unknown."""
    with contextlib.suppress(libvirt.libvirtError):
        kibibytes = domain.memoryStats().get("rss")
        return None if kibibytes is None else int(kibibytes) * 1024
    return None


def network_of(interface: ET.Element) -> str | None:
    """What an interface is plugged into: a libvirt network's name, or a bridge's."""
    source = interface.find("source")
    if source is None:
        return None
    return source.get("network") or source.get("bridge") or source.get("dev")


def nodes(domain: libvirt.virDomain, vdisks: list[str]) -> list[Node]:
    """The block nodes of these VDISKs. Raises PlatformError if QEMU has lost one."""
    with doing(f"reading the profile of {domain.name()}"):
        profile = ET.fromstring(domain.XMLDesc(0))
    by_alias = {}
    for disk in profile.findall("devices/disk"):
        target, alias = disk.find("target"), disk.find("alias")
        if target is not None and alias is not None:
            by_alias[alias.get("name", "")] = target.get("dev", "")
    found = {}
    for device in qmp(domain, "query-block"):
        parts = device.get("qdev", "").split("/")
        name = next((by_alias[part] for part in parts if part in by_alias), None)
        if name in vdisks and "inserted" in device:
            inserted = device["inserted"]
            bitmaps = inserted.get("dirty-bitmaps", [])
            found[name] = Node(
                vdisk=name,
                node=inserted["node-name"],
                device=device["qdev"],
                bitmaps={bitmap.get("name", ""): bitmap["recording"] for bitmap in bitmaps},
                dirty={bitmap.get("name", ""): bitmap["count"] for bitmap in bitmaps},
                raw=_raw(inserted),
            )
    if missing := sorted(set(vdisks) - set(found)):
        raise PlatformError(
            f"QEMU of {domain.name()} has no VDISK {', '.join(missing)} any more",
            remedy="attach it again, or cancel the migration and start it anew",
        )
    return [found[name] for name in vdisks]


def _raw(inserted: dict[str, Any]) -> str | None:
    """QEMU names a file plainly only if nothing (a slice, a filter, a server) stands between it and the VDISK."""
    name = str(inserted.get("file", ""))
    return name if inserted.get("drv") == "raw" and name.startswith("/") else None


def io_statistics(domain: libvirt.virDomain, vdisk: str) -> IoStatistics:
    """Totals since the VM started. Raises PlatformError."""
    with doing(f"reading the I/O statistics of {domain.name()}/{vdisk}"):
        stats = domain.blockStatsFlags(vdisk)
    return IoStatistics(
        read_bytes=stats.get("rd_bytes", 0),
        write_bytes=stats.get("wr_bytes", 0),
        read_requests=stats.get("rd_operations", 0),
        write_requests=stats.get("wr_operations", 0),
        read_seconds=stats.get("rd_total_times", 0) / 1e9,
        write_seconds=stats.get("wr_total_times", 0) / 1e9,
    )


def _vdisks(domain: libvirt.virDomain, profile: ET.Element) -> list[Vdisk]:
    result = []
    for disk in profile.findall("devices/disk"):
        target = disk.find("target")
        if target is None or disk.get("device", "disk") in ("cdrom", "floppy") or disk.find("readonly") is not None:
            continue
        result.append(_vdisk(domain, disk, target.get("dev", "")))
    return result


def _vdisk(domain: libvirt.virDomain, disk: ET.Element, name: str) -> Vdisk:
    driver, source = disk.find("driver"), disk.find("source")
    kind = disk.get("type", "file")
    path = "" if source is None else source.get("file") or source.get("dev") or source.get("name") or ""
    if kind == "volume" and source is not None:
        kind, path = _resolve_volume(domain, source)
    obstacle = _obstacle(disk, path)
    size = allocated = 0
    if obstacle is None:
        with doing(f"asking for the size of {domain.name()}/{name}"):
            size, allocated, _ = domain.blockInfo(name)
        if domain.isActive():
            # Of a running VM libvirt says the highest offset written since it started.
            allocated = _actual_size(domain, path) or allocated
    return Vdisk(
        name=name,
        size=size,
        format="raw" if driver is None else driver.get("type", "raw"),
        path=path,
        kind=kind,
        allocated=allocated,
        replicable=obstacle is None,
        obstacle=obstacle,
    )


def _actual_size(domain: libvirt.virDomain, path: str) -> int:
    """Bytes that an image of a running VM takes on its storage; 0 if QEMU does not know."""
    for device in qmp(domain, "query-block"):
        image = device.get("inserted", {}).get("image", {})
        if image.get("filename") == path:
            return int(image.get("actual-size", 0))
    return 0


def _resolve_volume(domain: libvirt.virDomain, source: ET.Element) -> tuple[str, str]:
    with doing(f"looking up the volume {source.get('volume')} of {domain.name()}"):
        pool = domain.connect().storagePoolLookupByName(source.get("pool"))
        volume = pool.storageVolLookupByName(source.get("volume"))
        return ("block" if volume.info()[0] == libvirt.VIR_STORAGE_VOL_BLOCK else "file"), volume.path()


def _obstacle(disk: ET.Element, path: str) -> str | None:
    if disk.get("device") == "lun":
        return "it is a SCSI LUN passed through to the guest, past QEMU's block layer"
    if disk.get("type") in ("vhostuser", "vhostvdpa", "nvme", "dir"):
        return f"a disk of type {disk.get('type')} is not written through QEMU's block layer"
    if disk.find("shareable") is not None:
        return "it is shared with other VMs, whose writes cannot be captured here"
    if disk.find("transient") is not None:
        return "it is transient: its writes are thrown away at shutdown"
    return None if path else "it has no medium"
