"""The windows of an observation: one dirty bitmap each, cleared when it is over, and when its count is worth keeping.

A bitmap's count at each age is a point of the curve of distinct bytes, so one of 60 s gives those of 20, 30 and 60 s.
One bitmap is never cleared: its count is the curve from the beginning. No I/O.
"""

from dataclasses import dataclass

FOREVER = 0.0
"""The window that is never cleared."""
_MARKS: dict[float, tuple[float, ...]] = {
    1: (1,),
    10: (2, 3, 5, 10),
    60: (20, 30, 60),
    600: (120, 180, 300, 600),
    3600: (1200, 1800, 3600),
}
"""Seconds: the length of each window, and the ages that it is recorded at."""
_YOUNG = 60.0
"""Seconds for which the one that is never cleared is recorded each time; later its curve is as flat as it is long."""
_GROWTH = 1.05
_FINE = 600.0
"""Seconds for which a VM is looked at each second, then each ten: a day of it is 17,280 rows for each VDISK."""
_EARLY = 0.2
"""Seconds that a look may come too early: the one before was late."""


def windows(seconds: float) -> tuple[float, ...]:
    """Lengths of the windows worth having in an observation of so many seconds: each comes twice at least."""
    return (FOREVER, *(window for window in _MARKS if 2 * window <= seconds))


def interval(elapsed: float) -> float:
    """Seconds until the next look."""
    return 1.0 if elapsed < _FINE else 10.0


@dataclass
class Window:
    """One window of one VM. Times are seconds of any clock that does not jump."""

    length: float
    since: float
    """When its bitmap was cleared last."""
    recorded: float = 0.0
    """Its age at the latest record."""

    def is_due(self, now: float, every: float) -> bool:
        """Whether its count is worth a record; `every` is how often somebody looks."""
        age = now - self.since
        if self.length == FOREVER:
            return age > 0 and (age < _YOUNG or age >= _GROWTH * self.recorded)
        marks = _MARKS[self.length]
        return self._is_of_use(every) and any(self.recorded + _EARLY < mark <= age + _EARLY for mark in marks)

    def is_over(self, now: float, every: float) -> bool:
        """Whether it is to be cleared."""
        return self.length != FOREVER and self._is_of_use(every) and now - self.since >= self.length - _EARLY

    def _is_of_use(self, every: float) -> bool:
        """One that is shorter than the time between two looks tells what the next longer one tells as well."""
        return every <= self.length

    def record(self, now: float) -> float:
        """Its age, which is recorded now."""
        self.recorded = now - self.since
        return self.recorded

    def clear(self, now: float) -> None:
        """Its bitmap is empty."""
        self.since, self.recorded = now, 0.0
