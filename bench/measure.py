"""Measuring: seconds by the clock, processor seconds of every process involved, medians and ratios."""

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Sample:
    """One run: seconds by the clock, and processor seconds of all processes that took part, servers too."""

    seconds: float
    cpu_seconds: float


def cpu_of(pids: Iterable[int]) -> float:
    """Processor seconds, user and system, that these living processes have used."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def sample(work: Callable[[], None], servers: Iterable[int]) -> Sample:
    """Runs `work` once; counts the children that it reaps and the servers, which live on."""
    pids = list(servers)
    before, children = cpu_of(pids), os.times()
    begun = time.monotonic()
    work()
    seconds = time.monotonic() - begun
    after = os.times()
    spent = (after.children_user - children.children_user) + (after.children_system - children.children_system)
    return Sample(seconds, spent + cpu_of(pids) - before)


def median(samples: list[Sample]) -> Sample:
    return Sample(
        statistics.median(one.seconds for one in samples), statistics.median(one.cpu_seconds for one in samples)
    )


def run(*command: str | Path) -> None:
    """Runs a command; raises with what it said if it fails."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {done.stderr.strip()}")
