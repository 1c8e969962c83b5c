"""Hours of the week as instants: against the clock on the wall, over midnight, through both changes of the clocks."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from drover.model.hours import DAYS, Hours, Span, current, spans

ZURICH = "Europe/Zurich"
ZONES = st.sampled_from(["UTC", ZURICH, "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"])
CLOCK = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.sampled_from([0, 15, 30, 59]))
INSTANT = st.integers(int(datetime(2011, 12, 20, tzinfo=UTC).timestamp()), int(datetime(2030, 1, 1).timestamp()))


def hours(days: list[str], begin: str, end: str, zone: str = ZURICH) -> Hours:
    return Hours.model_validate({"days": days, "from": begin, "to": end, "timezone": zone})


def at(text: str, zone: str = ZURICH) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@st.composite
def some_hours(draw: st.DrawFn) -> Hours:
    days = draw(st.lists(st.sampled_from([*DAYS, "mon-fri", "sat-mon"]), min_size=1, max_size=3))
    begin = draw(CLOCK)
    end = draw(CLOCK.filter(lambda text: text != begin) | st.just("24:00"))
    return hours(days, begin, end, draw(ZONES))


def on_the_wall(one: Hours, instant: float) -> bool:
    """Whether the clock there shows one of these hours: right but for the hours around a change of the clocks."""
    wall = datetime.fromtimestamp(instant, ZoneInfo(str(one.timezone)))
    clock, today, yesterday = f"{wall:%H:%M}", wall.weekday(), (wall - timedelta(days=1)).weekday()
    if one.end > one.start:  # as texts: none of them has seconds
        return today in one.weekdays and one.start <= clock < one.end
    return (today in one.weekdays and clock >= one.start) or (yesterday in one.weekdays and clock < one.end)


def quiet(one: Hours, instant: float) -> bool:
    """Whether no clock is changed for two days around."""
    zone = ZoneInfo(str(one.timezone))
    days = [datetime.fromtimestamp(instant + step * 3600, zone).utcoffset() for step in range(-49, 50, 7)]
    return len(set(days)) == 1


@settings(max_examples=120)
@given(some_hours(), INSTANT)
def test_an_instant_is_in_the_window_if_the_clock_on_the_wall_says_so(one: Hours, instant: int) -> None:
    if not quiet(one, instant):
        return
    span = current([one], instant)
    assert span is not None, "there is one within a week"
    assert span.holds(instant) == on_the_wall(one, instant)
    assert span.ends > instant


@settings(max_examples=120)
@given(some_hours(), INSTANT)
def test_spans_are_in_order_and_do_not_overlap_whatever_the_clocks_do(one: Hours, instant: int) -> None:
    found = spans(one, instant)
    assert all(before.ends <= after.begins for before, after in pairwise(found))
    assert all(span.begins < span.ends for span in found)


@settings(max_examples=120)
@given(CLOCK, CLOCK, CLOCK, ZONES, INSTANT)
def test_hours_that_follow_each_other_leave_no_gap(a: str, b: str, c: str, zone: str, instant: int) -> None:
    first, second, third = sorted({a, b, c, "06:00", "12:00", "18:00"})[:3]
    both = [hours(["mon-sun"], first, second, zone), hours(["mon-sun"], second, third, zone)]
    one = hours(["mon-sun"], first, third, zone)
    assert current(both, instant) == current([one], instant)


def test_a_night_has_an_hour_more_or_less_when_clocks_change() -> None:
    night = hours(["sat"], "22:00", "04:00")
    for day, length in (("2026-03-28", 5), ("2026-10-24", 7), ("2026-10-31", 6)):
        span = current([night], at(f"{day}T12:00"))
        assert span is not None and (span.begins, span.ends - span.begins) == (at(f"{day}T22:00"), length * 3600)


def test_what_the_clocks_leave_out_begins_at_the_change_or_is_not() -> None:
    change = at("2026-03-29T03:00")
    half = current([hours(["sun"], "02:15", "03:30")], change - 7200)
    assert half == Span(change, change + 1800)
    none = current([hours(["sun"], "02:15", "02:45")], change - 7200)
    assert none is not None and none.begins == at("2026-04-05T02:15"), "that week has none"


def test_of_two_times_that_look_alike_the_first_counts() -> None:
    span = current([hours(["sun"], "02:30", "03:30")], at("2026-10-25T00:00"))
    assert span == Span(datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp(), at("2026-10-25T03:30"))
    assert span.ends - span.begins == 7200


def test_nights_that_touch_are_one_window() -> None:
    both = [hours(["sat"], "22:00", "24:00"), hours(["sun"], "00:00", "04:00")]
    assert current(both, at("2026-12-05T23:00")) == Span(at("2026-12-05T22:00"), at("2026-12-06T04:00"))


def test_the_whole_week_is_one_window() -> None:
    now = at("2026-12-05T23:00")
    span = current([hours(["mon-sun"], "00:00", "24:00")], now)
    assert span is not None and span.begins < now < now + 7 * 86400 < span.ends


def test_hours_may_begin_at_a_second() -> None:
    span = current([hours(["sat"], "22:00:30", "22:00:59")], at("2026-12-05T12:00"))
    assert span == Span(at("2026-12-05T22:00:30"), at("2026-12-05T22:00:59"))
    with pytest.raises(ValidationError, match="no time at all"):
        hours(["sat"], "22:00:00", "22:00")
    with pytest.raises(ValidationError, match="not a time"):
        hours(["sat"], "22:00", "24:00:01")
