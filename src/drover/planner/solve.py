"""The order in which all is done soonest: list scheduling by critical path, then improved by local search. No I/O.

Graham (1969) showed that any list is within twice the optimum on identical machines, and that the longest first is
within four thirds; with dependencies the longest path to the end decides (Hu 1961; Kolisch 1996 compares rules). Which
rule wins differs, so several make a row each; the best is improved by moving jobs within it (Hartmann & Kolisch 2000),
and by rows at random where no move helps (Kolisch & Drexl 1996). The same input makes the same row.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from drover.model.order import Pin
from drover.planner.schedule import schedule
from drover.planner.work import Job, Slot, World
from drover.plans.pins import sequence

EFFORT = 60_000
"""Jobs times jobs at a time that are looked at: some seconds of a processor."""
_TRIES = 400
_MISSES = 60
"""Moves in a row that lead nowhere new: all has been tried around here."""
_BETTER = 1e-6


@dataclass(frozen=True)
class Solution:
    """A row, and the schedule that it comes to; what has begun stands first."""

    row: list[Job]
    slots: list[Slot]


def solve(jobs: Sequence[Job], world: World, *, begun: int | None = None, effort: int = EFFORT) -> Solution:
    """Puts jobs that have not finished in order; as they stand if nothing is better.

    Raises InputError that names a pin that cannot be kept.
    `begun` is how many of the plan have begun, finished or not: pinned positions count from the first of all.
    """
    running = sorted((job for job in jobs if job.begun is not None), key=lambda job: job.begun or 0.0)
    before = len(running) if begun is None else begun
    waiting = [_freed(job, before) for job in jobs if job.begun is None]
    urgency = _urgency(waiting)
    tries = _tries(jobs, world, effort)
    rows = _rows(waiting, world, urgency, before, most=max(tries, 1))
    best = min((_tried(running, row, world) for row in rows), key=_worth)
    search = _Search(running, world, urgency, best, before)
    search.improve(tries - len(rows))
    originals = {job.name: job for job in jobs}
    return Solution([originals[job.name] for job in search.best.row], search.best.slots)


def _freed(job: Job, begun: int) -> Job:
    """One whose position has been taken goes as soon as it may."""
    if job.pin is None or job.pin.position is None or job.pin.position > begun:
        return job
    kept = None if job.pin.not_before is None else Pin(not_before=job.pin.not_before)
    return replace(job, pin=kept, priority=max(job.priority, _FIRST))


_FIRST = 1000
"""Beyond every priority that a plan can say."""


def _urgency(jobs: Sequence[Job]) -> dict[str, int]:
    """The priority of each, or of the most urgent that comes after it."""
    found = {job.name: job.priority for job in jobs}
    changed = True
    while changed:
        changed = False
        for job in jobs:
            for name in job.after:
                if found.get(name, found[job.name]) < found[job.name]:
                    found[name], changed = found[job.name], True
    return found


def _tails(jobs: Sequence[Job], world: World) -> dict[str, float]:
    """Seconds from the beginning of each to the end of the longest chain that comes after it."""
    found = {job.name: job.alone(world.link) for job in jobs}
    own = dict(found)
    changed = True
    while changed:
        changed = False
        for job in jobs:
            for name in job.after:
                if name in found and found[name] < own[name] + found[job.name]:
                    found[name], changed = own[name] + found[job.name], True
    return found


def _rows(jobs: Sequence[Job], world: World, urgency: dict[str, int], begun: int, *, most: int) -> list[list[Job]]:
    tails = _tails(jobs, world)
    own = {job.name: job.alone(world.link) for job in jobs}
    places = {job.name: place for place, job in enumerate(jobs)}
    rules: list[Callable[[Job], float]] = [
        lambda job: places[job.name],
        lambda job: -tails[job.name],
        lambda job: -own[job.name],
        lambda job: own[job.name],
        lambda job: -len(job.tasks),
    ]
    return [
        sequence(jobs, lambda job, rule=rule: (-urgency[job.name], rule(job), places[job.name]), begun=begun)  # type: ignore[misc]
        for rule in rules[:most]
    ]


def _tried(running: Sequence[Job], row: Sequence[Job], world: World) -> Solution:
    whole = [*running, *row]
    return Solution(whole, schedule(whole, world))


def _worth(solution: Solution) -> tuple[int, float, float]:
    """Smaller is better: what never ends, when the last ends, when they end on average."""
    ends = [slot.end for slot in solution.slots if slot.end is not None]
    never = len(solution.slots) - len(ends)
    return never, max(ends, default=0.0), sum(ends) / len(ends) if ends else 0.0


def _tries(jobs: Sequence[Job], world: World, effort: int) -> int:
    beside = min(world.most.get("plan", len(jobs)), len(jobs)) + 4
    return min(_TRIES, effort // (max(len(jobs), 1) * beside))


class _Search:
    """Moves jobs of the same urgency within the row as long as that helps; pinned ones stay where they are."""

    def __init__(
        self, running: Sequence[Job], world: World, urgency: dict[str, int], best: Solution, begun: int
    ) -> None:
        self.best = best
        self._running = running
        self._world = world
        self._urgency = urgency
        self._begun = begun
        self._seen = {tuple(job.name for job in best.row[len(running) :])}
        self._chance = random.Random(1)

    def improve(self, tries: int) -> None:
        row = self.best.row[len(self._running) :]
        worth = _worth(self.best)
        for _, other in zip(range(tries), self._neighbours(row), strict=False):
            found = _tried(self._running, other, self._world)
            if _is_better(_worth(found), worth):
                self.best, worth = found, _worth(found)
                row[:] = other

    def _neighbours(self, row: list[Job]) -> Iterator[list[Job]]:
        """Rows that differ by one move from what `row` holds then; where these are used up, any."""
        movable = [place for place, job in enumerate(row) if job.pin is None or job.pin.position is None]
        pinned, misses = len(movable) < len(row), 0
        while len(movable) > 1 and misses < 2 * _MISSES:
            one, other = self._chance.sample(movable, 2)
            if misses >= _MISSES:
                changed, allowed = self._any(row), True
            else:
                move = _swapped if pinned or self._chance.random() < 0.5 else _moved
                changed = move(row, one, other)
                allowed = self._is_allowed(changed, min(one, other), max(one, other), strict=pinned)
            key = tuple(job.name for job in changed)
            if allowed and key not in self._seen:
                misses = min(misses, _MISSES)
                self._seen.add(key)
                yield changed
            else:
                misses += 1

    def _any(self, row: Sequence[Job]) -> list[Job]:
        chances = {job.name: (-self._urgency[job.name], self._chance.random()) for job in row}
        return sequence(row, lambda job: chances[job.name], begun=self._begun)

    def _is_allowed(self, row: Sequence[Job], low: int, high: int, *, strict: bool) -> bool:
        """Whether urgency is kept, and, where positions count, every dependency."""
        if len({self._urgency[job.name] for job in row[low : high + 1]}) > 1:
            return False
        if not strict:
            return True
        places = {job.name: place for place, job in enumerate(row)}
        return all(places.get(name, -1) < places[job.name] for job in row for name in job.after)


def _swapped(row: Sequence[Job], one: int, other: int) -> list[Job]:
    changed = list(row)
    changed[one], changed[other] = changed[other], changed[one]
    return changed


def _moved(row: Sequence[Job], one: int, other: int) -> list[Job]:
    changed = list(row)
    changed.insert(other, changed.pop(one))
    return changed


def _is_better(found: tuple[int, float, float], before: tuple[int, float, float]) -> bool:
    return found[0] < before[0] or (
        found[0] == before[0]
        and (found[1] < before[1] - _BETTER or (found[1] < before[1] + _BETTER and found[2] < before[2] - _BETTER))
    )
