"""Whose turn it is, and what each of the others waits for. No I/O.

A batch begins when what it comes after has finished, when its time has come, and as a whole: when all of its VMs find
room, or nothing else is where they need room. What waits for room is overtaken only by what needs other room, so that
large ones do not wait forever. A pinned position holds: what comes before it in the row begins before it, what comes
after it does not.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from drover.model.order import Pin
from drover.model.units import format_moment
from drover.plans.needs import Resource, fits

PLAN = Resource("plan", "")
"""What `at_once` limits."""


class Waiting(Protocol):
    """What of a batch matters for its turn."""

    @property
    def name(self) -> str: ...

    @property
    def after(self) -> Collection[str]: ...

    @property
    def pin(self) -> Pin | None: ...

    @property
    def room(self) -> Mapping[Resource, int]: ...


_Batch = TypeVar("_Batch", bound=Waiting)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a plan stands. Names are those of batches."""

    now: float
    """Unix seconds."""
    load: Mapping[Resource, int]
    """What those that have begun use."""
    most: Mapping[str, int]
    """By kind of resource."""
    begun: Set[str] = frozenset()
    finished: Set[str] = frozenset()
    lost: Set[str] = frozenset()
    """Those that did not finish and will not by themselves, with all that comes after them."""


@dataclass
class Chosen(Generic[_Batch]):
    """What begins now, and why each of the others does not."""

    begin: list[_Batch] = field(default_factory=list)
    waits: dict[str, str] = field(default_factory=dict)
    wake: float | None = None
    """When it is worth to look again, even if nothing happens until then; Unix seconds."""


def turns(row: Sequence[_Batch], standing: Standing, *, in_words: bool = True) -> Chosen[_Batch]:
    """Of a row of batches, those that begin now, in that order.

    Without `in_words` the looking ends as soon as nothing more can begin, and what waits is not told.
    """
    chosen: Chosen[_Batch] = Chosen()
    load = Counter(standing.load)
    kept: dict[Resource, str] = {}
    fence: _Batch | None = None
    ahead: str | None = None
    for batch in row:
        if batch.name in standing.begun or batch.name in standing.finished:
            continue
        if batch.name in standing.lost:
            chosen.waits[batch.name] = _lost(batch, standing)
            continue
        if fence is not None:
            chosen.waits[batch.name] = f"begins after {fence.name}, which is pinned before it"
            continue
        pinned = batch.pin is not None and batch.pin.position is not None
        reason = _closed(batch, standing, ahead if pinned else None, chosen)
        if reason is None and (lacking := _lacking(load, kept, batch, standing.most)):
            resource = lacking[0]
            reason = _full(resource, standing, load, batch.room[resource], kept.get(resource)) if in_words else ""
            for one in lacking:
                kept.setdefault(one, batch.name)
        if reason is None:
            chosen.begin.append(batch)
            load.update(batch.room)
            continue
        chosen.waits[batch.name] = reason
        ahead = ahead or batch.name
        fence = batch if pinned else fence
        if not in_words and (PLAN in kept or fence is not None):
            break
    return chosen


def _lacking(
    load: Mapping[Resource, int], kept: Mapping[Resource, str], batch: Waiting, most: Mapping[str, int]
) -> list[Resource]:
    lacking = fits(load, batch.room, most)
    return lacking + [one for one in batch.room if one in kept and one not in lacking] if kept else lacking


def _closed(batch: Waiting, standing: Standing, ahead: str | None, chosen: Chosen[_Batch]) -> str | None:
    """Why it would not begin even if there were room."""
    if ahead is not None:
        assert batch.pin is not None
        return f"pinned to position {batch.pin.position}: {ahead} begins first"
    if missing := [name for name in batch.after if name not in standing.finished]:
        return f"waits for {', '.join(missing)}"
    at = None if batch.pin is None else batch.pin.not_before_at
    if at is not None and at > standing.now:
        chosen.wake = at if chosen.wake is None else min(chosen.wake, at)
        return f"does not begin before {format_moment(at)}"
    return None


def _full(resource: Resource, standing: Standing, load: Mapping[Resource, int], room: int, kept: str | None) -> str:
    count, cap = load.get(resource, 0), standing.most[resource.kind]
    if kept is not None and (not count or count + room <= cap):
        return f"{kept} is before it, and waits for room: {resource}"
    return f"the plan has {count} of {cap} at once" if resource == PLAN else f"{resource} has {count} of {cap}"


def _lost(batch: Waiting, standing: Standing) -> str:
    missing = [name for name in batch.after if name in standing.lost]
    return f"{', '.join(missing)} did not finish" if missing else "it did not finish"
