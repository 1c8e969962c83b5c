"""A bandwidth that follows the clock: the limit at any instant, and an engine that is told of each change once."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drover.cli.options import changed
from drover.errors import InputError
from drover.model.bandwidth import Bandwidth, LimitedHours, limit_at
from drover.model.migration import Migration, Spec
from drover.model.settings import Settings
from drover.replicator.run import Run
from drover.replicator.speed import Capacity
from tests.unit.test_hours import INSTANT, at, on_the_wall, quiet, some_hours

OFFICE = {"days": ["mon-fri"], "from": "08:00", "to": "18:00", "limit": "8mbit", "timezone": "Europe/Zurich"}
BASE, BUSY = 25_000_000, 1_000_000


@st.composite
def entries(draw: st.DrawFn) -> LimitedHours:
    limit = draw(st.sampled_from(["off", "8mbit", "80mbit", "1GB/s"]))
    return LimitedHours.model_validate({**draw(some_hours()).model_dump(), "limit": limit})


@settings(max_examples=100)
@given(st.lists(entries(), max_size=3), st.none() | st.just(BASE), INSTANT)
def test_the_limit_is_that_of_the_last_entry_that_holds(
    schedule: list[LimitedHours], base: int | None, instant: int
) -> None:
    if not all(quiet(one, instant) for one in schedule):
        return
    rates = {"off": None, "8mbit": 1_000_000, "80mbit": 10_000_000, "1GB/s": 1_000_000_000}
    holding = [rates[one.limit] for one in schedule if on_the_wall(one, instant)]
    assert limit_at(base, schedule, instant) == (holding[-1] if holding else base)


@settings(max_examples=60)
@given(st.integers(-400, 400), st.sampled_from(["2026-03-29", "2026-10-25", "2026-06-07"]))
def test_a_night_ends_when_the_clock_says_so_though_clocks_change_in_it(minutes: int, day: str) -> None:
    night = LimitedHours.model_validate({**OFFICE, "days": ["sat"], "from": "22:00", "to": "04:00", "limit": "off"})
    end = at(f"{day}T04:00")
    instant = end + 60 * minutes
    begins = at((datetime.fromisoformat(day) - timedelta(days=1)).strftime("%Y-%m-%dT22:00"))
    assert limit_at(BASE, [night], instant) == (None if begins <= instant < end else BASE)


def spec(schedule: list[dict[str, Any]], timezone: str | None = None) -> Spec:
    given = Settings.model_validate({"bandwidth": {"limit": "200Mbit/s", "schedule": schedule}}).given(timezone)
    return Spec.model_validate({"vm": "a", "source": "x", "destination": "y", **given})


def test_a_specification_keeps_it_and_another_limit_takes_its_place() -> None:
    one = Spec.model_validate(spec([OFFICE]).model_dump(mode="json"))
    monday = datetime(2026, 12, 7, tzinfo=ZoneInfo("Europe/Zurich"))
    limits = [one.bandwidth_at((monday + timedelta(hours=hour)).timestamp()) for hour in (7.99, 8, 17.99, 18)]
    assert limits == [BASE, BUSY, BUSY, BASE]
    again = changed(one, Settings.model_validate({"bandwidth": "80mbit"}).given())
    assert again.bandwidth_at((monday + timedelta(hours=9)).timestamp()) == 10_000_000
    assert changed(one, Settings.model_validate({"bandwidth": "off"}).given()).bandwidth_at(0) is None


def test_hours_without_a_time_zone_take_the_plans_or_are_refused() -> None:
    bare = {name: value for name, value in OFFICE.items() if name != "timezone"}
    assert spec([bare], "UTC").bandwidth_schedule[0].timezone == "UTC"
    assert spec([OFFICE], "UTC").bandwidth_schedule[0].timezone == "Europe/Zurich"
    with pytest.raises(InputError, match="which time zone") as refused:
        spec([bare])
    assert "timezone: Europe/Zurich" in str(refused.value.remedy)


def test_a_limit_alone_is_written_alone() -> None:
    assert Bandwidth.model_validate("200mbit").model_dump(mode="json") == "200mbit"
    assert Bandwidth.model_validate({"limit": "200mbit"}) == Bandwidth.model_validate("200mbit")


class _EngineMock:
    def __init__(self) -> None:
        self.told: list[tuple[int | None, int | None]] = []

    def pace(self, *, background: int | None, link: int | None) -> None:
        self.told.append((background, link))


def test_the_engine_is_told_at_each_edge_and_only_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [datetime(2026, 12, 7, 6, 59, 59, tzinfo=UTC).timestamp()]
    monkeypatch.setattr("drover.replicator.run.time.time", lambda: now[0])
    run, engine, said = Run.__new__(Run), _EngineMock(), []
    run.migration, run.source = Migration(id="m-1", spec=spec([OFFICE])), SimpleNamespace(engine=engine)
    monkeypatch.setattr(run, "say", said.append)
    run.pace(background=7)
    assert run.follow_the_clock() is None
    now[0] += 1
    assert run.follow_the_clock() == (BASE, BUSY)
    assert run.follow_the_clock() is None
    now[0] += 10 * 3600
    assert run.follow_the_clock() == (BUSY, BASE)
    assert engine.told == [(7, BASE), (7, BUSY), (7, BASE)], "the background's own limit stays"
    assert ["977 KiB/s" in said[0], "23.8 MiB/s" in said[1]] == [True, True]


@pytest.mark.parametrize(
    ("seen", "before", "now", "left"),
    [
        (0.9 * BUSY, BUSY, BASE, 0.0), (0.9 * BUSY, BUSY, None, 0.0), (0.2 * BUSY, BUSY, BASE, 0.2 * BUSY),
        (BASE, BASE, BUSY, BASE), (BASE, None, BUSY, BASE),
    ],
)  # fmt: skip
def test_what_a_limited_link_carried_is_forgotten_when_the_limit_rises(
    seen: float, before: int | None, now: int | None, left: float
) -> None:
    capacity = Capacity()
    capacity.rate = seen
    capacity.limited(before, now)
    assert capacity.rate == left
