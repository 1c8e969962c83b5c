"""What is to be put in order: jobs, which begin and cut over as one, and the world that they share. No I/O.

Times are Unix seconds, durations seconds, sizes bytes, rates bytes/s.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property

from drover.model.order import Pin
from drover.plans.course import used
from drover.plans.needs import Needs, Resource, add_up

NextWindow = Callable[[datetime, timedelta], datetime | None]
"""When a cutover of this length may begin at this time or later; None if never."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One VM: what is left to do of it."""

    vm: str
    fixed: float
    """What copying takes whatever the link carries: preparing, comparing."""
    wire: float
    """Bytes that have to travel."""
    cutover: float
    """From its stop at the source until all is tidied up."""
    rate: float = math.inf
    """At which it can use the link, at most."""
    needs: Needs = field(default_factory=Needs)

    def alone(self, link: float) -> float:
        """How long it copies if it has the link for itself."""
        return self.fixed + self.wire / min(self.rate, link)

    @property
    def copied(self) -> bool:
        """Whether nothing is left but its cutover."""
        return self.fixed <= 0 and self.wire <= 0


@dataclass(frozen=True)
class Job:
    """A batch of a plan: a group, or a VM that goes for itself."""

    name: str
    tasks: tuple[Task, ...]
    after: tuple[str, ...] = ()
    priority: int = 0
    pin: Pin | None = None
    next_window: NextWindow | None = None
    """Of its cutover; None: any time."""
    begun: float | None = None
    """When it began, if it has."""

    @cached_property
    def room(self) -> Counter[Resource]:
        """What it uses when it begins."""
        return add_up(used(task.needs, copied=task.copied) for task in self.tasks)

    @cached_property
    def cutover_room(self) -> Counter[Resource]:
        """What it uses while it cuts over."""
        return add_up(task.needs.cutover for task in self.tasks)

    @property
    def cutover(self) -> float:
        """How long its cutover takes: its VMs cut over together."""
        return max((task.cutover for task in self.tasks), default=0.0)

    def alone(self, link: float) -> float:
        """How long it takes with nothing beside it; its VMs share the link."""
        together = sum(task.wire for task in self.tasks) / link
        return max(together, max((task.alone(link) for task in self.tasks), default=0.0)) + self.cutover

    def opens(self, now: float) -> float | None:
        """When it may cut over, at `now` or later; None if never."""
        if self.next_window is None:
            return now
        found = self.next_window(datetime.fromtimestamp(now, UTC), timedelta(seconds=self.cutover))
        return None if found is None else max(found.timestamp(), now)


@dataclass(frozen=True, kw_only=True)
class World:
    """What the jobs share, and where they stand."""

    now: float
    link: float
    """Bytes/s, shared evenly by those that copy."""
    most: Mapping[str, int] = field(default_factory=dict)
    """By kind of resource."""
    finished: Set[str] = frozenset()
    lost: Set[str] = frozenset()
    """Jobs that will not end by themselves, with what comes after them."""


@dataclass(frozen=True, kw_only=True)
class Slot:
    """When a job is expected to begin, to have copied all, to cut over, to end. None: never, and `problem` says why."""

    name: str
    begin: float | None = None
    copied: float | None = None
    cutover: float | None = None
    end: float | None = None
    problem: str | None = None


def makespan(slots: Sequence[Slot], now: float) -> float:
    """Seconds until the last has ended."""
    return max((slot.end - now for slot in slots if slot.end is not None), default=0.0)
