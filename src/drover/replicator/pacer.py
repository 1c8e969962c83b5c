"""How fast background replication may go while the VM's latency keeps to its budget. No I/O, no clock of its own.

A controller in the manner of TCP CUBIC (RFC 9438): the rate doubles until the p99 first exceeds the budget. Then it is
cut, the more the farther the p99 is over the budget, and grows back as a cubic function of time: fast at first, flat
near the rate that was too much, faster again beyond it. Latency takes the place of loss.

What the budget is measured against is the p99 while the background pauses. Pauses come before the first byte, once a
minute, and when two cuts in a row did not help: if the p99 stays high in such a pause it is the VM's own work that
became heavier. It is then the new baseline, and the rate goes back to what it was before the cuts.
"""

from dataclasses import dataclass, field
from enum import Enum, auto

from drover.model.latency import Latencies, LatencyBudget

FLOOR = 1 << 20
"""Bytes/s that the background never goes below: replication must end even where the budget cannot be kept."""
PAUSE = 1
"""Bytes/s: the least that an engine takes, which in seconds of pausing is nothing."""
_CUTS = (0.5, 0.9)
"""The share of the rate that a cut leaves is that of the excess that is allowed, but between these."""
_REGAIN = 12.0
"""Seconds of growth from a cut to the rate that was too much (K of the RFC)."""
_SHY = 0.75
"""Share of the budget's room above which the rate stays as it is."""
_SETTLE = 0.5
"""Seconds after a change of the rate in which latencies still are those of the old one."""
_WINDOW = (2.0, 6.0)
"""Seconds to look for before a verdict: at least, and at most for want of requests."""
_BASELINE_WINDOW = (2.5, 8.0)
_ENOUGH = 500
"""Requests that make a p99 worth a verdict before the longest window is over."""
_ALIKE = 1.4
"""Baselines that differ by less are taken together: the p99 of some hundred requests is off by chance."""
_FEW = 20
"""With fewer in a whole window the VM is quiet, and no latency of it needs protection."""
_REFRESH = 60.0
"""Seconds between two pauses that measure the baseline."""
_ACCUSED = 2
"""Cuts in a row after which it is asked whether the background is to blame at all."""
_PATIENCE = 10.0
"""Seconds between two pauses at least."""


class Phase(Enum):
    """What the background does now."""

    PAUSING = auto()
    GOING = auto()


@dataclass
class Pacer:
    """Turns looks at a VM's latency into the background's rate. Rates are bytes/s, times seconds."""

    budget: LatencyBudget
    ceiling: float = float("inf")
    """What the administrator's bandwidth allows; the floor is never above it."""
    rate: float = field(init=False)
    """What the background may do when it does not pause."""
    phase: Phase = Phase.PAUSING
    baseline: float | None = None
    """p99 without background replication; None until it is known."""
    p99: float | None = None
    """The latest with background replication."""
    binding: bool = True
    """Whether the rate, rather than link or disks, is what holds the background down."""
    _too_much: float | None = None
    """The rate that last was over the budget."""
    _before_cuts: float = 0.0
    _cuts: int = 0
    _depth: float = 0.0
    """Share of the rate that the last cut took."""
    _growing: float = 0.0
    """Seconds of growth since the last cut."""
    _paused_at: float = -_PATIENCE
    _begun: float | None = None
    """When the window that is looked at now begins, once what was changed has settled."""
    _first: tuple[float, Latencies, int] | None = None

    def __post_init__(self) -> None:
        self.rate = self._floor

    @property
    def limit(self) -> float | None:
        """Seconds that the p99 may reach; None until the baseline is known."""
        return None if self.baseline is None else self.budget.limit(self.baseline)

    @property
    def allowed(self) -> int:
        """Bytes/s that the background may do now."""
        return PAUSE if self.phase is Phase.PAUSING else int(self.rate)

    def look(self, now: float, total: Latencies, sent: int) -> int:
        """Bytes/s for the background from now on; `total` and `sent` (bytes on the wire) only ever grow."""
        if self._begun is None:
            self._begun = now + _SETTLE
        if self._first is None:
            if now >= self._begun:
                self._first = now, total, sent
            return self.allowed
        began, before, sent_before = self._first
        window, seconds = total.since(before), now - began
        shortest, longest = _BASELINE_WINDOW if self.phase is Phase.PAUSING else _WINDOW
        if seconds < shortest or (window.requests < _ENOUGH and seconds < longest):
            return self.allowed
        self._first = now, total, sent
        if self.phase is Phase.PAUSING:
            self._end_pause(now, window)
        else:
            self._judge(now, window, seconds, max(sent - sent_before, 0) / seconds)
        return self.allowed

    def restart(self) -> None:
        """The totals begin anew: another engine, another hypervisor process, other kinds of requests."""
        self._begun = self._first = None

    @property
    def _floor(self) -> float:
        return min(FLOOR, self.ceiling)

    def _end_pause(self, now: float, window: Latencies) -> None:
        if window.requests >= _FEW:
            measured, known = window.figure, self.baseline or 0.0
            alike = known / _ALIKE < measured < known * _ALIKE
            self.baseline = (known + measured) / 2 if alike else measured
        self._paused_at = now
        self.phase = Phase.GOING
        self.restart()
        limit = self.limit
        if self._cuts >= _ACCUSED and limit is not None and self.p99 is not None and self.p99 <= limit:
            self.rate = self._before_cuts
            self._too_much = None
        self._cuts = 0

    def _judge(self, now: float, window: Latencies, seconds: float, achieved: float) -> None:
        quiet = window.requests < _FEW
        self.binding = achieved >= self.rate / 2
        self.p99 = None if quiet else window.figure
        since_pause = now - self._paused_at
        if (not quiet and self.baseline is None) or since_pause >= _REFRESH:
            self._pause()
        elif self.p99 is None or self.limit is None or self.baseline is None:
            self._grow(seconds)
        elif self.p99 > self.limit:
            self._cut((self.limit - self.baseline) / (self.p99 - self.baseline), achieved)
            if self._cuts >= _ACCUSED and since_pause >= _PATIENCE:
                self._pause()
        else:
            self._cuts = 0
            if self.p99 <= self.baseline + _SHY * (self.limit - self.baseline):
                self._grow(seconds)

    def _pause(self) -> None:
        self.phase = Phase.PAUSING
        self.restart()

    def _cut(self, share: float, achieved: float) -> None:
        if not self._cuts:
            self._before_cuts = self.rate
        self._cuts += 1
        self._too_much = max(min(self.rate, achieved), self._floor)
        self._depth = 1 - min(max(share, _CUTS[0]), _CUTS[1])
        self.rate = max(self._floor, (1 - self._depth) * self._too_much)
        self._growing = 0.0
        self.restart()

    def _grow(self, seconds: float) -> None:
        # A rate that something else holds down says nothing of what a higher one would do.
        if not self.binding:
            return
        if self._too_much is None:
            grown = 2 * self.rate
        else:
            self._growing += seconds
            grown = self._too_much * (1 + self._depth * ((self._growing - _REGAIN) / _REGAIN) ** 3)
        self.rate = max(self._floor, min(self.ceiling, max(self.rate, min(grown, 2 * self.rate))))
