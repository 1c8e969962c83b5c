"""What the figures were measured on."""

import os
import platform
import re
import subprocess
from pathlib import Path

_PROGRAMS = {
    "QEMU": ["qemu-system-x86_64", "--version"],
    "libvirt": ["libvirtd", "--version"],
    "nbdcopy": ["nbdcopy", "--version"],
    "nbdkit": ["nbdkit", "--version"],
    "rsync": ["rsync", "--version"],
    "fio": ["fio", "--version"],
    "Rust": ["rustc", "--version"],
}


def describe() -> dict[str, str]:
    """Processor, memory, kernel, and the versions of everything that takes part."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": processor(),
        "memory": f"{memory / (1 << 30):.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        **{name: _version(command) for name, command in _PROGRAMS.items()},
        "Python": platform.python_version(),
    }


def processor() -> str:
    """Its model and how many cores of it there are."""
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return f"{model.group(1) if model else platform.machine()}, {os.cpu_count()} cores"


def load() -> float:
    """Processes that wanted a core, as a mean over the last minute."""
    return os.getloadavg()[0]


def _version(command: list[str]) -> str:
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "not found"
    found = re.search(r"\d+(\.\d+)+", said)
    return found.group() if found else said.strip()
