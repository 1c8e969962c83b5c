"""One epoch of blocks spread at random over a large VDISK, against one of as many bytes in one piece."""

import contextlib
import random
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import image
from bench.copiers import await_background
from bench.equal import are_equal
from bench.measure import TooSlowError, cpu_of, run, sync, wait
from bench.places import loopback
from bench.servers import EXPORT, Engines, Storage, engines, storage
from drover.engine.client import file, nbd

SIZE = 1 << 40
BLOCK = 64 << 10
BLOCKS = 10_000
QUICK_BLOCKS = 1_000
ROUNDS = 3
PATIENCE = 120.0
FIRST_DATA = 64 << 20
"""Bytes of the source that background replication finds: the VDISK is all but empty."""


@dataclass(frozen=True)
class Epoch:
    """Seconds from the sealing to the acknowledgement, processor seconds of both engines and the NBD server, and frame
    bytes that the source's engine put on the link."""

    seconds: float
    cpu_seconds: float
    wire_bytes: float


@dataclass(frozen=True)
class Epochs:
    """Medians: blocks at random places, and the same bytes in one piece."""

    blocks: int
    spread: Epoch
    whole: Epoch


class Vdisk:
    """A VDISK in a storage daemon, its copy, and the bitmaps between them."""

    def __init__(self, source: Path, target: Path, server: Storage, pair: Engines) -> None:
        self.size = source.stat().st_size
        self._source, self.target = source, target
        self._server, self.pair, self._qmp = server, pair, server.qmp
        self._number = 0
        self._uri = f"nbd+unix:///{EXPORT}?socket={server.socket}"
        self._qmp("block-dirty-bitmap-add", node="node", name="drover-0", granularity=BLOCK)

    def copy(self) -> None:
        """Background replication, to its end."""
        size = self.size
        self.pair.far.put_vdisk(EXPORT, size=size, endpoint=file(str(self.target), create=True))
        self.pair.near.put_vdisk(EXPORT, size=size, endpoint=nbd(str(self._server.socket), EXPORT))
        self.pair.near.background(EXPORT, "copy")
        await_background(self.pair.near, PATIENCE)

    def write(self, blocks: int, *, spread: bool, seed: int) -> None:
        """A guest's writes: incompressible, all over the VDISK, or in one piece at a place of its own."""
        where = ["--rw=randwrite", f"--size={self.size}"]
        if not spread:
            offset = random.Random(seed).randrange((self.size - blocks * BLOCK) // BLOCK) * BLOCK
            where = ["--rw=write", f"--offset={offset}", f"--size={blocks * BLOCK}"]
        run(
            "fio", "--name=guest", "--ioengine=nbd", f"--uri={self._uri}", f"--bs={BLOCK}", "--iodepth=16", *where,
            f"--io_size={blocks * BLOCK}", "--refill_buffers", "--randrepeat=0", f"--randseed={seed}",
            "--output-format=terse",
        )  # fmt: skip
        # Or the destination's sync would wait for this.
        sync(self._source)

    def epoch(self) -> Epoch:
        """Seals, has it sent and stored, and releases. Raises RuntimeError if the engine fails it."""
        pids = [self._server.pid, *self.pair.pids]
        cpu, wire = cpu_of(pids), self.pair.near.status().link.sent_bytes
        number, begun = self._number, time.monotonic()
        export = f"epoch-{number}"
        self._qmp("transaction", actions=[
            {"type": "block-dirty-bitmap-add",
             "data": {"node": "node", "name": f"drover-{number + 1}", "granularity": BLOCK}},
            {"type": "block-dirty-bitmap-disable", "data": {"node": "node", "name": f"drover-{number}"}},
        ])  # fmt: skip
        bitmaps = [f"drover-{number}"]
        self._qmp("block-export-add", **{
            "type": "nbd", "id": export, "node-name": "node", "name": export, "bitmaps": bitmaps,
        })  # fmt: skip
        self.pair.near.epoch(EXPORT, number, endpoint=nbd(str(self._server.socket), export), bitmap=bitmaps[0])
        self._await(number)
        seconds = time.monotonic() - begun
        found = Epoch(seconds, cpu_of(pids) - cpu, self.pair.near.status().link.sent_bytes - wire)
        self._qmp("block-export-del", id=export, mode="hard")
        wait("the end of the export", lambda: all(one["id"] != export for one in self._qmp("query-block-exports")), 30)
        self._qmp("block-dirty-bitmap-remove", node="node", name=bitmaps[0])
        self._number += 1
        return found

    def _await(self, number: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            epoch = self.pair.near.status().vdisks[EXPORT].epoch
            if epoch and epoch.number == number and epoch.state == "acknowledged":
                return
            if epoch and epoch.state == "failed":
                raise RuntimeError(f"the epoch failed: {epoch.error}")
            if time.monotonic() > deadline:
                raise TooSlowError(f"the epoch was not acknowledged after {PATIENCE:g} s")
            time.sleep(0.005)


@contextlib.contextmanager
def vdisk(folder: Path, *, size: int, data: int, connections: int = 8) -> Iterator[Vdisk]:
    """A VDISK of `size` bytes, `data` of them written, in front of two joined engines; nothing is copied yet."""
    source, target, route = folder / "source.img", folder / "target.img", loopback()
    for stale in (source, target):
        stale.unlink(missing_ok=True)
    image.make_spread(source, size, data)
    with (
        storage(route.source, source, writable=True, unix=True) as server,
        engines(route, folder, connections=connections) as pair,
    ):
        yield Vdisk(source, target, server, pair)


def measure(folder: Path, *, quick: bool) -> Epochs:
    """Both kinds of epoch in turns; at the end the copy is compared with the source."""
    blocks = QUICK_BLOCKS if quick else BLOCKS
    taken: dict[bool, list[Epoch]] = {True: [], False: []}
    with vdisk(folder, size=SIZE, data=FIRST_DATA) as one:
        begun = time.monotonic()
        one.copy()
        print(f"  background of {SIZE >> 40} TiB, all but empty: {time.monotonic() - begun:.2f} s", flush=True)
        for turn in range(ROUNDS):
            for spread in (True, False) if turn % 2 else (False, True):
                one.write(blocks, spread=spread, seed=2 * turn + spread)
                taken[spread].append(one.epoch())
                print(f"  {turn + 1}/{ROUNDS} {'spread' if spread else 'whole'}: {taken[spread][-1]}", flush=True)
    if not are_equal(folder / "source.img", folder / "target.img"):
        raise RuntimeError("the copy differs from the source after the epochs")
    return Epochs(blocks, _median(taken[True]), _median(taken[False]))


def _median(taken: list[Epoch]) -> Epoch:
    return Epoch(
        statistics.median(one.seconds for one in taken),
        statistics.median(one.cpu_seconds for one in taken),
        statistics.median(one.wire_bytes for one in taken),
    )
