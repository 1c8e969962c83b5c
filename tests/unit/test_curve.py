"""The unique-dirty curve: true to what was measured, never falling, careful beyond."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drover.estimator.curve import DirtyCurve, Point, total
from drover.model.observation import DirtySample

WINDOWS = (1.0, 2.0, 5.0, 10.0, 20.0, 60.0)
HUGE = 1 << 50


def curve(shape: Callable[[float], float], windows: tuple[float, ...] = WINDOWS, size: int = HUGE) -> DirtyCurve:
    return DirtyCurve([Point(window, shape(window)) for window in windows], size)


@given(st.lists(st.tuples(st.floats(0.5, 5000), st.floats(0, 1e12)), min_size=1, max_size=12))
def test_more_time_never_means_fewer_bytes(points: list[tuple[float, float]]) -> None:
    found = DirtyCurve([Point(window, size) for window, size in points], HUGE)
    times = [0.01 * 1.3**k for k in range(60)]
    values = [found(time) for time in times]
    assert all(b >= a - 1e-6 * max(a, 1) for a, b in pairwise(values))


@given(st.floats(1e3, 1e9), st.floats(0.5, 500))
def test_it_runs_through_what_was_measured(most: float, time: float) -> None:
    found = curve(lambda t: most * -math.expm1(-t / time))
    for window in WINDOWS:
        assert found(window) == pytest.approx(most * -math.expm1(-window / time), rel=1e-6)


def test_a_hot_set_saturates_and_a_stream_goes_on() -> None:
    hot = curve(lambda t: 64e6 * -math.expm1(-t / 3))
    assert hot(3600) == pytest.approx(64e6, rel=0.02)
    stream = curve(lambda t: 5e6 * t)
    assert stream(600) == pytest.approx(3e9, rel=0.02)


def test_beyond_what_was_seen_it_rather_says_too_much() -> None:
    slow = curve(lambda t: 100e6 * -math.expm1(-t / 100))
    assert slow(600) >= 0.95 * 100e6 * -math.expm1(-6)


def test_it_never_exceeds_the_vdisk() -> None:
    assert curve(lambda t: 5e6 * t, size=1 << 30)(1e9) == 1 << 30


def test_nothing_observed_is_nothing_written() -> None:
    assert DirtyCurve([], HUGE)(60) == 0
    assert DirtyCurve.of([DirtySample(vdisk="vda", at=0, window=10, bytes=0)], HUGE)(3600) == 0


def test_windows_of_nearly_one_length_are_one_point() -> None:
    samples = [DirtySample(vdisk="vda", at=k, window=10 + 0.1 * k, bytes=1000 + 100 * (k % 2)) for k in range(4)]
    (point,) = DirtyCurve.of(samples, HUGE).points
    assert point.count == 4
    assert point.bytes == 1050
    assert point.spread == pytest.approx(50 / 1050)


def test_the_vm_is_the_sum_of_its_vdisks() -> None:
    one, other = curve(lambda t: 1e6 * t), curve(lambda t: 2e6 * t, windows=(1.0, 30.0))
    for time in (1, 7, 30, 200):
        assert total([one, other])(time) == pytest.approx(3e6 * time, rel=0.02)
