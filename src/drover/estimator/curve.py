"""The unique-dirty curve W(t): distinct bytes that a VM writes within t seconds. No I/O.

A VM rewrites some blocks again and again, so W bends: within the windows that were seen it runs through the measured
points, monotonically (Fritsch and Carlson, SIAM J. Numer. Anal. 1980). Beyond them it follows a mixture of blocks of
different heat, W(t) = Σ h_k (1 − e^(−t/τ_k)) + r·t, with no weight below 0: the footprint theory's shape (Xiang et al.,
HOTL, ASPLOS 2013).
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from drover.model.observation import DirtySample

_HEATS_PER_DECADE = 2
_TURNS = 400
"""Of the coordinate descent: its problem has some ten unknowns."""


@dataclass(frozen=True)
class Point:
    """What windows of one length held: seconds, mean bytes, and how widely they differ (standard deviation/mean)."""

    window: float
    bytes: float
    spread: float = 0.0
    count: int = 1


class DirtyCurve:
    """W(t) of one VDISK or VM, from measured points; `size` bytes is the most it can reach."""

    def __init__(self, points: Iterable[Point], size: int) -> None:
        self.points = _rising(_apart(points))
        self.size = size
        self._xs = [0.0, *(point.window for point in self.points)]
        self._ys = [0.0, *(point.bytes for point in self.points)]
        self._slopes = _monotone_slopes(self._xs, self._ys)
        self._mixture = Mixture.fit(self.points)

    @classmethod
    def of(cls, samples: Iterable[DirtySample], size: int) -> "DirtyCurve":
        """Samples of one VDISK; windows within 5 % of each other count as one length."""
        groups: list[list[DirtySample]] = []
        for sample in sorted(samples, key=lambda sample: sample.window):
            if groups and sample.window <= groups[-1][0].window * 1.05:
                groups[-1].append(sample)
            elif sample.window > 0:
                groups.append([sample])
        return cls([_point(group) for group in groups], size)

    def __call__(self, seconds: float) -> float:
        """Bytes, at most the size."""
        if seconds <= 0 or not self.points:
            return 0.0
        last = self.points[-1]
        if seconds <= last.window:
            return min(self._inside(seconds), self.size)
        # Continued from the last point by what the mixture grows from there.
        return min(last.bytes + max(self._mixture(seconds) - self._mixture(last.window), 0.0), self.size)

    def spread(self, seconds: float) -> float:
        """How much windows of this length differ: standard deviation/mean. Of longer ones, by averaging, less."""
        known = [point for point in self.points if point.count >= 3]
        if not known:
            return 0.0
        nearest = min(known, key=lambda point: abs(math.log(point.window / max(seconds, 1e-3))))
        longer = max(seconds / nearest.window, 1.0)
        return nearest.spread / math.sqrt(longer)

    @property
    def rate(self) -> float:
        """Bytes/s at which distinct blocks go on being written at the end of what was seen."""
        return (
            self(2 * self.points[-1].window) / self.points[-1].window - (self.points[-1].bytes / self.points[-1].window)
            if self.points
            else 0.0
        )

    def _inside(self, seconds: float) -> float:
        index = min(bisect_right(self._xs, seconds), len(self._xs) - 1) - 1
        x0, x1 = self._xs[index], self._xs[index + 1]
        y0, y1 = self._ys[index], self._ys[index + 1]
        width = x1 - x0
        t = (seconds - x0) / width
        return (
            y0 * (1 + 2 * t) * (1 - t) ** 2
            + self._slopes[index] * width * t * (1 - t) ** 2
            + y1 * t**2 * (3 - 2 * t)
            + self._slopes[index + 1] * width * t**2 * (t - 1)
        )


class Mixture:
    """Σ h_k (1 − e^(−t/τ_k)) + r·t with h_k, r ≥ 0."""

    def __init__(self, heats: Sequence[tuple[float, float]], rate: float) -> None:
        self.heats = tuple(heats)
        """(bytes, seconds) of each class of blocks."""
        self.rate = rate

    def __call__(self, seconds: float) -> float:
        return self.rate * seconds + sum(h * -math.expm1(-seconds / tau) for h, tau in self.heats)

    @classmethod
    def fit(cls, points: Sequence[Point]) -> "Mixture":
        """Least squares of the relative errors, by coordinate descent."""
        if not points:
            return cls((), 0.0)
        taus = _heats(points[0].window / 2, points[-1].window)
        columns = [[-math.expm1(-p.window / tau) / max(p.bytes, 1.0) for p in points] for tau in taus]
        columns.append([p.window / max(p.bytes, 1.0) for p in points])
        target = [1.0 if p.bytes >= 1 else 0.0 for p in points]
        weights = _non_negative(columns, target)
        heats = [(h, tau) for h, tau in zip(weights, taus, strict=False) if h > 0]
        return cls(heats, weights[-1])


def total(curves: Sequence[DirtyCurve]) -> DirtyCurve:
    """The curve of all VDISKs of a VM together."""
    if len(curves) == 1:
        return curves[0]
    windows = sorted({point.window for curve in curves for point in curve.points})
    points = []
    for window in windows:
        amounts = [curve(window) for curve in curves]
        whole = sum(amounts)
        deviation = math.sqrt(sum((a * c.spread(window)) ** 2 for a, c in zip(amounts, curves, strict=True)))
        points.append(Point(window, whole, deviation / whole if whole else 0.0, 3))
    return DirtyCurve(points, sum(curve.size for curve in curves))


def _point(group: Sequence[DirtySample]) -> Point:
    mean = fmean(sample.bytes for sample in group)
    deviation = math.sqrt(fmean((sample.bytes - mean) ** 2 for sample in group))
    window = fmean(sample.window for sample in group)
    return Point(window, mean, deviation / mean if mean else 0.0, len(group))


def _apart(points: Iterable[Point]) -> list[Point]:
    """By window; of those that are as good as equal the last counts, or the curve would be infinitely steep."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: point.window):
        if kept and point.window <= kept[-1].window * 1.001:
            kept.pop()
        kept.append(point)
    return kept


