"""Hours of the week in a time zone, as a plan says them, and when they begin and end as instants. No I/O.

`from` and `to` are what the clock on the wall shows. Where clocks are put forward, a time that they leave out is the
moment of the change; where they are put back, a time that they show twice is the first of the two. So hours that follow
each other leave no gap between them and never overlap, whatever the clocks do. Hours whose `to` is not after their
`from` end on the next day.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from drover.errors import InputError
from drover.model.texts import refused

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = re.compile(rf"^({'|'.join(DAYS)})(?:-({'|'.join(DAYS)}))?$")
_TIME = re.compile(r"^([01][0-9]|2[0-4]):([0-5][0-9])(?::([0-5][0-9]))?$")
_BACK = 2
_AHEAD = 9
"""Days around an instant whose hours may be the ones in question: those that began yesterday, those in a week."""


def _day(text: str) -> str:
    if not _DAY.match(text):
        raise refused(f"{text!r} is not a day", f"use {', '.join(DAYS)}, or several as in mon-fri")
    return text


def _time(text: str) -> str:
    if not _TIME.match(text) or _of_day(text) > timedelta(days=1):
        raise refused(f"{text!r} is not a time of the day", 'write it as in "08:00", up to "24:00"')
    return text


def _of_day(clock: str) -> timedelta:
    hours, minutes, *seconds = map(int, clock.split(":"))
    return timedelta(hours=hours, minutes=minutes, seconds=sum(seconds))


def _zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise refused(f"{text!r} is not a time zone", "use a name as in Europe/Zurich, or UTC") from None
    return text


def _schema(pattern: str | None, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "examples": list(examples)} | ({"pattern": pattern} if pattern else {}))


Day = Annotated[str, AfterValidator(_day), _schema(_DAY.pattern, "sat", "mon-fri")]
Clock = Annotated[str, AfterValidator(_time), _schema(_TIME.pattern, "22:00")]
Zone = Annotated[str, AfterValidator(_zone), _schema(None, "Europe/Zurich", "UTC")]


class Hours(BaseModel):
    """Some hours of some days, each week again."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, use_attribute_docstrings=True)

    days: tuple[Day, ...] = Field(default=("mon-sun",), min_length=1)
    """Those on which they begin; every day if left out."""
    start: Clock = Field(alias="from")
    end: Clock = Field(alias="to")
    """On the next day if this is not after `from`."""
    timezone: Zone | None = None
    """As the IANA names it; that of the plan if left out."""

    @model_validator(mode="after")
    def _last(self) -> Self:
        start, end = _of_day(self.start), _of_day(self.end)
        if start == end:
            raise refused(f"from {self.start} to {self.end} is no time at all", 'a whole day is "00:00" to "24:00"')
        if start == timedelta(days=1):
            raise refused("no hours begin at 24:00", 'write "00:00" of the next day')
        return self

    def at_home(self, timezone: str | None) -> Self:
        """In this time zone unless they name their own. Raises InputError if there is none."""
        if self.timezone is not None:
            return self
        if timezone is None:
            raise InputError(f"{self} in which time zone?", remedy="add timezone, as in timezone: Europe/Zurich")
        return self.model_copy(update={"timezone": timezone})

    @property
    def weekdays(self) -> frozenset[int]:
        """Monday is 0."""
        found: set[int] = set()
        for text in self.days:
            first, _, last = text.partition("-")
            start, end = DAYS.index(first), DAYS.index(last or first)
            found.update((start + step) % 7 for step in range((end - start) % 7 + 1))
        return frozenset(found)

    def __str__(self) -> str:
        zone = f" {self.timezone}" if self.timezone else ""
        return f"{', '.join(self.days)} {self.start}–{self.end}{zone}"


@dataclass(frozen=True, order=True)
class Span:
    """From an instant on, up to another one but without it; Unix seconds."""

    begins: float
    ends: float

    def holds(self, at: float) -> bool:
        return self.begins <= at < self.ends


def spans(hours: Hours, around: float) -> list[Span]:
    """When these hours are, each day's, from before `around` (Unix seconds) until more than a week later, in order."""
    assert hours.timezone is not None
    zone = ZoneInfo(hours.timezone)
    today, weekdays = datetime.fromtimestamp(around, zone).date(), hours.weekdays
    overnight = timedelta(days=1 if _of_day(hours.end) <= _of_day(hours.start) else 0)
    days = (today + timedelta(days=step) for step in range(-_BACK, _AHEAD))
    found = (
        Span(_instant(day, hours.start, hours.timezone), _instant(day + overnight, hours.end, hours.timezone))
        for day in days
        if day.weekday() in weekdays
    )
    return [span for span in found if span.begins < span.ends]


def current(windows: Sequence[Hours], at: float) -> Span | None:
    """The window that `at` is in, or else the next one; those that touch or overlap are one. None if there is none.

    What is open all week ends, as far as this says, in about a week.
    """
    return next((span for span in _joined(span for one in windows for span in spans(one, at)) if at < span.ends), None)


def _joined(found: Iterable[Span]) -> Iterator[Span]:
    last: Span | None = None
    for span in sorted(found):
        if last is not None and span.begins <= last.ends:
            last = Span(last.begins, max(last.ends, span.ends))
            continue
        if last is not None:
            yield last
        last = span
    if last is not None:
        yield last


@lru_cache(maxsize=4096)
def _instant(day: date, clock: str, timezone: str) -> float:
    """The first instant at which the clock on the wall shows this time of this day, or a later one."""
    zone = ZoneInfo(timezone)
    wall = datetime(day.year, day.month, day.day) + _of_day(clock)
    first = wall.replace(tzinfo=zone)
    at = first.timestamp()
    if datetime.fromtimestamp(at, zone).replace(tzinfo=None) == wall:
        return at
    # Left out when clocks are put forward: the change lies between what either offset makes of it.
    before, after = int(first.replace(fold=1).timestamp()), int(at)
    while after - before > 1:
        middle = (before + after) // 2
        shown = datetime.fromtimestamp(middle, zone).replace(tzinfo=None)
        before, after = (before, middle) if shown >= wall else (middle, after)
    return float(after)


def shown(at: float, timezone: str | None) -> str:
    """An instant as people in that time zone read it."""
    zone = ZoneInfo(timezone) if timezone else UTC
    return f"{datetime.fromtimestamp(at, zone):%a %Y-%m-%d %H:%M} ({timezone or 'UTC'})"
