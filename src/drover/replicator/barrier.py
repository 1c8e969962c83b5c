"""One migration's side of its group's barrier: all are ready, all stand still, all can start, then all start.

Each member is a process of its own; they meet in the database (`store/groups.py`). Without a group nothing waits, nor
for a VM whose group has started without it.
"""

import time
from pathlib import Path

from drover.errors import DroverError, GroupError
from drover.model.group import Group, Mark, Phase
from drover.model.migration import Migration
from drover.store import CutoverStore, GroupStore

_POLL = 0.05
_KEEP = 1.0
"""Seconds after which a ready member says again that it is alive and ready."""
_PATIENCE = 3.0
"""The others may keep a VM standing for this many times its maximum downtime, and for a minute at least."""


class Barrier:
    """What a migration says to its group and waits for."""

    def __init__(self, migration: Migration, folder: Path) -> None:
        self._migration = migration
        self._store = GroupStore(folder)
        self._places = CutoverStore(folder)
        self._held: str | None = None
        self.attempt: int | None = None
        """Of the group's cutover that may begin; None for a VM that goes alone."""
        self._fits = False
        self._said_at = -_KEEP

    def begin(self) -> None:
        """The VM runs at the source, whatever an earlier run of this migration had told its group."""
        group = self._store.of(self._migration.id)
        if group is None or group.member(self._migration.id).mark is Mark.REPLICATING:
            return
        self._take_back(group, "its migration was interrupted")
        self._say(Mark.OUT if self._alone(group) else Mark.REPLICATING)

    def waits_for(self, fits: bool | None, window: str | None = None) -> str | None:
        """None once the cutover may begin; else why not yet.

        `fits` is None at looks that judge no cutover; `window` is why a maintenance window does not let it begin.
        """
        group = self._store.of(self._migration.id)
        self._fits = self._fits if fits is None else fits
        if group is None or self._alone(group):
            self.attempt = None
            return self._places.take([self._migration.id]) if fits and window is None else window
        if not self._fits:
            if group.member(self._migration.id).mark in (Mark.READY, Mark.WAITING):
                self._say(Mark.REPLICATING)
            return "its own gate is shut"
        if window is not None and group.phase is Phase.GATHERING:
            if group.member(self._migration.id).mark is not Mark.WAITING:
                self._say(Mark.WAITING)
            self._said_at = -_KEEP
            if self._store.waits_for_approval(group.id):
                window += f"; the group {group.name} also waits for approval: `drover approve {group.id}`"
            return window
        if time.monotonic() - self._said_at >= _KEEP and group.phase is Phase.GATHERING:
            self._say(Mark.READY)
            group = self._store.get(group.id)
            self._held = self._held_by(group)
            if self._held is None:
                self._store.advance(group.id, attempt=group.attempt, phase=Phase.GATHERING)
                group = self._store.get(group.id)
        if group.phase is not Phase.GATHERING:
            # Should it be taken back before this VM stands still, its number tells.
            self.attempt = group.attempt
            return None
        return f"ready; {self._held or f'the group {group.name} waits for all to say so at the same time'}"

    def _held_by(self, group: Group) -> str | None:
        """Why the group cannot cut over though this VM is ready; None takes places for all of it."""
        if behind := ", ".join(group.behind(Mark.READY)):
            return f"the group {group.name} waits for {behind}"
        if self._store.waits_for_approval(group.id):
            return f"the group {group.name} waits for approval: `drover approve {group.id}`"
        return self._places.take([member.migration for member in group.members if member.mark is not Mark.OUT])

    def stands_still(self) -> None:
        """Returns when all do, verified. Raises GroupError if the cutover was taken back."""
        self._pass(Phase.STOPPING, Mark.VERIFIED)

    def can_start(self) -> None:
        """Returns when all can: from now on no way leads back. Raises GroupError if the cutover was taken back."""
        self._pass(Phase.LEAVING, Mark.ARRIVED)

    def wait_for_turn(self) -> str | None:
        """Returns when the VMs that start before this one run, and its delay is over; else which of them never did."""
        group = self._store.of(self._migration.id)
        if group is None or self._alone(group):
            return None
        own = group.member(self._migration.id)
        deadline = time.monotonic() + self._patience + own.delay
        while True:
            before = [member for member in group.members if member.turn < own.turn]
            late = [member.vm for member in before if member.mark < Mark.RUNNING]
            if not late and time.time() >= max((member.marked_at for member in before), default=0.0) + own.delay:
                return None
            if time.monotonic() > deadline:
                return ", ".join(late)
            time.sleep(_POLL)
            group = self._store.get(group.id)

    def runs(self) -> None:
        """The VM has started at the destination."""
        self._say(Mark.RUNNING)

    def failed(self, error: BaseException) -> None:
        """The VM runs at the source; so will the others of its group, if they have not started."""
        group = self._store.of(self._migration.id)
        self._fits = False
        if group is None:
            return
        if not self._alone(group):
            what = error.message if isinstance(error, DroverError) else "interrupted"
            self._take_back(group, what)
        self._say(Mark.OUT if self._alone(group) else Mark.REPLICATING)

    def leave(self) -> None:
        """The group goes on without this VM."""
        if group := self._store.of(self._migration.id):
            self._take_back(group, "its migration was cancelled")
            self._say(Mark.OUT)

    @property
    def _patience(self) -> float:
        return max(60.0, _PATIENCE * self._migration.spec.max_downtime)

    def _pass(self, phase: Phase, mark: Mark) -> None:
        group = self._store.of(self._migration.id)
        cutover = self._migration.facts.cutover
        assert cutover is not None
        if group is None or cutover.attempt is None:
            return
        self._store.mark(group.id, self._migration.id, mark, attempt=cutover.attempt)
        deadline = time.monotonic() + self._patience
        while True:
            self._store.advance(group.id, attempt=cutover.attempt, phase=phase)
            group = self._store.get(group.id)
            if group.attempt != cutover.attempt:
                raise GroupError(
                    f"the cutover of the group {group.name} was taken back: {group.reason}",
                    remedy="cure that and resume it; the others go on by themselves",
                )
            if group.phase is not phase:
                return
            if time.monotonic() > deadline:
                self._take_back(group, f"{', '.join(group.behind(mark))} kept the others waiting")
            time.sleep(_POLL)

    def _alone(self, group: Group) -> bool:
        """Whether the group has started without this VM."""
        if group.phase is not Phase.STARTING:
            return False
        cutover = self._migration.facts.cutover
        return cutover is None or cutover.attempt != group.attempt or not cutover.source_off

    def _take_back(self, group: Group, why: str) -> None:
        self._store.take_back(group.id, attempt=group.attempt, reason=f"{self._migration.spec.vm}: {why}")

    def _say(self, mark: Mark) -> None:
        if group := self._store.of(self._migration.id):
            self._store.mark(group.id, self._migration.id, mark, attempt=group.attempt)
            self._said_at = time.monotonic()
