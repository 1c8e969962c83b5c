"""The figures of a report, worked out from what is stored of a migration. No I/O.

Sizes are bytes, rates bytes/s, durations seconds, times Unix seconds; None where something has not happened.
"""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import BaseModel, Field

from drover.model.migration import Cutover, CutoverFacts, Migration, State


class Downtime(BaseModel):
    """How long the VM stood still, and for what. The parts add up to `seconds`."""

    seconds: float
    stopping: float = Field(description="Until it stood still: its own shutdown, or a pause")
    last_epoch: float
    verifying: float = Field(description="Comparing hashes, and waiting for its group")
    moving_memory: float = Field(description="Saving its memory and sending it")
    starting: float

    @classmethod
    def of(cls, cutover: CutoverFacts | None) -> Self | None:
        """None if the VM does not run at the destination yet, was off, or is started by hand."""
        if cutover is None or cutover.downtime is None or cutover.started_at is None:
            return None
        if cutover.was_off or cutover.mode is Cutover.MANUAL:
            return None
        stopped = cutover.stopped_at or cutover.stopping_at
        verified = max(cutover.verified_at or stopped, stopped)
        moved = max(cutover.memory_moved_at or cutover.left_at or verified, verified)
        last_epoch = min(cutover.last_epoch_seconds or 0.0, verified - stopped)
        return cls(
            seconds=cutover.downtime,
            stopping=stopped - cutover.stopping_at,
            last_epoch=last_epoch,
            verifying=verified - stopped - last_epoch,
            moving_memory=moved - verified,
            starting=cutover.started_at - moved,
        )


class Moved(BaseModel):
    """Content by kind, and what it took on the wire."""

    background: int
    foreground: int
    zeros: int = Field(description="Found to be zeros, which hardly travel")
    equal: int = Field(description="Found equal at the destination by a comparison of hashes")
    resent: int
    memory: int
    wire: int


class Rates(BaseModel):
    """On the wire: over the whole time, and the highest."""

    mean: float | None
    peak: float


class EpochFigures(BaseModel):
    """Turns of foreground replication."""

    number: int
    bytes: int
    largest: int
    mean_seconds: float | None
    longest_seconds: float


class Backpressure(BaseModel):
    """What was slowed, for how long, and what it cost."""

    writes_slowed_seconds: float
    writes_slowed_bytes: float = Field(description="What the VM would have written more, at its rate from before")
    lowest_write_limit: int | None
    background_held_seconds: float


class Fault(BaseModel):
    """Something that stopped a migration, and what was done about it."""

    at: float
    state: Literal["paused", "failed"]
    what: str
    until: float | None = Field(description="When it went on")
    done: list[str] = Field(description="What was noted from then until it replicated again, or ended")


class MigrationFigures(BaseModel):
    """A migration in figures."""

    id: str
    vm: str
    plan: str | None = None
    group: str | None = None
    source: str
    destination: str
    state: State
    reason: str | None
    remedy: str | None
    begun_at: float | None
    ended_at: float | None
    duration: float | None
    size: int
    moved: Moved
    rates: Rates
    epochs: EpochFigures
    cutover: str | None
    downtime: Downtime | None
    backpressure: Backpressure
    link_lost_seconds: float
    unreadable: int
    errors: list[Fault]


class Summary(BaseModel):
    """The same for all of them together."""

    migrations: int
    states: dict[State, int]
    begun_at: float | None
    ended_at: float | None = Field(description="None while one is under way")
    duration: float | None
    size: int
    moved: Moved
    mean_rate: float | None = Field(description="On the wire, over the whole time")
    longest_downtime: float | None
    mean_downtime: float | None
    errors: int


class Report(BaseModel):
    """Figures of one migration, a group, a plan, or all."""

    kind: Literal["migration", "group", "plan", "all"]
    name: str
    made_at: float
    summary: Summary
    migrations: list[MigrationFigures]


History = Sequence[tuple[float, str, str]]
"""(Unix seconds, kind, text), oldest first, as the store has it."""


