"""What of a VM's profile is different at the destination: its name, processors, memory, addresses, when it starts."""

import re
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, WithJsonSchema

from drover.errors import InputError
from drover.model.texts import refused, text
from drover.model.units import format_size, parse_size

LEAST_MEMORY = 16 << 20
"""Bytes below which no guest of today boots."""
MOST_CPUS = 4096
_PLACE = "{name}"
_NAME = re.compile(r"^[^/\x00-\x1f\x7f]{1,255}$")
"""What libvirt takes: names become names of files."""


class Mac(StrEnum):
    """Addresses of the VM's interfaces."""

    KEEP = "keep"
    NEW = "new"


class Start(StrEnum):
    """What becomes of a VM that ran at the source."""

    KEEP = "keep"
    """It runs."""
    OFF = "off"
    """It stays shut off until somebody starts it."""


class Autostart(StrEnum):
    """Whether it starts with its host."""

    KEEP = "keep"
    ON = "on"
    OFF = "off"


def _memory(text: str) -> int:
    size = parse_size(text)
    if size < LEAST_MEMORY:
        raise InputError(
            f"{text} are {format_size(size)}: no VM starts with less than {format_size(LEAST_MEMORY)} of memory",
            remedy="give it more, as in 4GiB",
        )
    return size


def _cpus(value: Any) -> int:
    number = int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 9 else value
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MOST_CPUS:
        raise refused(f"{value!r} is not a number of processors", f"use 1 to {MOST_CPUS}")
    return number


def _name(pattern: str) -> str:
    rest = pattern.replace(_PLACE, "")
    if "{" in rest or "}" in rest:
        raise refused(f"{pattern!r} has braces that are not {_PLACE}", f"write it as in {_PLACE}-new")
    if not _NAME.match(pattern) or pattern != pattern.strip():
        raise refused(f"{pattern!r} cannot be the name of a VM", f"write it as in {_PLACE}-new, without /")
    return pattern


def _either(kind: type[StrEnum]) -> tuple[Any, ...]:
    words = [str(one) for one in kind]

    def check(value: Any) -> Any:
        # As in every switch of a plan.
        value = {"yes": "on", "no": "off", "true": "on", "false": "off"}.get(value, value) if "on" in words else value
        if value not in words:
            raise refused(f"{value!r} is none of {', '.join(words)}", f"use one of {', '.join(words)}")
        return value

    return BeforeValidator(check), WithJsonSchema({"enum": words})


class Profile(BaseModel):
    """What is said of a VM's profile; what is None is as an outer one says, or else as it was at the source."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: Annotated[str, AfterValidator(_name)] | None = None
    """`{name}` stands for the one at the source, as in `{name}-new`."""
    cpus: (
        Annotated[
            int,
            BeforeValidator(_cpus),
            WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MOST_CPUS}),
        ]
        | None
    ) = None
    memory: Annotated[str, *text(_memory, "4GiB")] | None = None
    mac: Annotated[Mac, *_either(Mac)] | None = None
    """`new`: other addresses than at the source, which is kept; the same ones in each try of a migration."""
    start: Annotated[Start, *_either(Start)] | None = None
    """`off`: it is shut down at the source, and somebody starts it."""
    autostart: Annotated[Autostart, *_either(Autostart)] | None = None

    def over(self, outer: Self) -> Self:
        """This one, with what the outer one says where it says nothing."""
        return outer.model_copy(update={name: value for name, value in self if value is not None})

    def named(self, name: str) -> str:
        """The name at the destination."""
        return name if self.name is None else self.name.replace(_PLACE, name)

    @property
    def memory_bytes(self) -> int | None:
        return None if self.memory is None else parse_size(self.memory)

    @property
    def off(self) -> bool:
        return self.start is Start.OFF

    def changes(self, name: str) -> list[str]:
        """What a VM of this name cannot take along while it runs, by the words of a plan."""
        said = {
            "name": self.named(name) != name,
            "cpus": self.cpus is not None,
            "memory": self.memory is not None,
            "mac": self.mac is Mac.NEW,
        }
        return [word for word, differs in said.items() if differs]
