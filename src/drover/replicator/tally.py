"""Adds up what a migration moves and what it costs the VM, look by look. No I/O, no clock of its own."""

from collections.abc import Iterable

from drover.engine.status import Sent
from drover.model.totals import Seen, Totals
from drover.replicator.events import Progress

_LONGEST_LOOK = 5.0
"""Seconds between two looks that are believed to have been alike; a process that stood still has no say."""
_COUNTERS = tuple(Seen.model_fields)


class Tally:
    """The totals of a migration, which go on from run to run."""

    def __init__(self, totals: Totals) -> None:
        self._totals = totals
        self._looked_at: float | None = None

    def sent(self, vdisks: Iterable[Sent]) -> None:
        """What the source's engine has counted of all VDISKs until now."""
        parts = list(vdisks)
        before, totals = self._totals.seen, self._totals
        now = Seen(**{name: sum(getattr(part, name) for part in parts) for name in _COUNTERS})
        new = {name: _more(getattr(before, name), getattr(now, name)) for name in _COUNTERS}
        totals.foreground_bytes += new["foreground_bytes"]
        totals.background_bytes += max(new["raw_bytes"] - new["foreground_bytes"], 0)
        totals.zero_bytes += new["zero_bytes"]
        totals.skipped_bytes += new["skipped_bytes"]
        totals.resent_bytes += new["resent_bytes"]
        totals.seen = now

    def epoch(self, size: int, seconds: float) -> None:
        """One more epoch is stored at the destination."""
        totals = self._totals
        totals.epoch_bytes += size
        totals.largest_epoch_bytes = max(totals.largest_epoch_bytes, size)
        totals.epoch_seconds += seconds
        totals.longest_epoch_seconds = max(totals.longest_epoch_seconds, seconds)

    def look(self, progress: Progress, now: float, *, held_back: bool) -> None:
        """How it goes; `now` is seconds of any clock that only grows."""
        totals = self._totals
        passed = 0.0 if self._looked_at is None else min(now - self._looked_at, _LONGEST_LOOK)
        self._looked_at = now
        totals.peak_wire_rate = max(totals.peak_wire_rate, progress.wire_rate)
        if not progress.link.startswith("up"):
            totals.link_lost_seconds += passed
        if held_back:
            totals.held_back_seconds += passed
        if (slowed := progress.slowed) is not None:
            totals.slowed_seconds += passed
            totals.slowed_bytes += passed * slowed.bytes_per_second
            totals.lowest_write_limit = min(totals.lowest_write_limit or slowed.limit, slowed.limit)


def _more(before: int, now: int) -> int:
    return now - before if now >= before else now
