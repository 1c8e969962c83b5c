"""Turning epochs: seal, offer to the engine, wait until stored, release; or merge back if that fails."""

import time
from dataclasses import dataclass, field

from drover.engine.client import GONE, nbd
from drover.engine.status import EngineStatus
from drover.errors import EngineError
from drover.replicator.gate import SEAL_SECONDS, percentile
from drover.replicator.run import Run
from drover.replicator.speed import Capacity

_FAILURES = 5
"""Epochs that may fail one after the other before the administrator is asked."""
_SHORT = 5.0
"""Seconds; an epoch of at most this length is like the last one."""
_REMEMBERED = 20
"""Epochs whose sizes the gate looks back on."""


@dataclass
class Epochs:
    """The epochs of one run. At most one is open (sealed and not yet acknowledged) at a time."""

    run: Run
    open: int | None = None
    sealed_at: float = field(default_factory=time.monotonic)
    sizes: list[int] = field(default_factory=list)
    """Dirty bytes of the latest epochs."""
    size: int = 0
    seconds: float = 0.0
    """How long the latest epoch took from seal to acknowledgement."""
    _failures: int = 0
    _sealed_after: float = 0.0
    _long: bool = True
    _mixed: bool = False
    """What is recorded now was written partly before the VM's writes were slowed."""
    capacity: Capacity = field(default_factory=Capacity)

    def seal(self) -> int:
        """Seals the bitmap that records and offers it to the source's engine; its number."""
        facts, capture = self.run.facts, self.run.capture()
        number = facts.epoch
        capture.seal(number)
        self._sealed_after = time.monotonic() - self.sealed_at
        self.open, self.sealed_at = number, time.monotonic()
        facts.epoch = number + 1
        self.run.save()
        for vdisk, export in capture.export_epoch(number).items():
            endpoint = nbd(capture.socket, export)
            self.run.source.engine.epoch(vdisk, number, endpoint=endpoint, bitmap=f"drover-{number}")
        return number

    def settle(self, status: EngineStatus) -> bool:
        """Releases the open epoch if all of it is stored; true if it was. Raises EngineError if they keep failing."""
        if self.open is None:
            return False
        parts = [status.vdisks[name].epoch for name in self.run.vdisk_names]
        if failed := next((part.error for part in parts if part and part.state == "failed"), None):
            self._failures += 1
            if self._failures > _FAILURES:
                raise EngineError(f"epochs of {self.run.migration.spec.vm} fail again and again: {failed}")
            self.run.say(f"epoch {self.open} failed and is merged into the next: {failed}")
            self.merge_back()
            return False
        if not all(part and part.number == self.open and part.state == "acknowledged" for part in parts):
            return False
        self._remember(sum(part.dirty_bytes for part in parts if part), max(part.seconds for part in parts if part))
        self.run.capture().release(self.open)
        self.open = None
        self._failures = 0
        self.run.facts.epochs_done += 1
        self.run.save()
        return True

    def merge_back(self) -> None:
        """Gives up the open epoch; its writes are in the next. Raises PlatformError if QEMU is gone."""
        if self.open is not None:
            self.run.capture().forget(self.open)
            self.open = None

    def forget_sizes(self) -> None:
        """The VM writes otherwise from now on: what its epochs held says nothing of those to come."""
        self.sizes, self._mixed = [], True

    @property
    def expected(self) -> int:
        """Bytes that the next epoch holds at the p95 of the latest."""
        return percentile(self.sizes, 0.95)

    def _remember(self, size: int, seconds: float) -> None:
        self.size, self.seconds = size, seconds
        self.run.tally.epoch(size, seconds)
        self.capacity.saw_epoch(size, seconds, SEAL_SECONDS)
        if self._mixed:
            self._mixed = False
            return
        # One that was sealed after a long background says little of the short ones that a cutover sees.
        long, self._long = self._long, self._sealed_after > _SHORT
        if self._long <= long:
            kept = self.sizes[-_REMEMBERED + 1 :] if self._long == long else []
            self.sizes = [*kept, size]


def is_gone(error: EngineError) -> bool:
    """Whether an engine died, rather than refused."""
    return error.code == GONE
