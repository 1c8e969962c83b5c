"""A row of jobs becomes a schedule, event by event, by the very rule that the run goes by. No I/O.

It is the parallel schedule generation scheme of resource-constrained project scheduling (Kelley 1963; Kolisch 1996):
whenever something ends, those begin, in the order of the row, that may. What differs from the textbook: how long a job
copies is not given, those at the same time share the link evenly (each at most at its own rate).
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from drover.planner.work import Job, Slot, Task, World
from drover.plans.course import used
from drover.plans.needs import Resource, fits
from drover.plans.turns import Standing, turns

_NOTHING = 1e-6
"""Seconds, or bytes, that are none."""


@dataclass
class _Copy:
    job: Job
    task: Task
    fixed: float
    wire: float
    rate: float = 0.0

    @property
    def lasts(self) -> float:
        return self.fixed if self.fixed > 0 else self.wire / self.rate


class Schedule:
    """Carries a row out on paper. `slots()` has one for each job of the row, in its order."""

    def __init__(self, row: Sequence[Job], world: World) -> None:
        self._row = row
        self._world = world
        self._now = world.now
        self._jobs = {job.name: job for job in row}
        self._begin = {job.name: job.begun for job in row if job.begun is not None}
        self._copied: dict[str, float] = {}
        self._cut: dict[str, float] = {}
        self._ends: dict[str, float] = {}
        self._cutting_over: dict[str, float] = {}
        """When each that cuts over will have ended."""
        self._places = {job.name: place for place, job in enumerate(row)}
        self._changed = True
        """Whether something became free, or its time has come."""
        self._problems: dict[str, str] = {}
        self._finished = set(world.finished)
        self._lost = set(world.lost)
        self._copies: list[_Copy] = []
        self._left: dict[str, int] = {}
        """VMs of each job that still copy."""
        self._ready: dict[str, float] = {}
        """When each that waits to cut over may, at the earliest."""
        self._load: Counter[Resource] = Counter()
        self._cutting: Counter[Resource] = Counter()
        self._waiting = [job for job in row if job.begun is None]
        self._wake: float | None = None

    def slots(self) -> list[Slot]:
        for job in self._row:
            if job.begun is not None and job.name not in self._lost:
                self._take_up(job)
        while self._step():
            pass
        return [self._slot(job) for job in self._row]

    def _step(self) -> bool:
        """On to the next event; False if there is none."""
        if self._changed:
            self._begin_some()
        self._share()
        due = [self._now + copy.lasts for copy in self._copies]
        due += self._cutting_over.values()
        due += [at for at in self._ready.values() if at > self._now]
        due += [self._wake] if self._wake is not None else []
        if not due:
            return False
        at = max(min(due), self._now)
        self._changed = self._wake is not None and self._wake <= at
        self._copy_until(at)
        self._now = at
        for name in [name for name, end in self._cutting_over.items() if end <= at]:
            self._finish(self._jobs[name])
        self._cut_over_some()
        return True

    def _begin_some(self) -> None:
        standing = Standing(
            now=self._now, load=self._load, most=self._world.most,
            begun=self._begin.keys(), finished=self._finished, lost=self._lost,
        )  # fmt: skip
        chosen = turns(self._waiting, standing, in_words=False)
        self._wake = chosen.wake
        for job in chosen.begin:
            self._begin[job.name] = self._now
            self._take_up(job)
        if chosen.begin:
            self._waiting = [job for job in self._waiting if job.name not in self._begin]
            self._cut_over_some()

    def _take_up(self, job: Job) -> None:
        self._load.update(job.room)
        copies = [_Copy(job, task, task.fixed, task.wire) for task in job.tasks if not task.copied]
        self._copies += copies
        self._left[job.name] = len(copies)
        if not copies:
            self._is_ready(job)

    def _share(self) -> None:
        """Fills the link: who can use less than an even share leaves the rest to the others."""
        sending = sorted((copy for copy in self._copies if copy.fixed <= 0), key=lambda copy: copy.task.rate)
        left = self._world.link
        for number, copy in enumerate(sending):
            copy.rate = min(copy.task.rate, left / (len(sending) - number))
            left -= copy.rate

    def _copy_until(self, at: float) -> None:
        passed, still = at - self._now, []
        for copy in self._copies:
            if copy.fixed > 0:
                copy.fixed -= passed
                copy.fixed = 0.0 if copy.fixed < _NOTHING else copy.fixed
            else:
                copy.wire -= copy.rate * passed
            if copy.fixed > 0 or copy.wire > copy.rate * _NOTHING + _NOTHING:
                still.append(copy)
                continue
            self._load.subtract(copy.task.needs.copying)
            self._changed = True
            self._left[copy.job.name] -= 1
            if not self._left[copy.job.name]:
                self._is_ready(copy.job, at)
        self._copies = still

    def _is_ready(self, job: Job, at: float | None = None) -> None:
        self._copied[job.name] = self._now if at is None else at
        self._ready[job.name] = -math.inf

    def _cut_over_some(self) -> None:
        """Those that may, in the order of the row."""
        may = [name for name, at in self._ready.items() if at <= self._now]
        for job in map(self._jobs.__getitem__, sorted(may, key=self._places.__getitem__)):
            opens = job.opens(self._now)
            if opens is None:
                self._problems[job.name] = "no window is left that is long enough for its cutover"
                del self._ready[job.name]
                self._let_go(job)
                self._lose(job.name)
            elif opens > self._now:
                self._ready[job.name] = opens
            elif not fits(self._cutting, job.cutover_room, self._world.most):
                del self._ready[job.name]
                self._cutting.update(job.cutover_room)
                self._cut[job.name] = self._now
                self._ends[job.name] = self._cutting_over[job.name] = self._now + job.cutover

    def _finish(self, job: Job) -> None:
        del self._cutting_over[job.name]
        self._finished.add(job.name)
        self._cutting.subtract(job.cutover_room)
        self._let_go(job)

    def _let_go(self, job: Job) -> None:
        self._changed = True
        for task in job.tasks:
            self._load.subtract(used(task.needs, copied=True))

    def _lose(self, name: str) -> None:
        self._lost.add(name)
        for job in self._row:
            if name in job.after and job.name not in self._lost:
                self._lose(job.name)

    def _slot(self, job: Job) -> Slot:
        problem = self._problems.get(job.name)
        if problem is None and job.name in self._lost:
            missing = [name for name in job.after if name in self._lost]
            problem = f"{', '.join(missing)} will not finish" if missing else "it did not finish"
        return Slot(
            name=job.name,
            begin=self._begin.get(job.name),
            copied=self._copied.get(job.name),
            cutover=self._cut.get(job.name),
            end=self._ends.get(job.name),
            problem=problem,
        )


def schedule(row: Sequence[Job], world: World) -> list[Slot]:
    """What becomes of a row of jobs that have not finished; dependencies on others count as the world says."""
    return Schedule(row, world).slots()
