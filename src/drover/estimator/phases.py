"""What the fixed parts of a migration take, from the migrations that ended well: each lends its figures to a draw."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from drover.estimator.simulate import Phases
from drover.model.migration import Cutover, Migration, State

_UNKNOWN = 0.2
"""Standard deviation/mean of what is only a default."""
_SMALL = 4 << 20
"""A last epoch of at most this many bytes took its time for sealing, not for sending."""
_TURN = 1.65
"""From all copied to all compared, seconds, where little is to compare: an epoch arrives, and another one."""
_KEPT = 50


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One finished migration's figures; None where it had no such phase. Seconds, bytes/s, shares."""

    prepare: float | None = None
    seal: float | None = None
    verify_rate: float | None = None
    save: float | None = None
    start: float | None = None
    shutdown: float | None = None
    finish: float | None = None
    leave: float | None = None
    move: float | None = None
    memory_share: float | None = None
    """Of the VM's memory: what its image held."""
    memory_ratio: float | None = None
    """Bytes on the wire for each of the image."""
    cover: float | None = None
    """Bytes/s of content at which the background went where disks or processors limited it."""


def is_undisturbed(migration: Migration) -> bool:
    """Whether it went from its beginning to its end as it was planned: what was interrupted tells little of others."""
    return migration.state is State.FINISHED and migration.facts.token == 1 and not migration.spec.write_backpressure


def seen(migration: Migration) -> Seen | None:
    """What a finished migration teaches; nothing if it was interrupted or went by road."""
    facts, cutover = migration.facts, migration.facts.cutover
    timings = facts.timings
    if cutover is None or not is_undisturbed(migration) or migration.spec.devices:
        return None
    if timings.replicating_at is None or timings.copied_at is None or timings.compared_at is None:
        return None
    if cutover.verified_at is None or cutover.started_at is None or cutover.stopped_at is None:
        return None
    resumed = cutover.mode is Cutover.RESUME and cutover.left_at is not None and cutover.memory_moved_at is not None
    image = cutover.memory_bytes or 0
    copying = max(timings.copied_at - timings.replicating_at, 0.1)
    comparing = max(timings.compared_at - timings.copied_at, 0.1)
    off_at = cutover.left_at or cutover.verified_at
    ready_at = (cutover.memory_moved_at if resumed else off_at) or off_at
    image_seconds = image / Phases().save_rate
    wire_rate = timings.wire_bytes / copying
    moving = cutover.memory_wire_bytes / wire_rate if cutover.memory_wire_bytes and wire_rate else None
    small = cutover.last_epoch_seconds is not None and (cutover.last_epoch_bytes or 0) <= _SMALL
    return Seen(
        prepare=timings.replicating_at - migration.begun_at,
        seal=cutover.last_epoch_seconds if small else None,
        # Shorter ones were spent on waiting for epochs.
        verify_rate=timings.content_bytes / (comparing - _TURN) if small and comparing > 3 * _TURN else None,
        save=max(off_at - cutover.verified_at - image_seconds, 0.0) if resumed else None,
        leave=None if resumed else max(off_at - cutover.verified_at, 0.0),
        move=max(ready_at - off_at - moving, 0.0) if resumed and moving is not None else None,
        start=max(cutover.started_at - ready_at - (image_seconds if resumed else 0.0), 0.0),
        shutdown=None if resumed else max(cutover.stopped_at - cutover.stopping_at, 0.0),
        finish=max(migration.updated_at - cutover.started_at, 0.0),
        memory_share=image / timings.memory if resumed and timings.memory else None,
        memory_ratio=cutover.memory_wire_bytes / image if resumed and image and cutover.memory_wire_bytes else None,
        cover=timings.content_bytes / copying if 2 * timings.unhindered_looks > timings.looks else None,
    )


class History:
    """The newest finished migrations, as a source of draws."""

    def __init__(self, migrations: Sequence[Migration]) -> None:
        found = [lesson for migration in migrations if (lesson := seen(migration)) is not None]
        self.lessons = found[:_KEPT]

    def draw(self, chance: random.Random) -> Phases:
        """The phases of one migration to come."""
        return replace(
            Phases(),
            **{name: self._one(chance, name) for name in ("prepare", "seal", "verify_rate", "save", "start")},
            **{name: self._one(chance, name) for name in ("shutdown", "finish", "leave", "move")},
        )

    def memory_share(self, chance: random.Random) -> float | None:
        """What of a VM's memory has to travel; None if no migration has shown it."""
        return self._any(chance, "memory_share")

    def memory_ratio(self, chance: random.Random) -> float | None:
        """Bytes on the wire for each of a memory image; None if no migration has shown it."""
        return self._any(chance, "memory_ratio")

    def cover(self) -> float | None:
        """Bytes/s of content that disks and processors gave where they were what limited; None: not seen."""
        free = [lesson.cover for lesson in self.lessons if lesson.cover]
        return fmean(sorted(free)[len(free) // 2 :]) if free else None

    def _any(self, chance: random.Random, name: str) -> float | None:
        known = [value for lesson in self.lessons if (value := getattr(lesson, name)) is not None]
        return float(chance.choice(known)) if known else None

    def _one(self, chance: random.Random, name: str) -> float:
        read: Callable[[Seen], float | None] = lambda lesson: getattr(lesson, name)  # noqa: E731
        known = [value for lesson in self.lessons if (value := read(lesson)) is not None]
        usual = getattr(Phases(), name)
        # A default counts as one migration: a single one seen does not yet say how they differ.
        pick = chance.randrange(len(known) + 1) if len(known) < 3 else chance.randrange(len(known))
        if pick < len(known):
            return float(known[pick])
        return float(usual * max(chance.gauss(1, _UNKNOWN), 0.2))