def figures(
    migration: Migration, history: History, now: float, *, plan: str | None = None, group: str | None = None
) -> MigrationFigures:
    """Of one migration; of one that is under way until `now`."""
    facts, spec = migration.facts, migration.spec
    totals, cutover = facts.totals, facts.cutover
    begun = facts.timings.begun_at
    ended = migration.updated_at if migration.state.ended else None
    duration = None if begun is None else max((ended or now) - begun, 0.0)
    moved = Moved(
        background=totals.background_bytes,
        foreground=totals.foreground_bytes,
        zeros=totals.zero_bytes,
        equal=totals.skipped_bytes,
        resent=totals.resent_bytes,
        memory=(cutover.memory_bytes if cutover else None) or 0,
        wire=facts.sent_bytes,
    )
    return MigrationFigures(
        id=migration.id,
        vm=spec.vm,
        plan=plan,
        group=group,
        source=spec.source,
        destination=spec.destination,
        state=migration.state,
        reason=migration.reason,
        remedy=migration.remedy,
        begun_at=begun,
        ended_at=ended,
        duration=duration,
        size=sum(vdisk.size for vdisk in facts.vdisks),
        moved=moved,
        rates=Rates(mean=facts.sent_bytes / duration if duration else None, peak=totals.peak_wire_rate),
        epochs=EpochFigures(
            number=facts.epochs_done,
            bytes=totals.epoch_bytes,
            largest=totals.largest_epoch_bytes,
            mean_seconds=totals.epoch_seconds / facts.epochs_done if facts.epochs_done else None,
            longest_seconds=totals.longest_epoch_seconds,
        ),
        cutover=cutover.mode if cutover else None,
        downtime=Downtime.of(cutover),
        backpressure=Backpressure(
            writes_slowed_seconds=totals.slowed_seconds,
            writes_slowed_bytes=totals.slowed_bytes,
            lowest_write_limit=totals.lowest_write_limit,
            background_held_seconds=totals.held_back_seconds,
        ),
        link_lost_seconds=totals.link_lost_seconds,
        unreadable=sum(one.bytes for one in facts.unreadable.values()),
        errors=faults(history),
    )


def faults(history: History) -> list[Fault]:
    """What stopped a migration, out of its history."""
    found: list[Fault] = []
    open_ = False
    for at, kind, text in history:
        state, colon, reason = text.partition(": ")
        if kind == "state" and state in (State.PAUSED, State.FAILED):
            found.append(
                Fault(at=at, state="paused" if state == State.PAUSED else "failed", what=reason, until=None, done=[])
            )
            open_ = True
        elif open_:
            fault = found[-1]
            if kind == "state" and state in (State.PREPARING, State.STARTING):
                fault.until = fault.until or at
            elif kind == "state":
                # It replicates again, or will not.
                open_ = False
                if state == State.CANCELLED:
                    fault.done.append("cancelled" + (f": {reason}" if colon else ""))
            else:
                fault.done.append(text)
    return found


def summary(migrations: Sequence[MigrationFigures], now: float) -> Summary:
    """Of several; none at all is a summary of zeros."""
    begun = min((one.begun_at for one in migrations if one.begun_at is not None), default=None)
    under_way = any(one.ended_at is None for one in migrations)
    ended = None if under_way else max((one.ended_at for one in migrations if one.ended_at is not None), default=None)
    duration = None if begun is None else max((ended or now) - begun, 0.0)
    wire = sum(one.moved.wire for one in migrations)
    downtimes = [one.downtime.seconds for one in migrations if one.downtime is not None]
    states = [one.state for one in migrations]
    return Summary(
        migrations=len(migrations),
        states={state: states.count(state) for state in State if state in states},
        begun_at=begun,
        ended_at=ended,
        duration=duration,
        size=sum(one.size for one in migrations),
        moved=Moved(
            **{name: sum(getattr(one.moved, name) for one in migrations) for name in Moved.model_fields},
        ),
        mean_rate=wire / duration if duration else None,
        longest_downtime=max(downtimes, default=None),
        mean_downtime=sum(downtimes) / len(downtimes) if downtimes else None,
        errors=sum(len(one.errors) for one in migrations),
    )
