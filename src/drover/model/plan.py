"""A plan: which VMs and groups go where, with which mappings and settings, in which order, as its file says it."""

from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from drover.model.hours import Hours, Zone
from drover.model.order import Limits, Pin, Priority, unkept
from drover.model.profile import Profile
from drover.model.settings import Settings, Switch, Wait, misplaced, refused

AT_ONCE = 4
_LONGEST = 255


def _word(text: str) -> str:
    if not text.isprintable() or not text or text != text.strip():
        raise refused(f"{text!r} is not a name", "write it without control characters and blanks around it")
    return text


def _version(value: object) -> object:
    if value not in (1, "1"):
        raise refused(f"{value!r} is not a version of plans that is known here", "write version: 1")
    return 1


Word = Annotated[str, Field(max_length=_LONGEST), AfterValidator(_word)]
"""A name at a site."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
"""A name of the plan's own."""
_WORDS = "Names, UUIDs or patterns with * ? [..]; of labels: tag:…, folder:… (with all in it), title:…, description:…"
Vms = Annotated[tuple[Word, ...], Field(min_length=1, description=_WORDS)]
Excluded = Annotated[tuple[Word, ...], Field(alias="except", description=f"Of these VMs, those not meant. {_WORDS}")]


class _Part(BaseModel):
    # The docstrings of the fields are in the schema.
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, use_attribute_docstrings=True)


class Aims(_Part):
    """Where VMs go and how. What an inner one says (a group's, an exception's) holds before what an outer one says."""

    networks: dict[Word, Word] = {}
    """Destination network by source network."""
    pools: dict[Word, Word] = {}
    """Destination pool by VDISK; `*` is all of them."""
    formats: dict[Word, Literal["raw", "qcow2"]] = {}
    """Destination format by VDISK; `*` is all of them."""
    settings: Settings = Settings()
    profile: Profile = Profile()
    windows: tuple[Hours, ...] | None = None
    """When VMs may cut over; an empty list: at any time. Until then they replicate."""


class Turn(_Part):
    """VMs of a group that start at the same time at the destination."""

    vms: Vms
    after: Wait | None = None
    """How long after the turn before."""


class Group(Aims):
    """VMs that are replicated together and power on together."""

    group: Name
    vms: Vms
    excluded: Excluded = ()
    power_on: tuple[Turn, ...] = ()
    """Who starts first; VMs that no turn names start after all that are named."""
    after: tuple[Name, ...] = ()
    """Groups that must have finished before this one begins."""
    approval: Switch | None = None
    """Whether its cutover waits for `drover approve`. At a management server groups wait if this is left out."""
    priority: Priority = 0
    """Of what may begin, what has the larger one goes first; what it comes after counts as much as itself."""
    pin: Pin | None = None


class Override(Aims):
    """What is different for some VMs."""

    vms: Vms
    excluded: Excluded = ()
    priority: Priority | None = None
    """Of VMs that go each for itself, as a group's."""
    pin: Pin | None = None
    """Of a VM that goes for itself."""


class Plan(Aims):
    """What an organisation hands to Drover. `from` and `to` are sites, as libvirt names them."""

    version: Annotated[Literal[1], BeforeValidator(_version)]
    plan: Name
    source: Word = Field(alias="from")
    destination: Word = Field(alias="to")
    timezone: Zone | None = None
    """Of all hours in the plan that name none."""
    at_once: int = Field(default=AT_ONCE, ge=1)
    """VMs that are migrated at the same time."""
    limits: Limits = Limits()
    groups: tuple[Group, ...] = ()
    vms: Annotated[tuple[Word, ...], Field(description=f"VMs that go each for itself. {_WORDS}")] = ()
    excluded: Annotated[tuple[Word, ...], Field(alias="except", description="VMs that the plan leaves alone")] = ()
    exceptions: tuple[Override, ...] = ()
    """The last one that names a VM wins."""

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        if not self.groups and not self.vms:
            raise misplaced("the plan names no VM", "list some under vms: or groups:", ())
        if self.source.rstrip("/") == self.destination.rstrip("/"):
            raise misplaced("the source and the destination are the same site", "give two sites", ("to",))
        self._knows_what_time_it_is()
        known: dict[str, int] = {}
        for number, group in enumerate(self.groups):
            if group.group in known:
                raise misplaced(
                    f"there are two groups {group.group!r}", "give each a name of its own", ("groups", number, "group")
                )
            known[group.group] = number
            if group.power_on and group.power_on[0].after is not None:
                raise misplaced(
                    "the first turn has none before it", "leave `after` out of it", ("groups", number, "power_on", 0)
                )
        for number, group in enumerate(self.groups):
            for place, name in enumerate(group.after):
                if name not in known:
                    choice = ", ".join(known)
                    raise misplaced(
                        f"there is no group {name!r}", f"its groups are {choice}", ("groups", number, "after", place)
                    )
        if circle := _circle({group.group: group.after for group in self.groups}):
            raise misplaced(
                f"these groups wait for each other: {' after '.join(circle)}",
                "take one `after` out",
                ("groups", known[circle[0]], "after"),
            )
        positions = {g.group: g.pin.position for g in self.groups if g.pin and g.pin.position}
        if (wrong := unkept({group.group: group.after for group in self.groups}, positions)) is not None:
            raise misplaced(wrong[1], "pin it to another position", ("groups", known[wrong[0]], "pin"))
        return self

    def _knows_what_time_it_is(self) -> None:
        if self.timezone is not None:
            return
        parts: list[tuple[tuple[str | int, ...], Aims]] = [((), self)]
        parts += [(("groups", number), group) for number, group in enumerate(self.groups)]
        parts += [(("exceptions", number), override) for number, override in enumerate(self.exceptions)]
        for place, part in parts:
            bandwidth = part.settings.bandwidth
            for where, several in (
                (("windows",), part.windows or ()),
                (("settings", "bandwidth", "schedule"), () if bandwidth is None else bandwidth.schedule),
            ):
                for number, hours in enumerate(several):
                    if hours.timezone is None:
                        raise misplaced("in which time zone?", _ZONE, (*place, *where, number))


_ZONE = "add timezone to the plan, as in timezone: Europe/Zurich"


def _circle(after: dict[str, Iterable[str]]) -> list[str]:
    """Groups of which each begins after the next, the first again at the end; empty if there are none."""
    done: set[str] = set()
    for start in after:
        way: list[str] = [start]
        turns = [iter(after[start])]
        while turns:
            following = next((name for name in turns[-1] if name not in done), None)
            if following is None:
                turns.pop()
                done.add(way.pop())
            elif following in way:
                return [*way[way.index(following) :], following]
            else:
                way.append(following)
                turns.append(iter(after[following]))
    return []
