"""Statistics of a rate that was watched: windows, their mean with its limits, slow start, the cost of an epoch."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from drover.model.observation import Interval, Probe, Workload

SHORTEST_WINDOW = 0.25
"""Seconds; the spread of shorter windows is that of the clock."""
ENOUGH_WINDOWS = 8
PRECISION = 0.05
"""A rate is known when its 95 % interval is within this share of it, to both sides."""
_FIRST_WINDOW = 10
"""Segments that a connection may send at once at its beginning (RFC 6928)."""


@dataclass(frozen=True)
class Reading:
    """Bytes that had arrived in all at a moment, in seconds of the engine's own clock."""

    at: float
    bytes: int


def windows(readings: Sequence[Reading], width: float) -> list[float]:
    """Bytes/s of successive windows of at least `width` seconds; what is left at the end is dropped."""
    rates: list[float] = []
    if not readings:
        return rates
    begin = readings[0]
    for reading in readings[1:]:
        # Readings come a little early and a little late: half of a hundredth is no reason for a longer window.
        if reading.at - begin.at >= width * 0.995 > 0:
            rates.append((reading.bytes - begin.bytes) / (reading.at - begin.at))
            begin = reading
    return rates


def steady(readings: Sequence[Reading], *, round_trip: float, connections: int, mss: int) -> list[Reading]:
    """The readings after the slow start. It is at most half of the time: else there was nothing else."""
    if len(readings) < 3:
        return list(readings)
    begin, end = readings[0], readings[-1]
    duration = max(end.at - begin.at, 1e-9)
    rate = (end.bytes - begin.bytes) / duration
    # What was sent in the slow start makes the mean too low; its later half is nearer to the truth.
    middle = next(reading for reading in readings if reading.at >= begin.at + duration / 2)
    if end.at > middle.at:
        rate = max(rate, (end.bytes - middle.bytes) / (end.at - middle.at))
    dropped = min(slow_start(rate, round_trip=round_trip, connections=connections, mss=mss), duration / 2)
    return [reading for reading in readings if reading.at >= begin.at + dropped]


def slow_start(rate: float, *, round_trip: float, connections: int, mss: int) -> float:
    """Seconds until `connections`, doubling each round trip, together reach `rate` bytes/s.

    Two round trips more, for the request and for the queue that the last doubling has built.
    """
    share = rate * round_trip / max(connections, 1) / (_FIRST_WINDOW * max(mss, 1))
    return round_trip * (2 + max(math.log2(share), 0.0) if share > 0 else 2)


def width_for(readings: Sequence[Reading], round_trip: float) -> float:
    """Seconds of a window: `max(RTT, 250 ms)`, or less if so few would fit in that nothing could be said."""
    usual = max(round_trip, SHORTEST_WINDOW)
    if len(readings) < 2:
        return usual
    return min(usual, max(round_trip, (readings[-1].at - readings[0].at) / ENOUGH_WINDOWS))


def mean(rates: Sequence[float]) -> Interval:
    """The mean of windows with its 95 % interval (Student's t), which is at most from 0 to twice the mean.

    A single window has no spread: it is taken to be right within a factor of two.
    """
    if not rates:
        return Interval.exactly(0.0)
    value = statistics.fmean(rates)
    if len(rates) < 2:
        return Interval(value=value, low=value / 2, high=value * 2)
    half = min(_t975(len(rates) - 1) * statistics.stdev(rates) / math.sqrt(len(rates)), value)
    return Interval(value=value, low=value - half, high=value + half)


def is_known(rates: Sequence[float]) -> bool:
    """Whether the mean is precise enough that more windows are not worth their bytes."""
    if len(rates) < ENOUGH_WINDOWS:
        return False
    found = mean(rates)
    return found.high - found.value <= PRECISION * found.value


def epoch_cost(probes: Sequence[Probe]) -> tuple[float, float] | None:
    """(overhead in seconds, bytes/s) of `seconds = overhead + bytes / rate` over the epochs; None with too few.

    Squares of relative errors are minimised: what matters is a small epoch as much as a large one.
    """
    epochs = [probe for probe in probes if probe.workload is Workload.EPOCH and probe.seconds > 0]
    if len({probe.blocks for probe in epochs}) < 2:
        return None
    rows = [(1 / probe.seconds, probe.bytes / probe.seconds) for probe in epochs]
    aa = sum(a * a for a, _ in rows)
    ab = sum(a * b for a, b in rows)
    bb = sum(b * b for _, b in rows)
    ya, yb = sum(a for a, _ in rows), sum(b for _, b in rows)
    determinant = aa * bb - ab * ab
    if determinant <= 0:
        return None
    overhead = (ya * bb - yb * ab) / determinant
    per_byte = (yb * aa - ya * ab) / determinant
    if per_byte <= 0:
        return None
    return max(overhead, 0.0), 1 / per_byte


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed. Raises ValueError if there are none."""
    if not values:
        raise ValueError("a quantile of nothing")
    return sorted(values)[min(max(math.ceil(share * len(values)) - 1, 0), len(values) - 1)]


def _t975(freedom: int) -> float:
    """Student's t at 97.5 %: exact for few degrees of freedom, else the expansion of Cornish and Fisher."""
    exact = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571}
    if freedom in exact:
        return exact[freedom]
    z = statistics.NormalDist().inv_cdf(0.975)
    first = (z**3 + z) / (4 * freedom)
    second = (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return z + first + second
