"""Which VMs of a simulation begin together, and when: a plan's batches, one group, or each VM for itself. No I/O."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from drover.model.forecast import Question
from drover.model.hours import Hours, current

_TWO_WEEKS = 14 * 86400.0
"""Hours come each week again: what did not fit by then never does."""


@dataclass(frozen=True, kw_only=True)
class Bunch:
    """Machines that begin together; several of them cut over behind one barrier. `members` are places in a row."""

    name: str
    members: tuple[int, ...]
    after: tuple[str, ...] = ()
    """Bunches that must have finished before this one begins."""
    windows: tuple[Hours, ...] = ()
    """When it may cut over; without any, at any time."""

    def opens(self, at: float, lasting: float) -> float:
        """The instant from `at` on (both Unix seconds) when a cutover of `lasting` seconds fits into a window.

        What fits into no window never begins: then infinity.
        """
        first = at
        while self.windows and (span := current(self.windows, first)) is not None:
            begins = max(at, span.begins)
            if begins + lasting <= span.ends:
                return begins
            first = span.ends
            if first > at + _TWO_WEEKS:
                return math.inf
        return math.inf if self.windows else at


@dataclass(frozen=True, kw_only=True)
class Order:
    """The bunches, every machine in one of them, and how many machines replicate at the same time."""

    bunches: tuple[Bunch, ...]
    at_once: int
    begins: float = 0.0
    """Unix seconds: the hours of windows are told from it."""

    @classmethod
    def each(cls, count: int) -> Self:
        """All begin now, none waits for another."""
        return cls(bunches=tuple(Bunch(name=str(place), members=(place,)) for place in range(count)), at_once=count)

    @classmethod
    def together(cls, count: int) -> Self:
        """All are one group."""
        return cls(bunches=(Bunch(name="", members=tuple(range(count))),), at_once=count)

    @classmethod
    def of(cls, question: Question, count: int) -> Self:
        """What is asked of so many VMs; those of a plan are in its order."""
        if not question.batches:
            return cls.together(count) if question.together and count else cls.each(count)
        bunches, first = [], 0
        for batch in question.batches:
            places = tuple(range(first, first + len(batch.vms)))
            bunches.append(Bunch(name=batch.name, members=places, after=batch.after, windows=batch.windows))
            first += len(places)
        return cls(bunches=tuple(bunches), at_once=question.at_once or count)

    def now(self) -> Self:
        """The same barriers, but all begin at once."""
        bunches = tuple(replace(bunch, after=()) for bunch in self.bunches)
        return replace(self, bunches=bunches, at_once=sum(len(bunch.members) for bunch in bunches))

    def most(self) -> int:
        """How many machines share the link at the same time, at most."""
        sizes: Sequence[int] = [len(bunch.members) for bunch in self.bunches]
        return max(min(self.at_once, sum(sizes)), max(sizes, default=0), 1)
