"""A VM's habits are told when they were seen often enough, and not before."""

import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drover.estimator.patterns import FEWEST_DAYS, patterns
from drover.model.observation import IoSample, VmObservation

UTC = datetime.UTC
MONDAY = datetime.datetime(2026, 11, 2, tzinfo=UTC)
MIB = 1 << 20


def observed(
    days: int, rate: dict[int, float], *, usual: float = MIB, begin: datetime.datetime = MONDAY
) -> VmObservation:
    """A VM of two VDISKs that writes `rate` bytes/s at these half hours of each day, else the usual."""
    samples, total, at = [], 0.0, begin.timestamp()
    for step in range(days * 24 * 60 + 1):
        for vdisk in ("vda", "vdb"):
            samples.append(
                IoSample(
                    vdisk=vdisk, at=at + 60 * step, read_bytes=0, write_bytes=int(total / 2), read_requests=0,
                    write_requests=0, read_seconds=0, write_seconds=0,
                )
            )  # fmt: skip
        total += 60 * rate.get(step // 30 % 48, usual)
    return VmObservation(
        id="o",
        vm="db",
        uuid="u",
        site="s",
        began_at=at,
        ended_at=None,
        memory=0,
        sizes={"vda": 1, "vdb": 1},
        io=samples,
    )


def test_bursts_at_two_in_the_night_are_told() -> None:
    found = patterns([observed(4, {4: 40 * MIB, 5: 20 * MIB})], UTC)
    (burst,) = found.bursts
    assert (burst.begin, burst.end, burst.days, burst.of) == (120, 180, 4, 4)
    assert burst.rate == pytest.approx(30 * MIB) and burst.usual == pytest.approx(MIB)
    assert "writes in bursts at 02:00: 30.0 MiB/s for 1 h 00 min, 30 times the usual, on 4 of 4 days" in burst.words
    assert found.busiest == 2 and found.lacking is None
    assert burst.words in found.words and any("most from 02:00 to 03:00" in words for words in found.words)


def test_two_days_are_a_coincidence() -> None:
    found = patterns([observed(FEWEST_DAYS - 1, {4: 40 * MIB})], UTC)
    assert not found.hours and not found.bursts and found.busiest is None and not found.words
    assert found.lacking and "2" in found.lacking


def test_a_burst_on_one_day_of_four_is_no_habit() -> None:
    days = [MONDAY + datetime.timedelta(days=day) for day in range(4)]
    seen = [observed(1, {4: 40 * MIB} if number == 0 else {}, begin=day) for number, day in enumerate(days)]
    found = patterns(seen, UTC)
    assert not found.bursts and len(found.hours) == 24
    assert found.hours[2].highest > 5 * found.hours[2].mean / 2


def test_weekdays_take_two_weeks() -> None:
    assert not patterns([observed(7, {})], UTC).weekdays
    seen = [
        observed(1, {}, usual=(5 if day % 7 == 4 else 1) * MIB, begin=MONDAY + datetime.timedelta(days=day))
        for day in range(14)
    ]
    found = patterns(seen, UTC)
    assert len(found.weekdays) == 7 and found.weekdays[4].times == 2
    assert any("most on Fridays" in words for words in found.words)


@settings(max_examples=20)
@given(st.floats(0, 1e9))
def test_an_even_load_and_nothing_have_no_pattern(rate: float) -> None:
    found = patterns([observed(3, {}, usual=rate)], UTC)
    assert not found.words and len(found.hours) == 24


def test_nothing_seen_is_nothing_known() -> None:
    found = patterns([], UTC)
    assert (found.days, found.busiest, found.words) == (0, None, [])
