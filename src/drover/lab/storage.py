"""A site's storage pools and its network, as an administrator would have them in libvirt."""

from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import libvirt

from drover.errors import InputError
from drover.lab.namespace import Namespace

# One pool for each format of VDISK, so that a plan has something to map.
POOLS = ("raw", "qcow2")


def ensure_pool(connection: Any, name: str, path: Path) -> str | None:
    """Defines and starts the directory pool `name` at `path`; says what was done."""
    done = None
    try:
        pool = connection.storagePoolLookupByName(name)
    except libvirt.libvirtError:
        path.mkdir(parents=True, exist_ok=True)
        pool = connection.storagePoolDefineXML(
            f"<pool type='dir'><name>{escape(name)}</name><target><path>{escape(str(path))}</path></target></pool>"
        )
        done = f"pool {name} made at {path}"
    if not pool.isActive():
        pool.create()
        done = done or f"pool {name} started"
    return done


def ensure_network(connection: Any, name: str) -> str | None:
    """Defines and starts the isolated network `name`, without DNS and DHCP; says what was done."""
    done = None
    try:
        network = connection.networkLookupByName(name)
    except libvirt.libvirtError:
        bridge = quoteattr(f"{name[:12]}-br")
        network = connection.networkDefineXML(
            f"<network><name>{escape(name)}</name><bridge name={bridge} stp='off'/><dns enable='no'/></network>"
        )
        done = f"network {name} made"
    if not network.isActive():
        network.create()
        done = done or f"network {name} started"
    return done


def small_pool(namespace: Namespace, connection: Any, name: str, size: int) -> Path:
    """Makes a pool of its own small file system, so that it can be filled up. Returns its path.

    `size` is in bytes, at least 8 MiB. The file system is seen only within the site. Calling it again puts an
    existing one back after a restart of the site.
    """
    if size < 8 << 20:
        raise InputError(f"a pool of {size} bytes is too small for a file system", remedy="give at least 8MiB")
    path = namespace.folder / "pools" / name
    image = namespace.folder / "pools" / f"{name}.ext4"
    path.mkdir(parents=True, exist_ok=True)
    if not image.exists():
        with image.open("wb") as file:
            file.truncate(size)
        namespace.run("mke2fs", "-q", "-t", "ext4", "-m", "0", str(image), doing=f"making the file system of {name}")
    if not _is_mounted(namespace, path):
        namespace.run("mount", "-o", "loop", str(image), str(path), doing=f"mounting the pool {name}")
    ensure_pool(connection, name, path)
    # libvirtd may have looked into the folder before the file system was there.
    connection.storagePoolLookupByName(name).refresh()
    return path


def _is_mounted(namespace: Namespace, path: Path) -> bool:
    mounts = Path(f"/proc/{namespace.keeper()}/mountinfo").read_text()
    return any(line.split()[4] == str(path) for line in mounts.splitlines())
