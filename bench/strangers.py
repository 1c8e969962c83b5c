"""Strangers at the destination's port: a copy with and without 10,000 of their connections, and what they leave.

`python -m bench.strangers PORT PER_SECOND` is the strangers: a process of its own, which makes connections until its
input ends. Every other one is opened and says nothing; the rest say garbage and are gone.
"""

import collections
import contextlib
import itertools
import os
import random
import select
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import image
from bench.measure import run
from drover.engine.certificates import DESTINATION, issue
from drover.engine.client import EngineClient, file
from drover.engine.launcher import engine_binary

SIZE = 8 << 30
LINE_SIZE = 1 << 30
LINE_RATE = 100_000_000
"""Bytes/s that the engine is told to keep to: the copy is then limited by its line, as most are."""
STRANGERS = 10_000
RUNS = 3
_HELD = 4_000
"""Silent connections that the strangers hold at most; their system does not let them have more files."""


@dataclass(frozen=True)
class Crowded:
    """Medians of some rounds. Seconds of a copy; bytes of the destination's memory just after it, and files then."""

    alone: float
    crowded: float
    strangers: int
    memory_alone: int
    memory_crowded: int
    files_alone: int
    files_crowded: int


def measure(folder: Path) -> dict[str, Crowded]:
    """As fast as the machine can, and over a line of 100 MB/s."""
    fast, line = folder / "source.img", folder / "line.img"
    image.make(fast, SIZE)
    image.make_incompressible(line, LINE_SIZE)
    return {
        f"{SIZE >> 30} GiB, as fast as two cores can": _crowded(folder, fast, None),
        f"{LINE_SIZE >> 30} GiB of noise over a line of {LINE_RATE / 1e6:.0f} MB/s": _crowded(folder, line, LINE_RATE),
    }


def _crowded(folder: Path, source: Path, rate: int | None) -> Crowded:
    """Copies in turn without strangers and with so many a second that 10,000 come in the time of the first copy."""
    rounds = []
    for turn in range(RUNS):
        alone, memory, files, _ = _copy(folder, source, rate, 0)
        crowded, memory_then, files_then, came = _copy(folder, source, rate, STRANGERS / alone)
        rounds.append((alone, crowded, came, memory, memory_then, files, files_then))
        print(f"  {turn + 1}/{RUNS}: {alone:.2f} s alone, {crowded:.2f} s with {came} strangers", flush=True)
    seconds, rest = [list(zip(*rounds, strict=True))[part] for part in (slice(0, 2), slice(2, None))]
    return Crowded(
        *(statistics.median(column) for column in seconds), *(int(statistics.median(column)) for column in rest)
    )


def describe(found: dict[str, Crowded]) -> str:
    """The section of RESULTS.md."""
    mib = 1 << 20
    lines = [
        f"From a file to a file on the same machine over loopback, eight connections; medians of {RUNS} rounds. The",
        "strangers share the machine's two cores, so that what they cost themselves is counted as well: where the",
        "processor is what limits the copy, they take their share of it.",
        "",
        "| | alone s | with strangers s | ÷ alone (goal ≤ 1.05) | strangers | memory, MiB | open files |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, case in found.items():
        ratio = case.crowded / case.alone
        words = f"{ratio:.2f}" if ratio <= 1.05 else f"**{ratio:.2f}, NOT met**"
        memory = f"{case.memory_alone / mib:.0f} → {case.memory_crowded / mib:.0f}"
        files = f"{case.files_alone} → {case.files_crowded}"
        lines.append(
            f"| {name} | {case.alone:.2f} | {case.crowded:.2f} | {words} | {case.strangers} | {memory} | {files} |"
        )
    return "\n".join(lines)


def _copy(folder: Path, source: Path, rate: int | None, per_second: float) -> tuple[float, int, int, int]:
    """Seconds, the destination's bytes of memory and open files afterwards, and how many strangers came."""
    target = folder / "target.img"
    target.unlink(missing_ok=True)
    size = source.stat().st_size
    with contextlib.ExitStack() as stack:
        near, far = (stack.enter_context(_engine(folder / role)) for role in ("source", "destination"))
        credentials = issue("bench")
        port = far.listen("127.0.0.1:0", credentials[1], token=1).rpartition(":")[2]
        address = f"127.0.0.1:{port}"
        near.connect(address, credentials[0], server=DESTINATION, token=1, connections=8, compression="auto")
        far.put_vdisk("x", size=size, endpoint=file(str(target), create=True))
        near.put_vdisk("x", size=size, endpoint=file(str(source)))
        near.pace(background=None, link=rate)
        command = [sys.executable, "-m", "bench.strangers", port, str(per_second)]
        crowd = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        stack.callback(crowd.kill)
        begun = time.monotonic()
        near.background("x", "copy")
        while near.status().vdisks["x"].background.state != "done":
            time.sleep(0.02)
        seconds = time.monotonic() - begun
        came = int(crowd.communicate()[0])
        # What is lasting is there when the connections' ends have been seen.
        time.sleep(1)
        about = far.info()
        files = len(os.listdir(f"/proc/{about.pid}/fd"))  # noqa: PTH208 - only their number
        memory = about.memory_bytes
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", source, target)
    return seconds, memory, files, came


@contextlib.contextmanager
def _engine(home: Path) -> Iterator[EngineClient]:
    subprocess.run(["rm", "-rf", str(home)], check=True)
    home.mkdir()
    api = home / "engine.sock"
    command: list[str | Path] = [
        engine_binary(),
        "serve",
        "--api",
        api,
        "--state",
        home / "state",
        "--log",
        home / "log",
    ]
    process = subprocess.Popen(command)
    try:
        while not api.exists():
            time.sleep(0.02)
        yield EngineClient(home.name, api)
    finally:
        process.terminate()
        process.wait()


def _be_strangers(port: int, per_second: float) -> int:
    """Makes connections at this rate until standard input ends; returns how many."""
    held: collections.deque[socket.socket] = collections.deque()
    begun = time.monotonic()
    for number in itertools.count(1):
        while (late := (time.monotonic() - begun) * per_second - number) < 0 or number % 50 == 0:
            if select.select([sys.stdin], [], [], 0.005 if late < 0 else 0)[0]:
                return number - 1
            if late >= 0:
                break
        with contextlib.suppress(OSError):
            stranger = socket.create_connection(("127.0.0.1", port))
            if number % 2:
                stranger.sendall(random.randbytes(random.randint(1, 3000)))
                stranger.close()
            else:
                held.append(stranger)
        if len(held) > _HELD:
            held.popleft().close()
    raise AssertionError("itertools.count() ended")


if __name__ == "__main__":
    print(_be_strangers(int(sys.argv[1]), float(sys.argv[2])))
