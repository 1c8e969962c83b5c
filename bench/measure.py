"""Measuring: seconds by the clock, processor seconds of every process involved, bytes on the link; medians."""

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
    """One run: seconds by the clock, and processor seconds of all processes that took part, servers too.

    `sent` and `returned` are bytes of IP packets from the source's side and to it, 0 where there is no link to count
    on. One that did not finish was ended after `seconds`.
    """

    seconds: float
    cpu_seconds: float
    sent: float = 0.0
    returned: float = 0.0
    finished: bool = True


@dataclass(frozen=True)
class Failure:
    """A run that gave no figure, and why."""

    reason: str


class TooSlowError(Exception):
    """The work was ended because it took longer than it may."""


def cpu_of(pids: Iterable[int]) -> float:
    """Processor seconds, user and system, that these living processes and their reaped children have used."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, fields[11:15]))
    return total / _TICKS


def sample(
    work: Callable[[], object], servers: Iterable[int], carried: Callable[[], tuple[int, int]] = lambda: (0, 0)
) -> Sample:
    """Runs `work` once; counts the children that it reaps and the servers, which live on, and what the link carried."""
    pids = list(servers)
    before, children, link = cpu_of(pids), os.times(), carried()
    begun = time.monotonic()
    try:
        work()
        finished = True
    except TooSlowError:
        finished = False
    seconds = time.monotonic() - begun
    after, linked = os.times(), carried()
    spent = (after.children_user - children.children_user) + (after.children_system - children.children_system)
    cpu_seconds = spent + cpu_of(pids) - before
    return Sample(seconds, cpu_seconds, linked[0] - link[0], linked[1] - link[1], finished)


def median(samples: list[Sample]) -> Sample:
    """Of each figure the median; finished if all are."""
    return Sample(
        statistics.median(one.seconds for one in samples),
        statistics.median(one.cpu_seconds for one in samples),
        statistics.median(one.sent for one in samples),
        statistics.median(one.returned for one in samples),
        all(one.finished for one in samples),
    )


def run(*command: str | Path, patience: float | None = None) -> str:
    """Runs a command; what it said. Raises RuntimeError if it fails, TooSlowError after `patience` seconds."""
    try:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=patience)
    except subprocess.TimeoutExpired as error:
        raise TooSlowError from error
    if done.returncode != 0:
        said = done.stderr.strip() or f"status {done.returncode}, without a word"
        raise RuntimeError(f"{command[0]} failed: {said}")
    return done.stdout


def wait(what: str, check: Callable[[], bool], patience: float, pause: float = 0.02) -> None:
    """Until `check` holds. Raises TooSlowError after `patience` seconds."""
    deadline = time.monotonic() + patience
    while not check():
        if time.monotonic() > deadline:
            raise TooSlowError(f"waited {patience:g} s in vain for {what}")
        time.sleep(pause)


def sync(path: Path) -> None:
    """The file's data is on the disk."""
    handle = os.open(path, os.O_RDWR)
    os.fdatasync(handle)
    os.close(handle)
