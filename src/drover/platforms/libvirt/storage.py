"""Destination VDISKs: volumes in libvirt's storage pools."""

import contextlib
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass

import libvirt

from drover.errors import CheckError, PlatformError
from drover.platforms.libvirt.connection import doing

_FILE_POOLS = ("dir", "fs", "netfs", "gluster")


@dataclass(frozen=True, kw_only=True)
class Pool:
    """A storage pool at a site; sizes are bytes."""

    name: str
    kind: str
    capacity: int
    available: int
    format: str | None
    """The format that most of its volumes have; None if it holds files of no format yet."""

    @property
    def holds_files(self) -> bool:
        return self.kind in _FILE_POOLS


def find_pool(connection: libvirt.virConnect, name: str) -> Pool:
    """The pool with this name, refreshed. Raises CheckError that names the pools there are."""
    pool = _lookup(connection, name)
    with doing(f"refreshing the pool {name}"):
        pool.refresh()
        _, capacity, _, available = pool.info()
        kind = ET.fromstring(pool.XMLDesc()).get("type", "")
        volumes = pool.listAllVolumes()
    formats = Counter(_format(volume) for volume in volumes)
    favourite = formats.most_common(1)[0][0] if formats else None
    return Pool(
        name=name,
        kind=kind,
        capacity=capacity,
        available=available,
        format=favourite if kind in _FILE_POOLS else "raw",
    )


def pool_names(connection: libvirt.virConnect) -> list[str]:
    """Names of the active pools at a site."""
    with doing(f"listing the pools of {connection.getURI()}"):
        pools = connection.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE)
    return sorted(pool.name() for pool in pools)


def volume_path(connection: libvirt.virConnect, pool: str, volume: str) -> str | None:
    """Where a volume is, or None if there is none of that name."""
    with contextlib.suppress(libvirt.libvirtError):
        return str(_lookup(connection, pool).storageVolLookupByName(volume).path())
    return None


def create_volume(connection: libvirt.virConnect, pool: str, volume: str, *, size: int, format: str) -> str:
    """Makes a thin volume of `size` bytes and returns its path. Raises PlatformError."""
    root = ET.Element("volume")
    ET.SubElement(root, "name").text = volume
    ET.SubElement(root, "capacity", unit="bytes").text = str(size)
    ET.SubElement(root, "allocation", unit="bytes").text = "0"
    ET.SubElement(ET.SubElement(root, "target"), "format", type=format)
    with doing(f"creating the volume {volume} ({size} bytes, {format}) in the pool {pool}"):
        created = _lookup(connection, pool).createXML(ET.tostring(root, encoding="unicode"))
        return str(created.path())


def delete_volume(connection: libvirt.virConnect, pool: str, volume: str) -> None:
    """Deletes a volume that Drover made; one that is gone is no error. Raises PlatformError."""
    try:
        found = _lookup(connection, pool).storageVolLookupByName(volume)
    except (libvirt.libvirtError, CheckError):
        return
    with doing(f"deleting the volume {volume} of the pool {pool}"):
        found.delete()


def _lookup(connection: libvirt.virConnect, name: str) -> libvirt.virStoragePool:
    try:
        pool = connection.storagePoolLookupByName(name)
    except libvirt.libvirtError:
        raise CheckError(
            f"there is no storage pool {name!r} at {connection.getURI()}",
            remedy=f"name one with --pool; there are {', '.join(pool_names(connection)) or 'none that are active'}",
        ) from None
    if not pool.isActive():
        raise CheckError(f"the storage pool {name!r} at {connection.getURI()} is not active", remedy="start it")
    return pool


def _format(volume: libvirt.virStorageVol) -> str:
    try:
        element = ET.fromstring(volume.XMLDesc()).find("target/format")
    except libvirt.libvirtError as error:
        raise PlatformError(f"reading the volume {volume.name()}: {error.get_error_message()}") from error
    return "raw" if element is None else element.get("type", "raw")
