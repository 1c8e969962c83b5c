"""When a VM writes much: by hour of day and weekday, the busiest hour, bursts; with the words for a warning. No I/O.

A forecast reckons with them: a VM that writes f times as much at the time of its migration as when it was observed goes
through its dirty curve f times as fast.

A pattern is told, and reckoned with, only if it was seen often enough: an hour of the day, or a burst, on three days; a
weekday in two weeks. Fewer would be a coincidence.
"""

import datetime
import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from drover.model.observation import IoSample, VmObservation
from drover.model.units import format_duration, format_rate

FEWEST_DAYS = 3
FEWEST_WEEKS = 2
_SLOT = 30
"""Minutes. Bursts are looked for in slots of a day of so many."""
_SLOTS = 24 * 60 // _SLOT
_SEEN = 300.0
"""Seconds that a slot must have been looked at on a day to count."""
_GAP = 60.0
"""Seconds between two samples above which nobody looked."""
_HOURS_OF_A_DAY = 12
"""Hours that a day must have been looked at to count as one."""
_BURST = 4.0
"""Times the usual rate that a burst is at least."""
_OFTEN = 2 / 3
"""Share of the days that a burst comes on at least."""
_QUIET = 64 * 1024.0
"""Bytes/s below which nothing is a burst: a log file that is rotated."""
_WEEK = 7 * 86400.0
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True)
class Rate:
    """Bytes/s that are written at a time of day or of week: the mean, and that of the worst time, over `times`."""

    mean: float
    highest: float
    times: int


@dataclass(frozen=True)
class Burst:
    """A time of day, in minutes from midnight, at which a VM writes much more than usual."""

    begin: int
    end: int
    rate: float
    usual: float
    days: int
    of: int

    @property
    def words(self) -> str:
        usual = f"{self.rate / self.usual:.0f} times the usual" if self.usual >= 1 else "otherwise it writes nothing"
        return (
            f"writes in bursts at {_clock(self.begin)}: {format_rate(self.rate)} for "
            f"{format_duration((self.end - self.begin) * 60)}, {usual}, on {self.days} of {self.of} days seen"
        )


@dataclass(frozen=True)
class Patterns:
    """What is known; an hour or weekday that was not seen often enough is not in the tables."""

    hours: Mapping[int, Rate]
    weekdays: Mapping[int, Rate]
    """0 is Monday."""
    bursts: Sequence[Burst]
    days: int
    """On which the VM was seen at all."""

    @property
    def busiest(self) -> int | None:
        """The hour of the day with the highest mean, if every hour is known."""
        return max(self.hours, key=lambda hour: self.hours[hour].mean) if len(self.hours) == 24 else None

    def rate(self, moment: datetime.datetime) -> float | None:
        """Bytes/s that are usual then: of the hour, and of the weekday if all seven are known; None if it is not."""
        hour = self.hours.get(moment.hour)
        if hour is None:
            return None
        mean = statistics.fmean(rate.mean for rate in self.weekdays.values()) if len(self.weekdays) == 7 else 0.0
        return hour.mean * (self.weekdays[moment.weekday()].mean / mean if mean else 1.0)

    @property
    def lacking(self) -> str | None:
        """What would have to be seen for a whole picture."""
        if len(self.hours) == 24:
            return None
        return (
            f"{len(self.hours)} of 24 hours of the day are known: each takes {FEWEST_DAYS} days of observation, "
            f"and there are {self.days}"
        )

    @property
    def words(self) -> list[str]:
        """Warnings, as what the VM does."""
        said = [burst.words for burst in self.bursts]
        mean = statistics.fmean(rate.mean for rate in self.hours.values()) if self.hours else 0.0
        if self.busiest is not None and self.hours[self.busiest].mean >= max(2 * mean, _QUIET):
            busiest = self.hours[self.busiest].mean
            said.append(
                f"writes most from {self.busiest:02d}:00 to {(self.busiest + 1) % 24:02d}:00: {format_rate(busiest)}, "
                f"{busiest / mean:.1f} times the day's mean"
            )
        if len(self.weekdays) == 7:
            day = max(self.weekdays, key=lambda each: self.weekdays[each].mean)
            others = statistics.fmean(rate.mean for each, rate in self.weekdays.items() if each != day)
            if self.weekdays[day].mean >= max(1.5 * others, _QUIET):
                said.append(f"writes most on {_WEEKDAYS[day]}s: {format_rate(self.weekdays[day].mean)}")
        return said


