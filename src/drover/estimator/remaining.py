"""What is left of a running migration, forecast anew from what it sees of background, writes and link. No I/O.

The copy goes on at the pace of its last minute, within the spread of that minute; comparing, the last epochs and the
cutover are simulated from there as they are for a forecast beforehand.
"""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import fmean, pstdev

from drover.estimator.accuracy import Correction
from drover.estimator.curve import DirtyCurve
from drover.estimator.draw import with_cutover
from drover.estimator.phases import History
from drover.estimator.simulate import Machine, Outcome, Path, simulate
from drover.model.forecast import Range, VmForecast
from drover.model.migration import Spec
from drover.model.observation import DirtySample

_DRAWS = 60
_EVERY = 3.0
"""Seconds between two forecasts: each costs some milliseconds of a processor."""
_WINDOW = 2.0
"""Seconds over which the background's pace is taken."""
_WINDOWS = 30
_RECENT = 8
"""Windows whose mean is the pace."""
_TRUST = 0.05
"""Standard deviation/mean that remains however steady the pace was: what is left is not what was."""
_LOOKS = 90
"""Looks at the VM's writes that are remembered."""
_TELLING = 3
"""Looks from which on they say more than an observation of the past."""
_CAPACITY_SPREAD = 0.1


@dataclass(frozen=True, kw_only=True)
class Sight:
    """One look at a running migration: seconds, bytes, bytes/s."""

    at: float
    """Of any clock that does not jump."""
    elapsed: float
    """Since the migration was planned."""
    done: int
    """What the background has dealt with."""
    left: int
    """What it has not."""
    unverified: int
    capacity: float
    """At which epochs and memory reach the destination; never 0."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What is to be expected now, in 80 of 100 cases, seconds."""

    time_left: Range | None
    """Until the VM runs at the destination and everything is tidied up; None if the gate would stay shut."""
    downtime: Range


@dataclass(frozen=True, kw_only=True)
class Basis:
    """What is known of the VM and of earlier migrations when this one begins."""

    vm: str
    spec: Spec
    size: int
    memory: int
    history: History
    correction: Correction
    """Of the simulation's downtimes, by earlier outcomes."""
    resident: int | None = None
    observed: DirtyCurve | None = None
    forecast: VmForecast | None = None
    """As it was shown before the migration began."""


class Remaining:
    """Follows one run of a migration."""

    def __init__(self, basis: Basis, seed: int = 1) -> None:
        self._basis = basis
        self._chance = random.Random(seed)
        self._pace = Pace()
        self._looks: deque[DirtySample] = deque(maxlen=_LOOKS)
        self._expected: Expected | None = None
        self._forecast_at = float("-inf")

    def saw_writes(self, age: float, dirty: int) -> None:
        """An epoch that is recorded for `age` seconds holds `dirty` bytes."""
        if age >= 0.5:
            self._looks.append(DirtySample(vdisk="", at=0.0, window=age, bytes=dirty))

    def look(self, sight: Sight) -> Expected | None:
        """What is to be expected; None while too little is known."""
        self._pace.add(sight.at, sight.done)
        if sight.at - self._forecast_at >= _EVERY:
            self._forecast_at = sight.at
            self._expected = self._forecast(sight)
        return self._expected

    def _forecast(self, sight: Sight) -> Expected | None:
        if sight.left and not self._pace.rate:
            return self._beforehand(sight)
        writes = self._writes()
        outcomes = [self._draw(sight, writes) for _ in range(_DRAWS)]
        opens = sum(outcome.opened for outcome in outcomes) >= len(outcomes) / 2
        return Expected(
            time_left=Range.of([outcome.duration for outcome in outcomes]) if opens else None,
            downtime=self._basis.correction.apply(Range.of([outcome.downtime for outcome in outcomes])),
        )

    def _beforehand(self, sight: Sight) -> Expected | None:
        said = self._basis.forecast
        if said is None:
            return None
        left = [max(end - sight.elapsed, 0.0) for end in (said.duration.p10, said.duration.p50, said.duration.p90)]
        return Expected(time_left=Range(p10=left[0], p50=left[1], p90=left[2]), downtime=said.downtime)

    def _writes(self) -> Callable[[float], float]:
        """W(t) as the VM writes now; of times longer than an epoch as it was observed, if it was."""
        observed, basis = self._basis.observed, self._basis
        if len(self._looks) < _TELLING:
            return observed or DirtyCurve([], basis.size)
        now = DirtyCurve.of(self._looks, basis.size)
        last = now.points[-1].window
        if observed is None or not (then := observed(last)):
            return now
        busier = now(last) / then
        return lambda seconds: now(seconds) if seconds <= last else min(busier * observed(seconds), basis.size)

    def _draw(self, sight: Sight, writes: Callable[[float], float]) -> Outcome:
        chance, basis = self._chance, self._basis
        phases = replace(basis.history.draw(chance), prepare=0.0)
        path = Path(rate=sight.capacity * max(chance.gauss(1, _CAPACITY_SPREAD), 0.3), cover=float("inf"))
        share = basis.history.memory_share(chance) or chance.uniform(0.3, 0.9)
        machine = Machine(
            name=basis.vm,
            allocated=sight.unverified,
            content=0.0,
            ratio=1.0,
            dirty_ratio=1.0,
            dirty=writes,
            memory=min(share * basis.memory, basis.resident or basis.memory),
            memory_ratio=basis.history.memory_ratio(chance) or chance.uniform(0.35, 0.75),
            cutover=basis.spec.way,
            max_downtime=basis.spec.max_downtime,
        )
        copying = sight.left / (self._pace.rate * self._factor(sight)) if sight.left else 0.0
        ending = simulate([with_cutover(machine, path, phases)], path, phases)[0]
        return replace(ending, duration=copying + ending.duration)

    def _factor(self, sight: Sight) -> float:
        """Of the pace until all is copied: the longer that takes, the more its ups and downs even out."""
        windows = min(max(sight.left / self._pace.rate / _WINDOW, 1.0), _RECENT)
        spread = (_TRUST**2 + self._pace.spread**2 / windows) ** 0.5
        return max(self._chance.gauss(1, spread), 0.2)


class Pace:
    """The background's rate over windows that follow each other."""

    def __init__(self) -> None:
        self._began: tuple[float, int] | None = None
        self._rates: deque[float] = deque(maxlen=_WINDOWS)

    def add(self, at: float, done: int) -> None:
        """Notes a growing total of bytes; one that shrank (a new engine counts anew) begins anew."""
        if self._began is None or done < self._began[1]:
            self._began = (at, done)
            return
        since, before = self._began
        if at - since >= _WINDOW:
            self._rates.append((done - before) / (at - since))
            self._began = (at, done)

    @property
    def rate(self) -> float:
        """Bytes/s; 0 while it is unknown."""
        recent = list(self._rates)[-_RECENT:]
        return fmean(recent) if recent else 0.0

    @property
    def spread(self) -> float:
        """Standard deviation/mean of the windows."""
        return pstdev(self._rates) / fmean(self._rates) if len(self._rates) > 1 and fmean(self._rates) else 0.0
