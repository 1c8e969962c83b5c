"""Memory of each engine at its highest, and the journal on the disk, for a small and a large VDISK."""

import re
from dataclasses import dataclass
from pathlib import Path

from bench.epoch import BLOCKS, QUICK_BLOCKS, vdisk

SIZES = (64 << 30, 1 << 40)
DATA = 2 << 30
"""Bytes of each VDISK that are no holes: 1 MiB in each 512 MiB of the largest, so that no table of it stays sparse."""
QUICK_DATA = 256 << 20
CONNECTIONS = 16


@dataclass(frozen=True)
class Peak:
    """Bytes of one engine's memory at its highest since it started: after the background copy, after an epoch too; and
    of its journal on the disk after the former, for each byte of the VDISK that is no hole."""

    background: int
    epoch: int
    journal_share: float


def measure(folder: Path, *, quick: bool) -> dict[tuple[int, str], Peak]:
    """The peaks by size of the VDISK and role. The engines are new for each size."""
    found = {}
    data = QUICK_DATA if quick else DATA
    for size in SIZES:
        with vdisk(folder, size=size, data=data, connections=CONNECTIONS) as one:
            one.copy()
            background = [highest(pid) for pid in one.pair.pids]
            journals = [_stored(state) for state in one.pair.states]
            one.write(QUICK_BLOCKS if quick else BLOCKS, spread=True, seed=1)
            one.epoch()
            epoch = [highest(pid) for pid in one.pair.pids]
        for number, role in enumerate(("source", "destination")):
            found[size, role] = peak = Peak(background[number], epoch[number], journals[number] / data)
            print(f"  {size >> 30} GiB, {role}: {peak}", flush=True)
    return found


def highest(pid: int) -> int:
    """Peak resident bytes of a process."""
    kib = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    if kib is None:
        raise RuntimeError(f"the kernel does not say how much memory process {pid} had")
    return int(kib.group(1)) << 10


def _stored(folder: Path) -> int:
    """Bytes on the disk of all files below the folder."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