@dataclass(frozen=True)
class Rhythm:
    """How much more a VM writes at other times than when its dirty curve was seen. `now` is in Unix seconds."""

    patterns: Patterns
    observed: tuple[float, float]
    """When the curve was seen: from, to; Unix seconds."""
    now: float
    zone: datetime.tzinfo | None = None
    """Whose clock counts; None: this machine's."""

    def factor(self, hour: float | None, seconds: float) -> float:
        """Of the `seconds` from now on, or from the next time that it is `hour` o'clock: times what was observed.

        1 where an hour of either time was not seen often enough, or so little is written that it does not matter.
        """
        then = self._mean(self._begin(hour), seconds)
        if then is None or self._seen is None:
            return 1.0
        return max(then, _QUIET) / max(self._seen, _QUIET)

    @cached_property
    def _seen(self) -> float | None:
        return self._mean(self.observed[0], self.observed[1] - self.observed[0])

    def _begin(self, hour: float | None) -> float:
        if hour is None:
            return self.now
        moment = datetime.datetime.fromtimestamp(self.now, self.zone)
        return self.now + (hour - moment.hour - moment.minute / 60 - moment.second / 3600) % 24 * 3600

    def _mean(self, begin: float, seconds: float) -> float | None:
        """Bytes/s that are usual over this time; None if an hour of it is not known."""
        end = begin + min(max(seconds, 1.0), _WEEK)
        at, whole = begin, 0.0
        while at < end:
            moment = datetime.datetime.fromtimestamp(at, self.zone)
            rate = self.patterns.rate(moment)
            if rate is None:
                return None
            until = min(at + 3600 - moment.minute * 60 - moment.second, end)
            whole += rate * (until - at)
            at = until
        return whole / (end - begin)


@dataclass
class _Slot:
    """Half an hour of one day."""

    bytes: float = 0.0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        return self.bytes / self.seconds


_Days = dict[datetime.date, dict[int, _Slot]]


def patterns(observations: Iterable[VmObservation], zone: datetime.tzinfo | None = None) -> Patterns:
    """Those of one VM, from all that was seen of it, by the clock of `zone`, or else of this machine."""
    days = _slots(observations, zone)
    known = {
        date: {number: slot for number, slot in slots.items() if slot.seconds >= _SEEN} for date, slots in days.items()
    }
    return Patterns(_hours(known), _weekdays(known), _bursts(known), len(days))


def _slots(observations: Iterable[VmObservation], zone: datetime.tzinfo | None) -> _Days:
    days: _Days = {}
    for observation in observations:
        by_vdisk: dict[str, list[IoSample]] = {}
        for sample in observation.io:
            by_vdisk.setdefault(sample.vdisk, []).append(sample)
        for number, series in enumerate(by_vdisk.values()):
            for one, other in itertools.pairwise(series):
                seconds, written = other.at - one.at, other.write_bytes - one.write_bytes
                if not 0 < seconds <= _GAP or written < 0:
                    continue
                moment = datetime.datetime.fromtimestamp((one.at + other.at) / 2, zone)
                slot = days.setdefault(moment.date(), {}).setdefault(
                    (moment.hour * 60 + moment.minute) // _SLOT, _Slot()
                )
                slot.bytes += written
                # The VDISKs were looked at in the same time.
                slot.seconds += seconds if number == 0 else 0.0
    return days


def _hours(days: _Days) -> dict[int, Rate]:
    found: dict[int, Rate] = {}
    per_hour = 60 // _SLOT
    for hour in range(24):
        parts = range(hour * per_hour, (hour + 1) * per_hour)
        seen = [[slots[part] for part in parts if part in slots] for slots in days.values()]
        rates = [_mean(slots) for slots in seen if slots]
        if len(rates) >= FEWEST_DAYS:
            found[hour] = Rate(statistics.fmean(rates), max(rates), len(rates))
    return found


def _weekdays(days: _Days) -> dict[int, Rate]:
    rates: dict[int, list[float]] = {}
    for date, slots in days.items():
        if len(slots) >= _HOURS_OF_A_DAY * 60 // _SLOT:
            rates.setdefault(date.weekday(), []).append(_mean(list(slots.values())))
    return {
        day: Rate(statistics.fmean(seen), max(seen), len(seen))
        for day, seen in sorted(rates.items())
        if len(seen) >= FEWEST_WEEKS
    }


def _bursts(days: _Days) -> list[Burst]:
    """Slots of the day that are far above the usual on most days, neighbours together."""
    everything = [slot.rate for slots in days.values() for slot in slots.values()]
    if not everything:
        return []
    usual = statistics.median(everything)
    high = max(_BURST * usual, _QUIET)
    hits: list[tuple[int, list[float], int]] = []
    for number in range(_SLOTS):
        rates = [slots[number].rate for slots in days.values() if number in slots]
        above = [rate for rate in rates if rate >= high]
        if len(rates) >= FEWEST_DAYS and len(above) >= _OFTEN * len(rates):
            hits.append((number, above, len(rates)))
    found: list[Burst] = []
    for number, above, seen in hits:
        burst = Burst(number * _SLOT, (number + 1) * _SLOT, statistics.fmean(above), usual, len(above), seen)
        if found and found[-1].end == burst.begin:
            burst = _joined(found.pop(), burst)
        found.append(burst)
    return found


def _joined(one: Burst, other: Burst) -> Burst:
    first, second = one.end - one.begin, other.end - other.begin
    rate = (one.rate * first + other.rate * second) / (first + second)
    return Burst(one.begin, other.end, rate, one.usual, min(one.days, other.days), min(one.of, other.of))


def _mean(slots: Sequence[_Slot]) -> float:
    return sum(slot.bytes for slot in slots) / sum(slot.seconds for slot in slots)


def _clock(minutes: int) -> str:
    return f"{minutes // 60 % 24:02d}:{minutes % 60:02d}"
