"""Settings of a migration as an administrator writes them, on the command line and in a plan: texts, checked alike."""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, StrictBool, WithJsonSchema

from drover.errors import InputError
from drover.model.bandwidth import Bandwidth, OrLimit, Rate, parse_limit
from drover.model.latency import LatencyBudget
from drover.model.migration import Cutover, OnReadError
from drover.model.texts import misplaced as misplaced
from drover.model.texts import refused as refused
from drover.model.texts import text
from drover.model.units import parse_duration, parse_rate

COMPRESSIONS = ("auto", "none", "lz4", "zstd")
_MOST_CONNECTIONS = 64


def _positive(text: str) -> float:
    seconds = parse_duration(text)
    if seconds <= 0:
        raise InputError(f"{text} is no time at all", remedy="give at least 1ms")
    return seconds


def _one_of(words: tuple[str, ...], what: str) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if value not in words:
            raise refused(f"{value!r} is not {what}", f"use one of {', '.join(words)}")
        return value

    return check


def _connections(value: Any) -> int:
    number = int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 9 else value
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= _MOST_CONNECTIONS:
        raise refused(f"{value} connections are not possible", f"use 1 to {_MOST_CONNECTIONS}")
    return number


def _switch(value: Any) -> Any:
    """As the texts of a plan say it."""
    return (
        {"true": True, "yes": True, "false": False, "no": False}.get(value, value) if isinstance(value, str) else value
    )


def _choice(words: tuple[str, ...], what: str) -> tuple[Any, ...]:
    return BeforeValidator(_one_of(words, what)), WithJsonSchema({"enum": list(words)})


Wait = Annotated[str, *text(parse_duration, "10s", "5m", bare=True)]
"""A duration that may be none at all."""
_Duration = Annotated[str, *text(_positive, "500ms", "30s", "5m", bare=True)]
_Latency = Annotated[str, *text(LatencyBudget.parse, "+20%", "+5ms", "+20%,+5ms", "off")]
Switch = Annotated[StrictBool, BeforeValidator(_switch)]


class Settings(BaseModel):
    """What was given of the settings of a migration; what is None was left out. `given()` has their values."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cutover: Annotated[Cutover, *_choice(tuple(Cutover), "a cutover mode")] | None = None
    max_downtime: _Duration | None = None
    target_time: _Duration | None = None
    shutdown_timeout: _Duration | None = None
    bandwidth: Annotated[Bandwidth, OrLimit()] | None = None
    max_latency: _Latency | None = None
    write_backpressure: Switch | None = None
    write_floor: Rate | None = None
    on_read_error: Annotated[OnReadError, *_choice(tuple(OnReadError), "an answer to read errors")] | None = None
    connections: (
        Annotated[
            int,
            BeforeValidator(_connections),
            WithJsonSchema({"type": "integer", "minimum": 1, "maximum": _MOST_CONNECTIONS}),
        ]
        | None
    ) = None
    compression: Annotated[str, *_choice(COMPRESSIONS, "a compression")] | None = None
    destination_address: str | None = None
    rest_by_network: Switch | None = None

    def given(self, timezone: str | None = None) -> dict[str, Any]:
        """The fields of a Spec: durations as seconds, rates as bytes/s. What was left out is absent.

        `timezone` is that of hours that name none. Raises InputError if they need it.
        """
        said = {name: _PARSERS[name](value) if name in _PARSERS else value for name, value in self if value is not None}
        if self.bandwidth is not None:
            said["bandwidth"] = parse_limit(self.bandwidth.limit)
            said["bandwidth_schedule"] = tuple(hours.at_home(timezone) for hours in self.bandwidth.schedule)
        return said


_PARSERS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("max_downtime", "target_time", "shutdown_timeout"), parse_duration),
    "write_floor": parse_rate,
    "max_latency": LatencyBudget.parse,
}
