"""What a VM usually writes at the time of its migration is what the forecast reckons with, once it is known."""

import datetime
import itertools
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drover.estimator.answer import Estimator
from drover.estimator.draw import Dice, subject
from drover.estimator.forecast import Known, forecast
from drover.estimator.patterns import Patterns, Rate, Rhythm, patterns
from drover.estimator.phases import History
from drover.model.forecast import Forecast, Question
from drover.model.observation import IoSample
from drover.model.vm import Vdisk, Vm
from tests.unit.test_forecast import link, observation
from tests.unit.test_patterns import MIB, MONDAY, UTC, observed

BUSY = {4: 10 * MIB, 5: 10 * MIB}
"""Ten times the usual from 02:00 to 03:00."""
NOON = MONDAY.timestamp() + 12 * 3600
NOW = MONDAY.timestamp() + 4 * 86400 + 9 * 3600


def rhythm(days: int = 3, rate: dict[int, float] = BUSY, seen: float = NOON) -> Rhythm:
    return Rhythm(patterns([observed(days, rate)], UTC), (seen, seen + 120), NOW, UTC)


def test_it_writes_ten_times_as_much_at_two_as_it_did_at_noon() -> None:
    known = rhythm()
    assert known.factor(2, 600) == pytest.approx(10)
    assert known.factor(2, 7200) == pytest.approx(5.5)
    assert known.factor(2.5, 3600) == pytest.approx(5.5)
    assert known.factor(12, 600) == known.factor(None, 600) == 1
    assert known.factor(12, 86400) == pytest.approx(33 / 24)
    assert rhythm(seen=NOON - 10 * 3600).factor(12, 60) == pytest.approx(0.1)


def test_too_few_days_change_nothing() -> None:
    known = rhythm(days=2)
    assert all(known.factor(hour, 3600) == 1 for hour in (None, 2, 12))


def test_an_hour_that_is_not_known_changes_nothing() -> None:
    hours = {2: Rate(10 * MIB, 10 * MIB, 3), 12: Rate(MIB, MIB, 3)}
    known = Rhythm(Patterns(hours, {}, [], 3), (NOON, NOON + 60), NOW, UTC)
    assert known.factor(2, 600) == pytest.approx(10)
    assert known.factor(2, 3601) == 1
    assert known.factor(11, 60) == 1


def test_the_day_of_the_week_counts_when_two_weeks_were_seen() -> None:
    days = [
        observed(1, {}, usual=(5 if day % 7 == 4 else 1) * MIB, begin=MONDAY + datetime.timedelta(days=day))
        for day in range(14)
    ]
    monday, friday = NOON + 14 * 86400, NOON + 18 * 86400
    for weeks, factor in ((1, 1), (2, 5)):
        found = patterns(days[: 7 * weeks], UTC)
        assert Rhythm(found, (monday, monday + 60), friday, UTC).factor(None, 60) == pytest.approx(factor)


@settings(max_examples=40)
@given(st.floats(0, 23.99) | st.none(), st.floats(0, math.inf), st.floats(0, 1e5), st.floats(0, 1e9))
def test_it_is_a_factor_whatever_is_asked_and_1_of_an_even_load(
    hour: float | None, seconds: float, length: float, rate: float
) -> None:
    hours = {each: Rate(rate * (each % 5), rate, 3) for each in range(24)}
    found = Rhythm(Patterns(hours, {}, [], 3), (NOON, NOON + length), NOW, UTC).factor(hour, seconds)
    assert 0 < found < math.inf
    even = Patterns(dict.fromkeys(range(24), Rate(rate, rate, 3)), {}, [], 3)
    assert Rhythm(even, (NOON, NOON + length), NOW, UTC).factor(hour, seconds) == pytest.approx(1)


def at(hour: float | None, known: Rhythm | None) -> Forecast:
    subjects = [subject(observation(write=2e6, hot=200e6), known)]
    known_all = Known(source="a", destination="b", subjects=subjects, links=[link(12e6)], history=History([]))
    return forecast(known_all, Question(hour=hour, max_downtime=30))


def test_another_hour_is_another_forecast() -> None:
    noon, night = at(12, rhythm()).whole, at(2, rhythm()).whole
    assert noon == at(12, None).whole
    assert night.duration.p50 > 1.1 * noon.duration.p50
    assert night.downtime.p50 > noon.downtime.p50
    assert at(2, rhythm(days=2)).whole == at(2, None).whole == noon


def test_it_is_the_same_curve_run_through_sooner() -> None:
    one = subject(observation(), rhythm())
    asked = [Question(hour=hour) for hour in (2, 12)]
    (night,), (noon,) = (Dice([one], [link(50e6)], History([]), question).roll().machines for question in asked)
    for seconds in (0.5, 2, 6):
        assert night.dirty(seconds) == pytest.approx(noon.dirty(10 * seconds))


def test_what_if_asks_the_observations_of_earlier_days(tmp_path: Path) -> None:
    estimator = Estimator(tmp_path)
    vdisk = Vdisk(name="vda", size=1 << 30, format="raw", path="/x", kind="file", allocated=0, replicable=True)
    vm = Vm(
        name="db", uuid="u", running=True, memory=1 << 28, machine="q35", arch="x86_64", virtualisation="kvm",
        vdisks=(vdisk,), networks=(),
    )  # fmt: skip
    midnight = datetime.datetime.now().replace(hour=0, minute=0, second=0, microsecond=0) - datetime.timedelta(days=5)
    moments = [midnight + datetime.timedelta(minutes=minute) for minute in range(4 * 24 * 60)]
    totals = itertools.accumulate(60 * (10 if moment.hour == 2 else 1) * MIB for moment in moments)
    before = estimator.observations.begin(vm, "a")
    estimator.observations.add(
        (before, _io(moment.timestamp() + 60, written)) for moment, written in zip(moments, totals, strict=True)
    )
    estimator.observations.end(before)
    today = estimator.observations.begin(vm, "a")
    noon = (midnight + datetime.timedelta(hours=12)).timestamp()
    estimator.observations.add([(today, _io(noon, 0)), (today, _io(noon + 30, 30 * MIB))])
    estimator.observations.add([(today, dirty) for dirty in observation().dirty])
    seen = estimator.latest("u")
    assert seen is not None and seen.id == today
    said = {hour: estimator.answer("a", "b", [seen], Question(hour=hour, link_rate=50e6)).raw for hour in (2, 12)}
    assert said[2].whole.duration.p50 > said[12].whole.duration.p50
    assert any("what was observed" in warning for warning in said[2].warnings)
    assert not any("what was observed" in warning for warning in said[12].warnings)


def _io(moment: float, written: int) -> IoSample:
    return IoSample(
        vdisk="vda", at=moment, read_bytes=0, write_bytes=written, read_requests=0, write_requests=0, read_seconds=0,
        write_seconds=0,
    )  # fmt: skip
