"""The statistics of a probe: windows, slow start, intervals, the cost of an epoch."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drover.estimator.rates import (
    Reading,
    epoch_cost,
    is_known,
    mean,
    quantile,
    slow_start,
    steady,
    width_for,
    windows,
)
from drover.model.observation import Interval, Probe, Workload


def epoch(blocks: int, seconds: float) -> Probe:
    size = blocks << 16
    return Probe(
        at=0, workload=Workload.EPOCH, connections=1, bytes=size, seconds=seconds,
        rate=Interval.exactly(size / seconds), blocks=blocks,
    )  # fmt: skip


@given(st.lists(st.tuples(st.floats(0.001, 1), st.integers(0, 10**9)), min_size=2, max_size=200), st.floats(0.001, 2))
def test_windows_lose_no_byte_but_those_of_the_last(steps: list[tuple[float, int]], width: float) -> None:
    readings = [Reading(0.0, 0)]
    for seconds, size in steps:
        readings.append(Reading(readings[-1].at + seconds, readings[-1].bytes + size))
    found = windows(readings, width)
    assert all(rate >= 0 for rate in found)
    assert len(found) <= readings[-1].at / (0.99 * width)
    whole = (readings[-1].bytes - readings[0].bytes) / readings[-1].at
    if len(set(found)) == 1 and len(found) * width >= readings[-1].at:
        assert found[0] == pytest.approx(whole, rel=0.02)


@given(rate=st.floats(1e4, 1e9), width=st.floats(0.05, 1))
def test_a_steady_rate_is_found_exactly(rate: float, width: float) -> None:
    readings = [Reading(step * 0.025, int(rate * step * 0.025)) for step in range(200)]
    found = mean(windows(readings, width))
    assert found.value == pytest.approx(rate, rel=1e-3, abs=100)
    assert found.low <= found.value <= found.high


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), spread=st.floats(0.01, 0.3), count=st.integers(4, 30))
def test_the_interval_holds_the_truth_about_95_times_of_100(seed: int, spread: float, count: int) -> None:
    dice = random.Random(seed)
    held = 0
    for _ in range(400):
        found = mean([dice.gauss(100, 100 * spread) for _ in range(count)])
        held += found.low <= 100 <= found.high
    # 380 expected, standard deviation 4.4.
    assert 355 <= held <= 398


@given(st.lists(st.floats(0, 1e12), max_size=50))
def test_an_interval_is_always_finite_and_in_order(rates: list[float]) -> None:
    found = mean(rates)
    assert 0 <= found.low <= found.value * (1 + 1e-9) <= found.high * (1 + 1e-9) + 1e-9
    assert found.high <= 2 * found.value + 1e-6
    assert is_known(rates) in (True, False)


def test_slow_start_is_dropped() -> None:
    round_trip, rate, mss = 0.1, 12.5e6, 1448
    readings, sent, speed = [Reading(0.0, 0)], 0.0, 10 * mss / round_trip
    for step in range(1, 400):
        speed = min(speed * 2 ** (0.01 / round_trip), rate)
        sent += speed * 0.01
        readings.append(Reading(step * 0.01, int(sent)))
    assert mean(windows(readings, 0.25)).value < 0.95 * rate
    kept = steady(readings, round_trip=round_trip, connections=1, mss=mss)
    assert mean(windows(kept, 0.25)).value == pytest.approx(rate, rel=0.01)
    assert slow_start(rate, round_trip=round_trip, connections=16, mss=mss) < slow_start(
        rate, round_trip=round_trip, connections=1, mss=mss
    )
    assert steady(readings[:2], round_trip=9, connections=1, mss=mss) == readings[:2]


def test_short_runs_get_short_windows() -> None:
    readings = [Reading(step * 0.005, step * 1000) for step in range(81)]
    assert width_for(readings, 0.001) == pytest.approx(0.05)
    assert width_for(readings, 0.3) == 0.3
    assert width_for(readings[:1], 0.001) == 0.25


@given(overhead=st.floats(0.001, 1), rate=st.floats(1e5, 1e9))
def test_the_cost_of_an_epoch_is_found(overhead: float, rate: float) -> None:
    probes = [epoch(blocks, overhead + (blocks << 16) / rate) for blocks in (1, 1, 16, 256)]
    found = epoch_cost(probes)
    assert found is not None
    assert found[0] == pytest.approx(overhead, rel=1e-3, abs=1e-6)
    assert found[1] == pytest.approx(rate, rel=1e-3)


def test_the_cost_of_an_epoch_needs_two_sizes() -> None:
    assert epoch_cost([epoch(1, 0.1), epoch(1, 0.2)]) is None
    assert epoch_cost([epoch(1, 0.2), epoch(16, 0.1)]) is None, "larger ones that take less prove nothing"


def test_quantiles() -> None:
    assert quantile([3, 1, 2, 4], 0.25) == 1
    assert quantile([3, 1, 2, 4], 0.95) == 4
    with pytest.raises(ValueError, match="nothing"):
        quantile([], 0.5)
