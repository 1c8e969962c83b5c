"""How forecasts turned out, and what later ones learn from it. No I/O.

The intervals are corrected by split conformal prediction on log(actual / predicted) (Vovk et al., "Algorithmic Learning
in a Random World", 2005; Lei et al., JASA 2018): an 80 % interval is widened, or narrowed, until it would have held the
outcome of 80 of 100 finished migrations.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Self, TypeVar

from drover.estimator.advice import reasons
from drover.model.forecast import Forecast, Method, Option, Range, TradeOff, VmForecast

_Part = TypeVar("_Part", VmForecast, Option, TradeOff)

COVERAGE = 0.8
ENOUGH = 9
"""Outcomes from which on the width of an interval is corrected; fewer only move its middle."""
_TRUST = 3
"""The middle moves by n / (n + this) of what n outcomes say."""
_NEWEST = 100
_SENSITIVITY = 0.1
"""Added to half the width of an interval in log, before and after it is stretched (Papadopoulos et al., JAIR 40, 2011).
Else one forecast that was too sure of itself would stretch a wide one to years.
"""


@dataclass(frozen=True, kw_only=True)
class Score:
    """A forecast made beforehand beside what happened; seconds and bytes."""

    migration: str
    vm: str
    at: float
    method: str
    horizon: float
    """Seconds of observation behind the forecast."""
    raw: VmForecast
    """As the simulation said it."""
    shown: VmForecast
    """As it was corrected by the outcomes known then, and shown."""
    duration: float
    downtime: float
    wire_bytes: float


@dataclass(frozen=True, kw_only=True)
class Correction:
    """Of one quantity: the factor of its middle, and of its breadth in log (None: left as it is)."""

    factor: float = 1.0
    stretch: float | None = None
    count: int = 0

    def apply(self, said: Range) -> Range:
        """The corrected interval; what is 0 stays 0."""
        if said.p50 <= 0 or self.count == 0:
            return said
        middle = said.p50 * self.factor
        if self.stretch is None:
            return Range(p10=said.p10 * self.factor, p50=middle, p90=said.p90 * self.factor)
        reach = math.exp(self.stretch * _breadth(said))
        return Range(p10=middle / reach, p50=middle, p90=middle * reach)


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Of one quantity over some outcomes: absolute errors as shares of the outcome, and how often the interval held."""

    count: int
    median_error: float
    p90_error: float
    bias: float
    """Median of predicted/actual − 1."""
    coverage: float


Pick = Callable[[VmForecast], Range]
Actual = Callable[[Score], float]
QUANTITIES: dict[str, tuple[Pick, Actual]] = {
    "duration": (lambda said: said.duration, lambda score: score.duration),
    "downtime": (lambda said: said.downtime, lambda score: score.downtime),
    "bytes": (lambda said: said.wire_bytes, lambda score: score.wire_bytes),
}


def correction(scores: Sequence[Score], quantity: str) -> Correction:
    """What the outcomes say of the simulation, the newest of them."""
    pick, actual = QUANTITIES[quantity]
    newest = sorted(scores, key=lambda score: -score.at)[:_NEWEST]
    pairs = [(pick(score.raw), actual(score)) for score in newest]
    pairs = [(said, was) for said, was in pairs if said.p50 > 0 and was > 0]
    if not pairs:
        return Correction()
    residuals = [math.log(was / said.p50) for said, was in pairs]
    count = len(residuals)
    shift = median(residuals) * count / (count + _TRUST)
    if count < ENOUGH:
        return Correction(factor=math.exp(shift), count=count)
    scaled = sorted(abs(r - shift) / _breadth(said) for r, (said, _) in zip(residuals, pairs, strict=True))
    rank = min(math.ceil((count + 1) * COVERAGE), count)
    return Correction(factor=math.exp(shift), stretch=scaled[rank - 1], count=count)


def corrected(forecast: Forecast, scores: Sequence[Score]) -> Forecast:
    """The forecast with its intervals corrected, each by the outcomes of earlier ones by the same method.

    The reasons are said anew, of the corrected figures.
    """
    used = [score for score in scores if score.method == forecast.recommended]
    best = _Corrector.of(used)
    options = [_Corrector.of([s for s in scores if s.method == o.method])(o) for o in forecast.options]
    network = _Corrector.of([score for score in scores if score.method == Method.NETWORK])
    return forecast.model_copy(
        update={
            "vms": [best(vm) for vm in forecast.vms],
            "groups": [best(group) for group in forecast.groups],
            "whole": best(forecast.whole),
            "options": options,
            "trade_off": [network(row) for row in forecast.trade_off],
            "reasons": reasons(forecast.recommended, options, forecast.break_even),
            "corrected_by": len(used),
        }
    )


class _Corrector:
    """The corrections of all quantities by one method's outcomes, for whatever part of a forecast has some of them."""

    def __init__(self, by_field: dict[str, Correction]) -> None:
        self._by_field = by_field

    @classmethod
    def of(cls, scores: Sequence[Score]) -> Self:
        by_quantity = {quantity: correction(scores, quantity) for quantity in QUANTITIES}
        duration, downtime, wire_bytes = (by_quantity[name] for name in ("duration", "downtime", "bytes"))
        return cls({"duration": duration, "begins": duration, "downtime": downtime, "wire_bytes": wire_bytes})

    def __call__(self, said: _Part) -> _Part:
        ranges = {name: getattr(said, name, None) for name in self._by_field}
        return said.model_copy(
            update={name: self._by_field[name].apply(range_) for name, range_ in ranges.items() if range_ is not None}
        )


def accuracy(scores: Sequence[Score], quantity: str) -> Accuracy:
    """Of what was shown. There must be at least one score."""
    pick, actual = QUANTITIES[quantity]
    pairs = [(pick(score.shown), actual(score)) for score in scores]
    errors = sorted(abs(said.p50 - was) / was for said, was in pairs if was > 0)
    within = sum(said.p10 <= was <= said.p90 for said, was in pairs)
    return Accuracy(
        count=len(pairs),
        median_error=median(errors),
        p90_error=errors[min(math.ceil(0.9 * len(errors)), len(errors)) - 1],
        bias=median(said.p50 / was for said, was in pairs if was > 0) - 1,
        coverage=within / len(pairs),
    )


def _breadth(said: Range) -> float:
    low = math.log(said.p50 / said.p10) if said.p10 > 0 else 0.0
    return (low + math.log(said.p90 / said.p50)) / 2 + _SENSITIVITY
