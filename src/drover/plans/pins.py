"""A row of batches that keeps every dependency and every pinned position, by whatever is preferred otherwise. No I/O.

Batches are jobs of unit length on one machine, a position is release time and deadline in one: taking the earliest
deadline, once deadlines are consistent with the dependencies, finds a row if there is one (Lawler 1973; Garey and
Johnson 1977). What is preferred is taken only while that leaves room for all that has a deadline.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import Any, Generic, Protocol, TypeVar

from drover.errors import InputError
from drover.model.order import Pin


class Placed(Protocol):
    """What of a batch matters for its place."""

    @property
    def name(self) -> str: ...

    @property
    def after(self) -> Sequence[str]: ...

    @property
    def pin(self) -> Pin | None: ...


_Batch = TypeVar("_Batch", bound=Placed)


def sequence(
    batches: Sequence[_Batch], preferred: Callable[[_Batch], Any] | None = None, *, begun: int = 0
) -> list[_Batch]:
    """The batches in a row; the smallest of `preferred` first where nothing else decides, or as they are.

    `begun` is how many have begun that are not among them: positions count these, and all are beyond them. An `after`
    that names none of them is met. Raises InputError that names the pin that cannot be kept.
    """
    keys = {
        batch.name: (place if preferred is None else preferred(batch), place) for place, batch in enumerate(batches)
    }
    pinned = _pinned(batches, begun)
    free = _Free(batches)
    if not pinned:
        return [free.take(name) for name in free.each(keys)]
    due = _deadlines(batches)
    row: list[_Batch] = []
    for position in range(begun + 1, begun + len(batches) + 1):
        may = [name for name in free.names if _position(free.left[name]) is None]
        if (here := pinned.get(position)) is not None:
            taken = here.name if here.name in free.names else None
        elif _is_tight(free.left, due, position, pinned):
            taken = min(may, key=lambda name: (due[name], keys[name]), default=None)
        else:
            taken = min(may, key=lambda name: keys[name], default=None)
        if taken is None or due[taken] < position:
            raise _refused(batches, row, position)
        row.append(free.take(taken))
    return row


class _Free(Generic[_Batch]):
    """Those that nothing left has to go before, as they are taken one after the other."""

    def __init__(self, batches: Sequence[_Batch]) -> None:
        self.left = {batch.name: batch for batch in batches}
        self._waits = {batch.name: {name for name in batch.after if name in self.left} for batch in batches}
        self._following: dict[str, list[str]] = {name: [] for name in self.left}
        for name, before in self._waits.items():
            for one in before:
                self._following[one].append(name)
        self.names = {name for name, before in self._waits.items() if not before}
        self._new: list[str] = []

    def take(self, name: str) -> _Batch:
        """Takes one of `names`."""
        self.names.remove(name)
        for following in self._following[name]:
            self._waits[following].discard(name)
            if not self._waits[following]:
                self.names.add(following)
                self._new.append(following)
        return self.left.pop(name)

    def each(self, keys: Mapping[str, Any]) -> Iterator[str]:
        """The one of the smallest key, each time; it has to be taken before the next."""
        heap = [(keys[name], name) for name in self.names]
        heapify(heap)
        while heap:
            yield heappop(heap)[1]
            while self._new:
                name = self._new.pop()
                heappush(heap, (keys[name], name))


def _position(batch: Placed) -> int | None:
    return None if batch.pin is None else batch.pin.position


def _pinned(batches: Sequence[_Batch], begun: int) -> dict[int, _Batch]:
    found: dict[int, _Batch] = {}
    last = begun + len(batches)
    for batch in batches:
        if (position := _position(batch)) is None:
            continue
        if position > last:
            raise InputError(
                f"{batch.name} is pinned to position {position}, and the plan has {last} groups and single VMs",
                remedy=f"give it one of 1 to {last}",
            )
        if position in found:
            raise InputError(
                f"{found[position].name} and {batch.name} are both pinned to position {position}",
                remedy="give each a position of its own",
            )
        found[position] = batch
    return found


def _deadlines(batches: Sequence[Placed]) -> dict[str, float]:
    """The last position of each from which all that comes after it can still be in time."""
    due = {batch.name: float(_position(batch) or math.inf) for batch in batches}
    changed = any(math.isfinite(one) for one in due.values())
    while changed:
        changed = False
        for batch in batches:
            for name in batch.after:
                if due.get(name, -math.inf) > due[batch.name] - 1:
                    due[name], changed = due[batch.name] - 1, True
    return due


def _is_tight(left: dict[str, Any], due: dict[str, float], position: int, pinned: dict[int, Any]) -> bool:
    """Whether every free position up to some deadline is needed for what is due by then."""
    dates = sorted(due[name] for name, batch in left.items() if _position(batch) is None and math.isfinite(due[name]))
    for count, date in enumerate(dates, 1):
        if count >= sum(place not in pinned for place in range(position, int(date) + 1)):
            return True
    return False


def _refused(batches: Sequence[Placed], row: Sequence[Placed], position: int) -> InputError:
    """Of the first pin that cannot be kept, why."""
    by_name = {batch.name: batch for batch in batches}
    placed = {batch.name for batch in row}
    late = min(
        (batch for batch in batches if (_position(batch) or 0) >= position), key=lambda batch: _position(batch) or 0
    )
    before, left = list(late.after), []
    while before:
        name = before.pop()
        if name in by_name and name not in placed and name not in left:
            left.append(name)
            before += by_name[name].after
    where = f"{late.name} is pinned to position {_position(late)}"
    if left:
        return InputError(
            f"{where}, but what it comes after cannot all begin before that: {', '.join(sorted(left))}",
            remedy="pin it to a later position, or take a pin or an `after` out",
        )
    return InputError(
        f"{where}, but nothing else may begin at position {position}", remedy="pin it to an earlier position"
    )
