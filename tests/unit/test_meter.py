"""Rates come from what happened lately; a total that starts anew is no negative rate."""

import pytest

from drover.replicator.speed import Meter


class FakeClock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_rate_is_that_of_the_window() -> None:
    clock = FakeClock()
    meter = Meter(window=10, clock=clock)
    for second in range(60):
        clock.now = second
        meter.add(100 * second if second < 30 else 3000 + 500 * (second - 30))
    assert meter.rate == pytest.approx(500)


def test_an_engine_that_was_started_again_counts_from_zero() -> None:
    clock = FakeClock()
    meter = Meter(clock=clock)
    meter.add(10_000)
    clock.now = 1
    meter.add(0)
    assert meter.rate == 0
    clock.now = 2
    meter.add(300)
    assert meter.rate == pytest.approx(300)
