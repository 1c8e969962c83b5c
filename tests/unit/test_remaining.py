"""What is left of a running migration, against worlds whose end is known."""

import random

import pytest

from drover.estimator.accuracy import Correction
from drover.estimator.phases import History
from drover.estimator.remaining import Basis, Expected, Pace, Remaining, Sight
from drover.estimator.simulate import EPOCH_WHEN_COPIED, TICK
from drover.model.forecast import Range, VmForecast
from drover.model.migration import Cutover, Spec

GIB = 1 << 30


def basis(*, max_downtime: float = 60.0, forecast: VmForecast | None = None) -> Basis:
    spec = Spec(vm="web", source="a", destination="b", cutover=Cutover.RESUME, max_downtime=max_downtime)
    return Basis(
        vm="web", spec=spec, size=10 * GIB, memory=GIB, history=History([]), correction=Correction(), forecast=forecast
    )


def sight(at: float, done: float, *, capacity: float = 100e6) -> Sight:
    left = 10 * GIB - int(done)
    return Sight(at=at, elapsed=at, done=int(done), left=left, unverified=10 * GIB, capacity=capacity)


def run(remaining: Remaining, seconds: int, rate: float, noise: float = 0.0) -> Expected:
    """A copy that went on for so long."""
    chance, done = random.Random(7), 0.0
    for second in range(seconds):
        expected = remaining.look(sight(second, done))
        done += rate * max(chance.gauss(1, noise), 0)
    assert expected is not None
    return expected


def fixed(remaining: Remaining) -> Range:
    """What remains when all is copied."""
    expected = remaining.look(sight(1e6, 10 * GIB))
    assert expected is not None and expected.time_left is not None
    return expected.time_left


def test_a_steady_copy_ends_at_its_rate() -> None:
    remaining = Remaining(basis())
    expected = run(remaining, 30, 50e6)
    assert expected.time_left is not None
    copying = (10 * GIB - 27 * 50e6) / 50e6
    ending = fixed(Remaining(basis()))
    assert expected.time_left.p50 == pytest.approx(copying + ending.p50, rel=0.05)
    assert expected.time_left.p10 < expected.time_left.p50 < expected.time_left.p90
    # 10 GiB to compare at some 800 MB/s, and a resume.
    assert 15 < ending.p50 < 40


def test_an_unsteady_link_gives_a_wider_range() -> None:
    widths = []
    for noise in (0.0, 0.8):
        left = run(Remaining(basis()), 60, 50e6, noise).time_left
        assert left is not None
        widths.append((left.p90 - left.p10) / left.p50)
    assert widths[1] > 1.5 * widths[0]


def test_before_anything_moved_the_earlier_forecast_counts() -> None:
    said = VmForecast(
        vm="web",
        duration=Range(p10=90, p50=100, p90=120),
        downtime=Range(p10=4, p50=5, p90=6),
        wire_bytes=Range(p10=1, p50=2, p90=3),
        cutover=Cutover.RESUME,
        epochs=Range(p10=1, p50=2, p90=3),
        opens=1.0,
    )
    expected = Remaining(basis(forecast=said)).look(sight(10, 0))
    assert expected == Expected(time_left=Range(p10=80, p50=90, p90=110), downtime=said.downtime)
    assert Remaining(basis()).look(sight(10, 0)) is None


def test_a_gate_that_stays_shut_has_no_end() -> None:
    remaining = Remaining(basis(max_downtime=5.0))
    for age in range(1, 11):
        remaining.saw_writes(age, 95_000_000 * age)
    expected = remaining.look(sight(1, 10 * GIB))
    assert expected is not None and expected.time_left is None
    assert expected.downtime.p10 > 5


def test_what_the_vm_writes_now_is_in_the_downtime() -> None:
    quiet, busy = Remaining(basis(max_downtime=600)), Remaining(basis(max_downtime=600))
    for age in range(1, 11):
        busy.saw_writes(age, 50_000_000 * age)
        quiet.saw_writes(age, 1_000_000 * age)
    downtimes = []
    for remaining in (quiet, busy):
        expected = remaining.look(sight(1, 10 * GIB))
        assert expected is not None
        downtimes.append(expected.downtime.p50)
    # Epochs take half of their length to travel and stay at their shortest; the last one is what was written meanwhile.
    last = EPOCH_WHEN_COPIED / 2 + TICK / 2
    assert downtimes[1] - downtimes[0] == pytest.approx(last * 49 / 100, rel=0.3)


def test_a_new_engine_begins_anew() -> None:
    pace = Pace()
    for at, done in ((0, 0), (2, 100), (4, 200), (5, 10), (7, 410)):
        pace.add(at, done)
    assert pace.rate == pytest.approx((50 + 50 + 200) / 3)
