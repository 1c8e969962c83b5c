"""Maintenance windows of a migration: it cuts over while one is open and leaves the time that this takes, not else."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from drover.errors import InputError
from drover.model.group import Group
from drover.model.hours import Span, current, shown
from drover.model.migration import Migration
from drover.model.units import format_duration
from drover.replicator.gate import START_SECONDS
from drover.store import GroupStore, LiveStore, MigrationStore

_SLACK = 2.0
"""Seconds of a window that are left unused: the members of a group look at it half a second apart."""


class CutoverWindow:
    """Says whether a cutover may begin. `clock` gives Unix seconds."""

    def __init__(self, migration: Migration, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._migration = migration
        self._groups, self._live = GroupStore(folder), LiveStore(folder)
        self._clock = clock

    def waits_for(self, predicted: float) -> str | None:
        """None if a cutover that takes `predicted` seconds may begin now, else which window it waits for."""
        windows = self._migration.spec.windows
        if not windows or self._live.is_free_of_windows(self._migration.id):
            return None
        now, zone = self._clock(), windows[0].timezone
        needed = predicted + self._turns() + _SLACK
        span = current(windows, now)
        if span is not None and span.holds(now):
            if now + needed <= span.ends:
                return None
            following = current(windows, span.ends)
            left = f"the window that closes {shown(span.ends, zone)} is too short for the {format_duration(needed)}"
            return f"ready; {left} that the cutover takes; waiting for {self._named(following, now, zone)}"
        return f"ready; waiting for {self._named(span, now, zone)}"

    def _named(self, span: Span | None, now: float, zone: str | None) -> str:
        if span is None:
            return "a window, and none comes within a week"
        group = self._groups.of(self._migration.id)
        unless = f"`drover approve {group.id if group else self._migration.id} --now` does not wait for it"
        return f"the window that opens {shown(span.begins, zone)}, in {format_duration(span.begins - now)}; {unless}"

    def _turns(self) -> float:
        """Seconds from the first start at the destination to the last: a group is down until all of it runs."""
        group = self._groups.of(self._migration.id)
        return 0.0 if group is None else turns(group)


class Outside:
    """The time that a migration waits outside its windows: no target time counts it. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: float | None = None
        self._passed = 0.0
        self._told = False
        self.ready = False
        """Nothing else but a window kept it from cutting over when that was judged last."""

    @property
    def seconds(self) -> float:
        return self._passed + (0.0 if self._since is None else self._clock() - self._since)

    def look(self, window: str | None, *, ready: bool | None) -> bool:
        """Notes whether a window is waited for; true if that is news. `ready` is None where it was not judged."""
        self.ready = self.ready if ready is None else ready
        waits = window is not None and self.ready
        if waits and self._since is None:
            self._since = self._clock()
        elif not waits and self._since is not None:
            self._passed, self._since = self.seconds, None
        news = waits and not self._told
        self._told = waits
        return news


def free_of_windows(store: MigrationStore, migrations: Iterable[str], by: str) -> None:
    """Lets these migrations cut over outside their windows, and notes in their stories who said so.

    Raises InputError if they wait for none.
    """
    found = [store.get(migration) for migration in migrations]
    waiting = [one for one in found if one.spec.windows and not one.state.ended]
    if not waiting:
        names = ", ".join(one.spec.vm for one in found)
        raise InputError(f"{names} waits for no window", remedy="`drover status` says what migrations wait for")
    live = LiveStore(store.folder)
    for one in waiting:
        if live.free_of_windows(one.id, by):
            store.note(one, f"{by}: it may cut over outside its windows")


def turns(group: Group) -> float:
    """Seconds that the turns of a group take, beyond the start of the first."""
    delays = {member.turn: member.delay for member in sorted(group.members, key=lambda one: (one.turn, one.delay))}
    first = min(delays, default=0)
    return sum(START_SECONDS + delay for turn, delay in delays.items() if turn != first)
