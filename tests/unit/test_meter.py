"""Rates come from what happened lately; a total that starts anew is no negative rate."""

import pytest

from drover.replicator.speed import Capacity, Meter


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


def test_an_idle_link_says_nothing_and_a_slow_epoch_says_much() -> None:
    capacity = Capacity()
    capacity.saw_background(25e6)
    capacity.saw_background(1e6)
    capacity.saw_epoch(200_000, 0.15, overhead=0.3)
    assert capacity.rate == 25e6
    for _ in range(20):
        capacity.saw_epoch(300_000, 10.3, overhead=0.3)
    assert capacity.rate == pytest.approx(30_000, rel=0.25)
    for _ in range(20):
        capacity.saw_epoch(50 << 20, 2.3, overhead=0.3)
    assert capacity.rate == pytest.approx(25 << 20, rel=0.1)


def test_an_epoch_that_had_to_wait_is_not_believed_for_ever() -> None:
    capacity = Capacity()
    capacity.saw_background(25e6)
    for _ in range(12):
        capacity.saw_epoch(3 << 20, 30.0, 0.3)
    assert capacity.rate < 200_000
    for _ in range(8):
        capacity.saw_epoch(3 << 20, 0.1, 0.3)
    assert capacity.rate > 10e6
    for _ in range(8):
        capacity.saw_epoch(100 << 10, 0.001, 0.3)
    assert capacity.rate < (3 << 20) / 0.1
