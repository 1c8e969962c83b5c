"""Rates: what a migration did lately, and what the link between the sites carries."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


class Meter:
    """Bytes per second over the last `window` seconds of a growing total. `clock` gives monotonic seconds."""

    def __init__(self, window: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._window = window
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, total: int) -> None:
        """Notes the total now. A total that shrank (a new engine counts from 0) starts the window anew."""
        now = self._clock()
        if self._samples and total < self._samples[-1][1]:
            self._samples.clear()
        self._samples.append((now, total))
        while len(self._samples) > 2 and self._samples[0][0] < now - self._window:
            self._samples.popleft()

    @property
    def rate(self) -> float:
        if len(self._samples) < 2:
            return 0.0
        (start, before), (end, after) = self._samples[0], self._samples[-1]
        return (after - before) / (end - start) if end > start else 0.0


class Amplification:
    """Bytes that a VM dirties, in blocks of the bitmap, for each byte that it writes.

    A block that is written again is dirty already: the longer an epoch, the less its size says of short ones. So each
    epoch counts with the most that was seen in it, which is its beginning, and of the last two epochs the higher.
    """

    def __init__(self) -> None:
        self._epoch: int | None = None
        self._first = (0, 0)
        self._before = self._now = 0.0

    def add(self, epoch: int, dirty: int, written: int) -> None:
        """Notes the bytes that the epoch that is recorded holds, and the total that the VM has written."""
        if epoch != self._epoch or written < self._first[1]:
            # What it holds at first sight was written nobody knows when: an earlier run, an epoch merged back.
            self._epoch, self._first = epoch, (dirty, written)
            self._before, self._now = self._now or self._before, 0.0
        grown, bytes_written = dirty - self._first[0], written - self._first[1]
        if bytes_written >= _TELLING_WRITES:
            self._now = max(self._now, grown / bytes_written)

    @property
    def factor(self) -> float:
        return max(self._before, self._now)


@dataclass(frozen=True, kw_only=True)
class Writes:
    """What a VM writes: bytes/s in all and to its busiest VDISK, requests/s in all."""

    rate: float = 0.0
    busiest: float = 0.0
    requests: float = 0.0


class Capacity:
    """What the link carries, learnt only while it was busy: an idle link says nothing. Bytes/s; 0 is unknown."""

    def __init__(self) -> None:
        self.rate = 0.0

    def limited(self, before: int | None, now: int | None) -> None:
        """Its limit changed, bytes/s or None: what was seen at a lower one says nothing of what it carries now."""
        if before is not None and (now is None or now > before) and self.rate > _AT_THE_LIMIT * before:
            self.rate = 0.0

    def saw_background(self, rate: float) -> None:
        """Background replication went at `rate`; what limited it may also be the disks, so only more counts."""
        self.rate = max(self.rate, rate)

    def saw_epoch(self, size: int, seconds: float, overhead: float) -> None:
        """An epoch of `size` bytes took `seconds`, of which `overhead` do not depend on its size."""
        observed = size / max(seconds - overhead, 0.01)
        slower = self.rate and seconds > overhead + 1.2 * size / self.rate
        faster = observed > self.rate and size >= _TELLING and seconds > 2 * overhead
        if slower or faster:
            self.rate = (self.rate + observed) / 2 if self.rate else observed
        elif self.rate and size >= _PROOF:
            # What arrived did so in all of its time, whatever was believed: one that waited for a bad sector, say.
            self.rate = max(self.rate, (self.rate + size / max(seconds, 0.01)) / 2)


_AT_THE_LIMIT = 0.7
"""Share of a limit above which that, and not the link, is what was seen."""
_TELLING = 8 << 20
"""Bytes from which on an epoch's time says something about a fast link."""
_PROOF = 1 << 20
"""Bytes from which on an epoch is no mere burst: the link carries at least its size in its time."""
_TELLING_WRITES = 256 << 10
"""Bytes written from which on it can be said what they dirtied."""
