"""Which VMs of a simulation begin together, and when: a plan's batches, one group, or each VM for itself. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from drover.model.forecast import Question


@dataclass(frozen=True, kw_only=True)
class Bunch:
    """Machines that begin together; several of them cut over behind one barrier. `members` are places in a row."""

    name: str
    members: tuple[int, ...]
    after: tuple[str, ...] = ()
    """Bunches that must have finished before this one begins."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """The bunches, every machine in one of them, and how many machines replicate at the same time."""

    bunches: tuple[Bunch, ...]
    at_once: int

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
            bunches.append(Bunch(name=batch.name, members=places, after=batch.after))
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
