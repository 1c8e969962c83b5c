"""How much of the link a migration may use: a limit, and others at some hours of the week. No I/O."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, model_serializer, model_validator
from pydantic_core import CoreSchema

from drover.model.hours import Hours, current
from drover.model.texts import text
from drover.model.units import parse_rate

OFF = "off"


def parse_limit(text: str) -> int | None:
    """Bytes/s, or None for `off`. Raises InputError."""
    return None if text == OFF else parse_rate(text)


Rate = Annotated[str, *text(parse_rate, "200mbit", "25MB/s")]
_Limit = Annotated[str, *text(parse_limit, "50mbit", OFF)]


class LimitedHours(Hours):
    """A limit at some hours of the week."""

    limit: _Limit
    """`off` is none."""

    def __str__(self) -> str:
        return f"{self.limit} {super().__str__()}"


class Bandwidth(BaseModel):
    """A limit that follows the clock; without a schedule it is written as the limit alone."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    limit: _Limit = OFF
    """At all other hours."""
    schedule: tuple[LimitedHours, ...] = ()
    """Of those that hold at the same time the last one counts."""

    @model_validator(mode="before")
    @classmethod
    def _alone(cls, value: Any) -> Any:
        return value if isinstance(value, dict | Bandwidth) else {"limit": value}

    @model_serializer(mode="wrap")
    def _written(self, handler: Any) -> Any:
        return handler(self) if self.schedule else self.limit


class OrLimit:
    """In the schema of a Bandwidth: it may be a limit alone."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "examples": ["200mbit", "25MB/s"]}, handler(schema)]}


def limit_at(limit: int | None, schedule: Sequence[LimitedHours], at: float) -> int | None:
    """Bytes/s that may be used at an instant (Unix seconds), None for no limit; `limit` is that of all other hours."""
    for hours in reversed(schedule):
        span = current([hours], at)
        if span is not None and span.holds(at):
            return parse_limit(hours.limit)
    return limit
