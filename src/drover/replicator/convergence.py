"""Does replication overtake the VM's writes? The forecast, and how much slower the VM would have to write. No I/O.

While the background copies, link and disks carry background and foreground together, foreground first; what the VM's
writes leave must copy what is left in the target time, or else a tenth, so that it ends at all. When all is copied, an
epoch of D bytes is recorded while the one before travels: it takes T + D/C seconds on a link of C bytes/s, where T is
what an epoch takes of nothing. So epochs stay at the D that fits into the maximum downtime if the VM dirties
D / (T + D/C) bytes/s, which is always below C.
"""

from dataclasses import dataclass

from drover.model.units import format_rate

EPOCH_SECONDS = 1.5
"""What an epoch takes of nothing: its shortest length, sealing, and the loop that looks twice a second."""
_LEAST_BACKGROUND = 0.1
"""Share of the capacity that the background needs to get on, when no target time says how much."""
_MIDDLE = 0.9
"""Epochs differ, and the gate looks at the largest: the usual one must be smaller."""
_STEP_DOWN = 0.8
_STEP_UP = 1.25
"""A step never leaves less, nor gives more, than this share of the limit before."""
_SLACK = 1.15
"""A limit is loosened only when the VM could write this much more: not each breath of the link moves it."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What link, disks and VM do now. Sizes are bytes, rates bytes/s, times seconds."""

    copied: bool
    left: int = 0
    """What the background has still to cover."""
    background: float = 0.0
    """At which it covers the VDISKs."""
    foreground: float = 0.0
    """At which writes are sent."""
    time_left: float | None = None
    """Of the target time, if there is one."""
    held: str | None = None
    """What holds the background down that the VM's writes have no part in, if something does."""
    capacity: float = 1.0
    """At which epochs reach the destination."""
    dirty_rate: float = 0.0
    """At which the VM dirties blocks."""
    room: float | None = None
    """What the last epoch may hold at the maximum downtime; None while that is not the question yet."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`share` is what the VM may write of what it writes now: from 1 on all is well; 0: not even silence would help."""

    share: float
    reason: str | None = None
    """What cannot be met, if something cannot."""

    @property
    def curable(self) -> bool:
        """Whether slower writes would help."""
        return 0 < self.share < 1


FINE = Verdict(share=float("inf"))


def judge(load: Load) -> Verdict:
    """Whether background, or the epochs when all is copied, come to an end at today's write rate."""
    return _epochs(load) if load.copied else _copying(load)


def _copying(load: Load) -> Verdict:
    capacity = load.background + load.foreground
    if load.time_left is None:
        if load.held or load.background >= _LEAST_BACKGROUND * capacity or not load.foreground:
            return Verdict(share=_share((1 - _LEAST_BACKGROUND) * capacity, load.foreground))
        reason = f"replication does not converge: the VM's writes take {format_rate(load.foreground)} of the link"
        return Verdict(share=_share((1 - _LEAST_BACKGROUND) * capacity, load.foreground), reason=reason)
    needed = load.left / load.time_left if load.time_left > 0 else float("inf")
    if load.background >= needed:
        return Verdict(share=max(_share(capacity - needed, load.foreground), 1.0))
    reason = (
        f"the target time cannot be met: what is left needs {format_rate(needed)} "
        if load.time_left > 0
        else "the target time is over "
    )
    reason += f"and the background covers {format_rate(load.background)}"
    if load.held:
        return Verdict(share=0, reason=f"{reason}; {load.held}")
    if needed >= capacity:
        return Verdict(share=0, reason=f"{reason}, with no writes {format_rate(capacity)} at best")
    return Verdict(share=_share(capacity - needed, load.foreground), reason=reason)


def _epochs(load: Load) -> Verdict:
    if load.room is None:
        share = _share((1 - _LEAST_BACKGROUND) * load.capacity, load.dirty_rate)
        reason = f"epochs grow: the VM dirties {format_rate(load.dirty_rate)}, the link carries "
        return Verdict(share=share, reason=None if share >= 1 else reason + format_rate(load.capacity))
    if load.room <= 0:
        return Verdict(share=0, reason="the maximum downtime is less than what a cutover takes without any writes")
    bearable = _MIDDLE * load.room / (EPOCH_SECONDS + load.room / load.capacity)
    share = _share(bearable, load.dirty_rate)
    if share >= 1:
        return Verdict(share=share)
    reason = f"the maximum downtime cannot be met: the VM dirties {format_rate(load.dirty_rate)}"
    return Verdict(share=share, reason=f"{reason}, {format_rate(bearable)} would fit")


def _share(bearable: float, today: float) -> float:
    return max(bearable, 0.0) / today if today > 0 else float("inf")


def advise(verdict: Verdict, *, write_rate: float, leave: bool, floor: int, limit: int | None) -> str | None:
    """The prediction for the administrator, with what would help; None if all is well. Rates are bytes/s."""
    if verdict.reason is None:
        return None
    words = f"{verdict.reason} (at today's write rate of {format_rate(write_rate)})"
    if not verdict.curable:
        return f"{words}: slower writes would not help; allow more time"
    if not leave:
        return f"{words}: allow --write-backpressure, or more time, or wait until the VM writes less"
    if limit is not None and limit <= floor:
        return f"{words}: the VM is slowed to --write-floor {format_rate(floor)} already; lower it, or allow more time"
    return words


@dataclass
class WriteLimit:
    """The limit of each VDISK's writes, bytes/s, moved in small steps; None while the VM is free."""

    floor: int
    limit: int | None = None
    demand: float = 0.0
    """What the busiest VDISK was written at before it was slowed."""

    def step(self, busiest: float, verdict: Verdict) -> int | None:
        """The limit from now on; `busiest` is what the busiest VDISK is written at now."""
        if self.limit is None:
            if verdict.curable and busiest > self.floor:
                self.demand = busiest
                self.limit = self._down(busiest, verdict.share)
        elif verdict.curable:
            self.limit = self._down(min(self.limit, busiest), verdict.share)
        elif not verdict.share or verdict.share > _SLACK:
            # Where slower writes do not help, they are not kept slow either.
            self.limit = int(self.limit * (min(verdict.share, _STEP_UP) if verdict.share else _STEP_UP)) + 1
            if self.limit >= self.demand:
                self.limit = None
        return self.limit

    def _down(self, rate: float, share: float) -> int:
        return max(self.floor, int(rate * max(share, _STEP_DOWN)))
