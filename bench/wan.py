"""Copies over emulated lines: a slow one with a mix like real VDISKs, and a fast, long one that loses packets."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench import copiers, image, stream
from bench.copiers import Task
from bench.loopback import NBDCOPY, NBDCOPY_TLS, OURS, Copies
from bench.measure import Sample, run
from bench.places import Place, line
from bench.rounds import Copier, take_turns
from bench.servers import free_port

MIX_SIZE = 1 << 30
MIX_RATE = 25e6
"""Bytes/s: 200 Mbit/s."""
MIX_ROUND_TRIP = 0.04
LOSSY_SIZE = 512 << 20
LOSSY_RATES = (125e6, 37.5e6)
"""Bytes/s: 1 Gbit/s, or 300 Mbit/s where the emulator does not carry that."""
LOSSY_ROUND_TRIP = 0.08
LOSS = 0.001
QUICK_SIZE = 64 << 20
PATIENCE = 90.0
"""Seconds after which a copier is ended."""
CUBIC_PATIENCE = 20.0
"""Seconds in which a single stream shows what it can do."""
CARRIED = 0.85
"""Share of a rate that the emulator must carry before it is used."""
STREAMS = (1, 4, 8, 16)
"""How many at once show what a line gives."""
STREAM_RUNS = 2

COMPRESSING = "rsync -z over ssh"
CUBIC = "one TCP stream, CUBIC"
_PEERS = [
    Copier(NBDCOPY, copiers.nbdcopy),
    Copier(NBDCOPY_TLS, copiers.nbdcopy_tls),
    Copier("qemu-img convert -W", copiers.convert),
    Copier("QEMU mirror", copiers.mirror),
    Copier("rsync over ssh", copiers.rsync),
]


@dataclass(frozen=True)
class Line:
    """What was measured on one line: its rate in bytes/s, what the machine's sockets do on it by default, and the
    copies; `gives` is the payload in bytes/s that parallel streams got through, by their number; `carried` is what the
    emulator let through at the highest rate without delay and loss."""

    rate: float
    congestion: str
    copies: Copies
    gives: dict[int, float] = field(default_factory=dict)
    carried: float = 0.0


def measure_mix(folder: Path, *, quick: bool) -> Line:
    """The slow line with the mix."""
    size = QUICK_SIZE if quick else MIX_SIZE
    source = folder / "source.img"
    image.make(source, size)
    taking_part = [
        Copier(OURS, copiers.drover, 3),
        *_PEERS,
        Copier(COMPRESSING, _rsync_compressing, 2),
    ]
    with line(folder / "lab", rate=MIX_RATE, round_trip=MIX_ROUND_TRIP) as (route, _):
        task = Task(source, folder / "target.img", route, PATIENCE)
        return Line(MIX_RATE, _congestion(route.source), Copies(size, take_turns(taking_part, task)))


def measure_lossy(folder: Path, *, quick: bool) -> Line:
    """The long line with incompressible bytes, so that the line and not a compressor is measured."""
    size = QUICK_SIZE if quick else LOSSY_SIZE
    source, target = folder / "source.img", folder / "target.img"
    image.make_incompressible(source, size)
    with line(folder / "lab", rate=LOSSY_RATES[0], round_trip=0) as (route, link):
        task = Task(source, target, route, PATIENCE)
        carried = _payload(task, STREAMS[1], "bbr")
        rate = LOSSY_RATES[0] if carried >= CARRIED * LOSSY_RATES[0] else LOSSY_RATES[1]
        link.set(rate=rate, delay=LOSSY_ROUND_TRIP / 2, loss=LOSS)
        gives = {count: max(_payload(task, count, "bbr") for _ in range(STREAM_RUNS)) for count in STREAMS}
        taking_part = [
            Copier(OURS, copiers.drover, 3),
            Copier(CUBIC, _cubic),
            *_PEERS,
        ]
        copies = Copies(size, take_turns(taking_part, task))
        return Line(rate, _congestion(route.source), copies, gives, carried)


def _rsync_compressing(task: Task) -> Sample:
    return copiers.rsync(task, "--whole-file", "--compress")


def _cubic(task: Task) -> Sample:
    """One stream as a kernel with Linux's defaults sends it; ended early, its rate is what counts."""
    with _receiver(task.route.destination, task.target) as (pid, port):
        command = _sender(task, port, 1, "cubic")

        def work() -> None:
            run(*command, patience=min(CUBIC_PATIENCE, task.patience))

        return task.sample(work, pid)


def _payload(task: Task, streams: int, congestion: str) -> float:
    """Bytes/s of the file that so many streams get through, from the first handshake to the last acknowledgement."""
    with _receiver(task.route.destination, None) as (pid, port):
        command = _sender(task, port, streams, congestion)
        taken = task.sample(lambda: run(*command, patience=task.patience), pid)
    # Of those that are too slow, what was on the line: a little more than what came through.
    speed = (task.size if taken.finished else taken.sent) / taken.seconds
    print(f"  {streams} streams, {congestion}: {speed * 8 / 1e6:.0f} Mbit/s", flush=True)
    return speed


def _sender(task: Task, port: int, streams: int, congestion: str) -> list[str]:
    words = ["send", task.route.destination.address, str(port), str(task.source), str(streams), congestion]
    return task.route.source.enter(sys.executable, stream.__file__, *words)


@contextlib.contextmanager
def _receiver(place: Place, path: Path | None) -> Iterator[tuple[int, int]]:
    """The other end of the sender: its process and port."""
    port = free_port()
    words = ["receive", place.address, str(port), str(path or "-")]
    command = place.enter(sys.executable, stream.__file__, *words)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            if process.stdout.readline() != "listening\n":
                raise RuntimeError("the receiver of the TCP streams does not start")
            yield process.pid, port
        finally:
            process.kill()


def _congestion(place: Place) -> str:
    """The congestion control of sockets that ask for none."""
    return run(*place.enter("cat", "/proc/sys/net/ipv4/tcp_congestion_control")).strip()
