"""The course of a plan's batches: which migrations begin now, which go on, which have to stop. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from drover.plans.order import startable

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


@dataclass(frozen=True)
class Turn:
    """Ids of migrations to begin, and of those to interrupt."""

    begin: list[str] = field(default_factory=list)
    interrupt: list[str] = field(default_factory=list)


class Course:
    """Follows what ends and says what comes next. A group whose VM fails is stopped: it cannot cut over without it."""

    def __init__(self, batches: Sequence[Planned], at_once: int) -> None:
        self._batches = list(batches)
        self._at_once = at_once
        self._ends = {member: End.FINISHED for batch in batches for member in batch.finished}
        self._begun: set[str] = set()
        self._restarts: dict[str, int] = {}
        self._interrupted: set[str] = set()

    def begin(self) -> Turn:
        """What begins now."""
        begin = []
        for batch in startable(self._batches, self._begun, self._finished, len(self.running), self._at_once):
            self._begun.add(batch.name)
            begin += [member for member in batch.members if member not in self._ends]
        return Turn(begin=begin)

    def ended(self, migration: str, end: End) -> Turn:
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
        return Turn(begin=self.begin().begin, interrupt=interrupt)

    @property
    def unfinished(self) -> list[str]:
        """Names of the batches that have not finished, in the order of the plan."""
        return [batch.name for batch in self._batches if batch.name not in self._finished]

    @property
    def _finished(self) -> set[str]:
        done = {member for member, end in self._ends.items() if end is End.FINISHED}
        return {batch.name for batch in self._batches if done >= set(batch.members)}

    @property
    def running(self) -> list[str]:
        """Migrations that have begun and not ended."""
        members = [member for batch in self._batches if batch.name in self._begun for member in batch.members]
        return [member for member in members if member not in self._ends]
