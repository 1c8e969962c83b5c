"""The guest that the lab's VMs boot: Debian's own cloud kernel and a small initramfs, nothing downloaded."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from drover.errors import HostError
from drover.lab.programs import lab_program

MODULES = ("virtio_pci", "virtio_blk", "virtio_net", "button", "evdev")
# The key that makes the witness check its records, by its number in Linux: F12.
CHECK_KEY = 88
# For busybox acpid: event type, key, value (pressed), and the word that /etc/acpid.conf gives a script to.
_KEYS = f"EV_KEY 0x01 KEY_POWER 116 1 POWER\nEV_KEY 0x01 KEY_F12 {CHECK_KEY} 1 CHECK\n"
_EMPTY_FOLDERS = ("bin", "data", "dev", "etc", "etc/acpi", "proc", "run", "sys", "tmp")
_REMEDY = "apt-get install linux-image-cloud-amd64 busybox-static"
_HERE = Path(__file__).parent


def ensure(boot: Path) -> str | None:
    """Puts `vmlinuz` and `initrd` into the folder `boot` unless they are there and as they should be."""
    kernel, modules = _kernel()
    initramfs = archive(_entries(modules))
    done = False
    for path, content in ((boot / "vmlinuz", kernel.read_bytes()), (boot / "initrd", initramfs)):
        if path.is_file() and path.read_bytes() == content:
            continue
        boot.mkdir(parents=True, exist_ok=True)
        # Renamed into place: a VM that boots at this moment sees the old or the new one.
        fresh = path.with_suffix(".new")
        fresh.write_bytes(content)
        fresh.replace(path)
        done = True
    return f"guest made of {kernel.name}, {len(initramfs) >> 10} KiB of initramfs" if done else None


def archive(entries: Iterator[tuple[str, int, bytes]]) -> bytes:
    """A cpio archive (format newc) of entries (path, mode, content), as the kernel unpacks it."""
    pieces = []
    for number, (name, mode, content) in enumerate([*entries, ("TRAILER!!!", 0, b"")], start=1):
        encoded = name.encode() + b"\0"
        links = 2 if mode & 0o040000 == 0o040000 else 1
        fields = (number, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
        header = b"070701" + b"".join(b"%08x" % field for field in fields)
        pieces.append(_padded(header + encoded) + _padded(content))
    return b"".join(pieces)


def _entries(modules: Path) -> Iterator[tuple[str, int, bytes]]:
    for folder in _EMPTY_FOLDERS:
        yield folder, 0o040755, b""
    busybox = shutil.which("busybox")
    if busybox is None:
        raise HostError("building the lab's guest: busybox is not installed", remedy=_REMEDY)
    yield "bin/busybox", 0o100755, Path(busybox).read_bytes()
    yield "bin/drover-witness", 0o100755, lab_program("drover-witness").read_bytes()
    yield "init", 0o100755, (_HERE / "init.sh").read_bytes()
    yield "etc/acpid.map", 0o100644, _KEYS.encode()
    yield "etc/acpid.conf", 0o100644, b"POWER power.sh\nCHECK check.sh\n"
    for name in ("power.sh", "check.sh"):
        yield f"etc/acpi/{name}", 0o100755, (_HERE / name).read_bytes()
    yield from _module_entries(modules)


def _module_entries(modules: Path) -> Iterator[tuple[str, int, bytes]]:
    """The wanted modules, what they depend on, and a modules.dep of just these."""
    needs: dict[str, list[str]] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        module, _, rest = line.partition(":")
        needs[module] = rest.split()
    paths = {Path(module).name.split(".")[0].replace("-", "_"): module for module in needs}
    wanted: dict[str, None] = {}
    for name in MODULES:
        # What is missing here is built into the kernel.
        if name in paths:
            wanted.update(dict.fromkeys([paths[name], *needs[paths[name]]]))
    root = f"lib/modules/{modules.name}"
    folders = {str(parent) for module in wanted for parent in Path(root, module).parents if str(parent) != "."}
    for folder in sorted(folders):
        yield folder, 0o040755, b""
    for module in wanted:
        yield f"{root}/{module}", 0o100644, (modules / module).read_bytes()
    listing = "".join(f"{module}: {' '.join(needs[module])}\n" for module in wanted)
    yield f"{root}/modules.dep", 0o100644, listing.encode()


def _kernel() -> tuple[Path, Path]:
    """The newest cloud kernel of this machine and the folder of its modules."""
    for kernel in sorted(Path("/boot").glob("vmlinuz-*-cloud-amd64"), key=os.path.getmtime, reverse=True):
        modules = Path("/lib/modules") / kernel.name.removeprefix("vmlinuz-")
        if (modules / "modules.dep").is_file():
            return kernel, modules
    raise HostError("building the lab's guest: /boot has no vmlinuz-*-cloud-amd64 with modules", remedy=_REMEDY)


def _padded(content: bytes) -> bytes:
    return content + b"\0" * (-len(content) % 4)
