"""The lab's VMs: their description, their libvirt domain, and how they are made."""

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

import libvirt

from drover.errors import InputError, PlatformError
from drover.lab import content

# No pattern of the witness: it writes random blocks as fast as it can instead, and checks nothing.
LOAD = "load"
PATTERNS = ("append", "random", "rewrite-hot", "idle", LOAD)
FORMATS = ("raw", "qcow2")
# What a VM's VDISKs are for: /dev/vda has its file system, /dev/vdb the witness's records.
ROLES = ("system", "records")
MEMORY_MIB = 128
MACHINE = "pc"
SMALLEST_VDISK = 16 << 20
# Where the site's console folder lies within the site: the same path at both sites, but two different files.
CONSOLE_FOLDER = "/var/log/libvirt/console"
_BOOT = "/var/lib/libvirt/boot"
_KERNEL_LINE = "console=ttyS0 quiet loglevel=4 nokaslr mitigations=off random.trust_cpu=on panic=10"


@dataclass(frozen=True, kw_only=True)
class VmSpec:
    """A VM of the lab. `size` is the bytes of both VDISKs together; `rate` is writes per second."""

    name: str
    formats: Sequence[str] = ("raw", "qcow2")
    size: int = 512 << 20
    pattern: str = "append"
    rate: float = 50.0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,40}", self.name):
            raise InputError(f"{self.name!r} is not a VM's name", remedy="use small letters, digits, - _ and .")
        if len(self.formats) != 2 or not set(self.formats) <= set(FORMATS):
            raise InputError(
                f"{','.join(self.formats)!r} are not the formats of two VDISKs",
                remedy="give one for the system and one for the records, as in raw,qcow2",
            )
        if self.pattern not in PATTERNS:
            raise InputError(f"{self.pattern!r} is not a write pattern", remedy=f"take one of {', '.join(PATTERNS)}")
        if self.rate <= 0:
            raise InputError(f"{self.rate:g} writes per second is no rate", remedy="use the pattern idle instead")
        if self.vdisk_size < SMALLEST_VDISK:
            raise InputError(f"{self.size} bytes are too few for two VDISKs", remedy="give at least 32MiB")

    @property
    def vdisk_size(self) -> int:
        """Bytes of each VDISK, whole MiB."""
        return self.size // 2 >> 20 << 20

    @property
    def area_size(self) -> int:
        """Bytes of the witness's records on the second VDISK, which begin at 1 MiB; its first half holds them."""
        return min(64 << 20, (self.vdisk_size // 2 >> 20 << 20) - (1 << 20))

    @property
    def files_size(self) -> int:
        """Bytes of the witness's records in files on the first VDISK."""
        return min(32 << 20, self.vdisk_size // 8 >> 20 << 20)


def make(connection: Any, spec: VmSpec, *, network: str, scratch: Path) -> None:
    """Makes the VDISKs and the persistent domain of `spec` at the site of `connection`; does not start it.

    `scratch` is the site's folder for work in progress. Raises InputError when the name is taken, PlatformError when
    libvirt refuses.
    """
    if find(connection, spec.name) is not None:
        raise InputError(f"the site has a VM called {spec.name} already", remedy="choose another name")
    work = scratch / spec.name
    try:
        if work.exists():
            # An earlier making was killed: what it left is half full.
            _delete_volumes(connection, spec)
            shutil.rmtree(work)
        _refuse_taken_volumes(connection, spec)
        work.mkdir(parents=True)
        try:
            volumes = [
                _make_vdisk(connection, spec, role, volume_format, work)
                for role, volume_format in zip(ROLES, spec.formats, strict=True)
            ]
            connection.defineXML(_domain_xml(spec, volumes, network))
        except BaseException:
            _delete_volumes(connection, spec)
            raise
        finally:
            shutil.rmtree(work)
    except libvirt.libvirtError as error:
        raise PlatformError(f"making the VM {spec.name}: {error}") from error


def remove(connection: Any, name: str) -> None:
    """Powers the VM `name` off and deletes its domain and volumes. Raises InputError when there is none."""
    domain = find(connection, name)
    if domain is None:
        raise InputError(f"the site has no VM called {name}", remedy="see `drover lab status`")
    sources = ElementTree.fromstring(domain.XMLDesc()).iterfind("./devices/disk/source[@file]")
    paths = [str(source.get("file")) for source in sources]
    persistent = domain.isPersistent()
    if domain.isActive():
        # A domain that is not persistent is forgotten with this.
        domain.destroy()
    if persistent:
        domain.undefine()
    for pool in connection.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE):
        pool.refresh()
        for volume in pool.listAllVolumes():
            if volume.path() in paths:
                volume.delete()


def find(connection: Any, name: str) -> Any | None:
    """The libvirt domain called `name`, or None."""
    try:
        return connection.lookupByName(name)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def _volume_name(spec: VmSpec, role: str, volume_format: str) -> str:
    return f"{spec.name}-{role}.{'img' if volume_format == 'raw' else 'qcow2'}"


def _volumes(connection: Any, spec: VmSpec) -> Iterator[Any]:
    """Those volumes of the VM that are there."""
    for role, volume_format in zip(ROLES, spec.formats, strict=True):
        pool = connection.storagePoolLookupByName(volume_format)
        pool.refresh()
        name = _volume_name(spec, role, volume_format)
        if name in pool.listVolumes():
            yield pool.storageVolLookupByName(name)


def _delete_volumes(connection: Any, spec: VmSpec) -> None:
    for volume in list(_volumes(connection, spec)):
        volume.delete()


def _refuse_taken_volumes(connection: Any, spec: VmSpec) -> None:
    for volume in _volumes(connection, spec):
        raise InputError(
            f"making the VM {spec.name}: there is a volume {volume.path()} already",
            remedy=f"choose another name, or delete it: virsh -c '{connection.getURI()}' vol-delete '{volume.path()}'",
        )


def _make_vdisk(connection: Any, spec: VmSpec, role: str, volume_format: str, work: Path) -> Path:
    volume = connection.storagePoolLookupByName(volume_format).createXML(
        f"<volume><name>{escape(_volume_name(spec, role, volume_format))}</name>"
        f"<capacity>{spec.vdisk_size}</capacity><allocation>0</allocation>"
        f"<target><format type='{volume_format}'/></target></volume>"
    )
    path = Path(volume.path())
    image = work / role
    seed = f"{spec.name}/{role}"
    zeros: list[tuple[int, int]] = []
    if role == "system":
        content.system_image(image, spec.vdisk_size, seed=seed)
    else:
        # The first half is the witness's own.
        zeros = content.records_image(image, spec.vdisk_size, seed=seed, first=spec.vdisk_size // 2)
    content.fill_volume(image, path, volume_format, zeros)
    return path


def _domain_xml(spec: VmSpec, volumes: list[Path], network: str) -> str:
    disks = "".join(
        _disk_xml(path, volume_format, target)
        for path, volume_format, target in zip(volumes, spec.formats, ("vda", "vdb"), strict=True)
    )
    options = {"area-bytes": spec.area_size, "file-bytes": spec.files_size}
    if spec.pattern == LOAD:
        words = ["witness.load"]
    else:
        words = [f"witness.pattern={spec.pattern}", f"witness.rate={spec.rate:g}"]
    line = " ".join([_KERNEL_LINE, *words, *(f"witness.{name}={value}" for name, value in options.items())])
    console = quoteattr(f"{CONSOLE_FOLDER}/{spec.name}.log")
    return f"""
<domain type='qemu'>
  <name>{escape(spec.name)}</name>
  <description>A guest of the Drover lab that writes numbered records and checks them</description>
  <memory unit='MiB'>{MEMORY_MIB}</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='{MACHINE}'>hvm</type>
    <kernel>{_BOOT}/vmlinuz</kernel>
    <initrd>{_BOOT}/initrd</initrd>
    <cmdline>{escape(line)}</cmdline>
  </os>
  <features><acpi/></features>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    {disks}
    <controller type='usb' model='none'/>
    <interface type='network'>
      <source network={quoteattr(network)}/>
      <model type='virtio'/>
      <rom enabled='no'/>
    </interface>
    <serial type='file'><source path={console} append='on'/><target port='0'/></serial>
    <console type='file'><source path={console} append='on'/><target type='serial' port='0'/></console>
    <video><model type='none'/></video>
    <memballoon model='none'/>
  </devices>
</domain>"""


def _disk_xml(path: Path, volume_format: str, target: str) -> str:
    cache = "none" if content.takes_direct_io(path.parent) else "writeback"
    return f"""
    <disk type='file' device='disk'>
      <driver name='qemu' type='{volume_format}' cache='{cache}' discard='unmap'/>
      <source file={quoteattr(str(path))}/>
      <target dev='{target}' bus='virtio'/>
    </disk>"""
