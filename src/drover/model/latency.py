"""A VM's I/O latency: requests counted by how long they took, and how much longer they may take while it migrates."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from drover.errors import InputError
from drover.model.units import format_duration, parse_duration

_EXAMPLE = "write it as in +20%, +5ms or +20%,+5ms, or off"
_STEP = 1.1
BOUNDARIES = tuple(round(20_000 * _STEP**number) for number in range(140))
"""Nanoseconds between the bins of a histogram: 20 µs to 11 s in steps of 10 %."""


class LatencyBudget(BaseModel):
    """What replication may add to a VM's latency at p99. Each limit that is given holds; with none it may add any."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: float | None = Field(default=None, gt=0)
    """Of the latency without background replication: 0.2 is +20 %."""
    seconds: float | None = Field(default=None, gt=0)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The budget in `+20%`, `+5ms`, both with a comma between, or `off`. Raises InputError."""
        given: dict[str, float] = {}
        for part in [] if text == "off" else text.replace(" ", "").split(","):
            number = part.removeprefix("+")
            if number == part or not number[:1].isdigit():
                raise InputError(f"{text!r} is not a latency budget", remedy=_EXAMPLE)
            name = "share" if number.endswith("%") else "seconds"
            value = _percent(number) if name == "share" else parse_duration(number)
            if name in given or value <= 0:
                raise InputError(f"{text!r} is not a latency budget", remedy=_EXAMPLE)
            given[name] = value
        return cls(**given)

    def __bool__(self) -> bool:
        return self.share is not None or self.seconds is not None

    def __str__(self) -> str:
        parts = [] if self.share is None else [f"+{100 * self.share:g}%"]
        parts += [] if self.seconds is None else [f"+{format_duration(self.seconds).replace(' ', '')}"]
        return ",".join(parts) or "off"

    def limit(self, baseline: float) -> float:
        """Seconds that p99 may reach where it is `baseline` without background replication."""
        added = [] if self.share is None else [self.share * baseline]
        added += [] if self.seconds is None else [self.seconds]
        return baseline + min(added, default=float("inf"))


@dataclass(frozen=True, kw_only=True)
class Latencies:
    """Requests that were completed, a growing total: how many, their seconds in sum, and counts per bin if known."""

    requests: int = 0
    seconds: float = 0.0
    bins: tuple[int, ...] = ()
    """One more than BOUNDARIES; none where the hypervisor keeps no histogram."""

    @classmethod
    def sum(cls, parts: Sequence["Latencies"]) -> "Latencies":
        """All of them together; with bins if every one that counts a request has them."""
        busy = [part for part in parts if part.requests or part.bins]
        known = bool(busy) and all(part.bins for part in busy)
        return Latencies(
            requests=sum(part.requests for part in busy),
            seconds=sum(part.seconds for part in busy),
            bins=tuple(map(sum, zip(*(part.bins for part in busy), strict=True))) if known else (),
        )

    def since(self, before: "Latencies") -> "Latencies":
        """What came after `before`. A total that shrank was begun anew: then all of it."""
        if self.requests < before.requests:
            return self
        same = len(self.bins) == len(before.bins)
        return Latencies(
            requests=self.requests - before.requests,
            seconds=max(self.seconds - before.seconds, 0.0),
            bins=tuple(max(now - then, 0) for now, then in zip(self.bins, before.bins, strict=True)) if same else (),
        )

    @property
    def figure(self) -> float:
        """Seconds: the p99 where there are bins, else the mean; 0 of no request."""
        if not self.bins:
            return self.seconds / self.requests if self.requests else 0.0
        below = list(accumulate(self.bins))
        rank = 0.99 * below[-1]
        if not rank:
            return 0.0
        number = bisect_left(below, rank)
        low = BOUNDARIES[number - 1] if number else 0
        high = BOUNDARIES[min(number, len(BOUNDARIES) - 1)]
        within = (rank - (below[number] - self.bins[number])) / self.bins[number]
        return (low + (high - low) * within) / 1e9


def _percent(number: str) -> float:
    try:
        return float(number[:-1]) / 100
    except ValueError:
        raise InputError(f"{number!r} is not a percentage", remedy=_EXAMPLE) from None
