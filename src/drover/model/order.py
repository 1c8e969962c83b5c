"""What a plan says of the order in which its VMs and groups begin: limits, priorities, pins."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from drover.model.settings import refused


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def _with_offset(text: str) -> str:
    example = "write it as 2026-12-05T22:00:00+01:00"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise refused(f"{text!r} is not a date with a time", example) from None
    if moment.tzinfo is None:
        raise refused(f"{text!r} does not say its offset from UTC", example)
    return text


Moment = Annotated[
    str,
    AfterValidator(_with_offset),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-12-05T22:00:00+01:00"]}),
]
"""A date with a time and its offset from UTC, as it was written."""
Priority = Annotated[int, Field(ge=-100, le=100)]
Many = Annotated[int, Field(ge=1)]


class Limits(_Part):
    """How many migrations there may be at the same time; what is left out is not limited.

    What is larger than a limit by itself, a group of five where two may be, goes when nothing else does there.
    """

    per_host: Many | None = None
    """At one source host, those of this plan that copy; at one destination host, those of all plans that cut over."""
    per_pool: Many | None = None
    """The same for one pool: what VDISKs are read from, or written to."""
    per_link: Many | None = None
    """Between one host and another, from beginning to end."""


class Pin(_Part):
    """When something begins, set by hand. The rest is worked out around it."""

    position: Many | None = None
    """It is the first, the second, … to begin of all that the plan has: groups, and VMs that go each for itself."""
    not_before: Moment | None = None
    """It does not begin earlier."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.position is None and self.not_before is None:
            raise refused("the pin says nothing", "give it a position, or not_before")
        return self

    @property
    def not_before_at(self) -> float | None:
        """`not_before` as Unix seconds."""
        return None if self.not_before is None else datetime.fromisoformat(self.not_before).timestamp()


def unkept(after: Mapping[str, Sequence[str]], positions: Mapping[str, int]) -> tuple[str, str] | None:
    """The first group whose pinned position cannot be kept, whatever else the plan has, and why; None if there is none.

    `after` is by group; `positions` are of those that are pinned to one.
    """
    taken: dict[int, str] = {}
    for name, position in positions.items():
        if position in taken:
            return name, f"{taken[position]} and {name} are both pinned to position {position}"
        taken[position] = name
        before: set[str] = set()
        left = list(after[name])
        while left:
            if (one := left.pop()) not in before:
                before.add(one)
                left += after[one]
        late = [one for one in before if positions.get(one, 0) > position]
        if late or len(before) >= position:
            first = ", ".join(sorted(late or before))
            return name, f"{name} is pinned to position {position}, and comes after {first}"
    return None
