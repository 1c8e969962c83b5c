"""The course of a plan's batches: which migrations begin now, which go on, which have to stop. No I/O."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from drover.model.order import Limits, Pin
from drover.plans.needs import Needs, Resource, add_up, caps
from drover.plans.turns import PLAN, Standing, turns

_RESTARTS = 3
"""Processes of one migration that may be killed before it counts as failed."""


class End(Enum):
    """How a process that ran a migration ended."""

    FINISHED = auto()
    FAILED = auto()
    KILLED = auto()


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A batch whose migrations are recorded; `members` are their ids."""

    name: str
    members: tuple[str, ...]
    after: tuple[str, ...] = ()
    finished: frozenset[str] = frozenset()
    """Of its members: those that had finished before this course began."""
    pin: Pin | None = None
    needs: Mapping[str, Needs] = field(default_factory=dict)
    """By member: what of it is limited."""

    @property
    def room(self) -> Counter[Resource]:
        """What it uses when it begins."""
        return add_up(used(self.needs.get(m), copied=False) for m in self.members if m not in self.finished)


def used(needs: Needs | None, *, copied: bool) -> set[Resource]:
    """What one migration uses before its cutover."""
    if needs is None:
        return {PLAN}
    return {PLAN, *needs.throughout, *(() if copied else needs.copying)}


@dataclass(frozen=True)
class Turn:
    """Ids of migrations to begin, and of those to interrupt."""

    begin: list[str] = field(default_factory=list)
    interrupt: list[str] = field(default_factory=list)


class Course:
    """Follows what ends and says what comes next. A group whose VM fails is stopped: it cannot cut over without it.

    `now` is Unix seconds, for pins to a time.
    """

    def __init__(self, batches: Sequence[Planned], at_once: int, limits: Limits | None = None) -> None:
        self._batches = list(batches)
        self._most = caps(limits or Limits(), at_once)
        self._ends = {member: End.FINISHED for batch in batches for member in batch.finished}
        self._begun: set[str] = set()
        self._copied: set[str] = set()
        self._restarts: dict[str, int] = {}
        self._interrupted: set[str] = set()
        self.waits: dict[str, str] = {}
        """Why batches that have not begun have not, as of the last time that something followed from something."""
        self.wake: float | None = None
        """When the next one may begin though nothing happens before, Unix seconds."""

    def arrange(self, row: Sequence[Planned], at_once: int, limits: Limits) -> None:
        """From now on what has not begun takes its turn in this order, with these limits, dependencies and pins."""
        assert {batch.name for batch in row} == {batch.name for batch in self._batches}
        self._batches, self._most = list(row), caps(limits, at_once)

    def begin(self, now: float = 0.0) -> Turn:
        """What begins now."""
        standing = Standing(
            now=now,
            load=self._load(),
            most=self._most,
            begun=self._begun,
            finished=self._finished,
            lost=self.lost,
        )
        chosen = turns(self._batches, standing)
        self._begun.update(batch.name for batch in chosen.begin)
        self.waits, self.wake = chosen.waits, chosen.wake
        return Turn(begin=[member for batch in chosen.begin for member in batch.members if member not in self._ends])

    def copied(self, migration: str, now: float = 0.0) -> Turn:
        """What follows when all of a migration is copied: others may copy instead."""
        self._copied.add(migration)
        return self.begin(now)

    def ended(self, migration: str, end: End, now: float = 0.0) -> Turn:
        """What follows from the end of a migration's process."""
        again = end is End.KILLED and migration not in self._interrupted
        if again and self._restarts.get(migration, 0) < _RESTARTS:
            self._restarts[migration] = self._restarts.get(migration, 0) + 1
            return Turn(begin=[migration])
        self._ends[migration] = end
        batch = next(batch for batch in self._batches if migration in batch.members)
        interrupt = [] if end is End.FINISHED else [member for member in batch.members if member not in self._ends]
        interrupt = [member for member in interrupt if member not in self._interrupted]
        self._interrupted.update(interrupt)
        return Turn(begin=self.begin(now).begin, interrupt=interrupt)

    @property
    def unfinished(self) -> list[str]:
        """Names of the batches that have not finished, in their order."""
        return [batch.name for batch in self._batches if batch.name not in self._finished]

    @property
    def batches(self) -> list[Planned]:
        """All of them, in their order."""
        return list(self._batches)

    @property
    def begun(self) -> frozenset[str]:
        """Names of those that have begun in this course."""
        return frozenset(self._begun)

    @property
    def running(self) -> list[str]:
        """Migrations that have begun and not ended."""
        members = [member for batch in self._batches if batch.name in self._begun for member in batch.members]
        return [member for member in members if member not in self._ends]

    @property
    def idle(self) -> bool:
        """Whether nothing runs, and nothing will by itself."""
        return not self.running and self.wake is None

    @property
    def lost(self) -> set[str]:
        """Names of those that did not finish and will not by themselves, and of what comes after them."""
        gone = {member for member, end in self._ends.items() if end is not End.FINISHED}
        lost = {batch.name for batch in self._batches if not gone.isdisjoint(batch.members)}
        while more := {b.name for b in self._batches if b.name not in lost and not lost.isdisjoint(b.after)}:
            lost |= more
        return lost - self._finished

    @property
    def _finished(self) -> set[str]:
        done = {member for member, end in self._ends.items() if end is End.FINISHED}
        return {batch.name for batch in self._batches if done >= set(batch.members)}

    def _load(self) -> Counter[Resource]:
        needs = {member: one for batch in self._batches for member, one in batch.needs.items()}
        return add_up(used(needs.get(member), copied=member in self._copied) for member in self.running)