def _rising(points: Sequence[Point]) -> list[Point]:
    """Pools neighbours that fall (isotonic regression): more time never means fewer bytes."""
    pools: list[list[Point]] = []
    for point in points:
        pools.append([point])
        while len(pools) > 1 and _mean(pools[-2]) > _mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    return [Point(p.window, _mean(pool), p.spread, p.count) for pool in pools for p in pool]


def _mean(pool: Sequence[Point]) -> float:
    return sum(point.bytes * point.count for point in pool) / sum(point.count for point in pool)


def _monotone_slopes(xs: Sequence[float], ys: Sequence[float]) -> list[float]:
    if len(xs) < 2:
        return [0.0]
    secants = [(y1 - y0) / (x1 - x0) for (x0, y0), (x1, y1) in pairwise(zip(xs, ys, strict=True))]
    inner = [0.0 if a * b <= 0 else 2 * a * b / (a + b) for a, b in pairwise(secants)]
    return [secants[0], *inner, secants[-1]]


def _heats(shortest: float, longest: float) -> list[float]:
    count = max(2, math.ceil(math.log10(longest / shortest) * _HEATS_PER_DECADE) + 1)
    return [shortest * (longest / shortest) ** (k / (count - 1)) for k in range(count)]


def _non_negative(columns: Sequence[Sequence[float]], target: Sequence[float]) -> list[float]:
    weights = [0.0] * len(columns)
    left = list(target)
    norms = [sum(value * value for value in column) for column in columns]
    for _ in range(_TURNS):
        for k, column in enumerate(columns):
            if norms[k] == 0:
                continue
            step = sum(a * b for a, b in zip(column, left, strict=True)) / norms[k]
            new = max(weights[k] + step, 0.0)
            if (change := new - weights[k]) != 0:
                left = [b - change * a for a, b in zip(column, left, strict=True)]
                weights[k] = new
    return weights
