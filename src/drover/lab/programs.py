"""Where the lab finds the programs that it runs: its own two in Rust, and those of the machine."""

import os
import shutil
from pathlib import Path

from drover.errors import HostError

BUILT_WITH = "build it with `make build` in a checkout of Drover"

# Command of the machine -> Debian package that brings it.
MACHINE_PROGRAMS = {
    "busybox": "busybox-static",
    "ip": "iproute2",
    "libvirtd": "libvirt-daemon-system",
    "mke2fs": "e2fsprogs",
    "mount": "mount",
    "nsenter": "util-linux",
    "qemu-img": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "setsid": "util-linux",
    "unshare": "util-linux",
}


def lab_program(name: str) -> Path:
    """The lab's own program `name`: as shipped beside this module, else as cargo built it in a checkout.

    Raises HostError when it is in neither place.
    """
    here = Path(__file__).resolve().parent
    target = here.parents[2] / "lab" / "target"
    candidates = (
        here / "bin" / name,
        target / "x86_64-unknown-linux-gnu" / "release" / name,
        target / "x86_64-unknown-linux-musl" / "release" / name,
        target / "release" / name,
    )
    for candidate in candidates:
        if os.access(candidate, os.X_OK) and candidate.is_file():
            return candidate
    raise HostError(f"looking for the lab's program {name}: it is not in {here / 'bin'}", remedy=BUILT_WITH)


def require_root() -> None:
    """Raises HostError unless this is root."""
    if os.geteuid() != 0:
        raise HostError(
            "the lab makes mounts, network namespaces and virtual machines, which only root may do",
            remedy="run the same command with sudo",
        )


def require_machine() -> None:
    """Raises HostError unless this is root on a machine that has everything a lab needs."""
    require_root()
    missing = {package for program, package in MACHINE_PROGRAMS.items() if shutil.which(program) is None}
    if missing:
        names = " ".join(sorted(missing))
        raise HostError(f"the lab needs programs that are not installed: {names}", remedy=f"apt-get install {names}")
