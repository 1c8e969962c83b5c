"""What holds in the world and must be told: pure functions from what Drover knows to conditions with stable keys."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drover.alerts.config import Event
from drover.model.group import Group
from drover.model.migration import INTERRUPTED, Migration, State
from drover.model.units import format_duration

NEWS = 86400.0
"""Seconds for which something that happened, and does not pass, is worth telling."""
_COPYING = (State.REPLICATING, State.READY)
_RUNNING = (State.PREPARING, *_COPYING, State.CUTTING_OVER, State.VERIFYING, State.STARTING)


@dataclass(frozen=True, kw_only=True)
class Approval:
    """Something that waits for a person's leave. `since` is Unix seconds."""

    id: str
    text: str
    since: float
    remedy: str | None = None


@dataclass(frozen=True, kw_only=True)
class World:
    """What is known at one moment. What nobody watches is None: then nothing of that kind is over, either."""

    migrations: Sequence[Migration]
    groups: Sequence[Group] = ()
    progress: Mapping[str, Mapping[str, Any]] | None = None
    """By migration, as `Progress.as_json` gives it."""
    unreachable: Mapping[str, float] | None = None
    """Hosts that do not answer, and since when, Unix seconds."""
    approvals: Sequence[Approval] | None = None

    @property
    def watched(self) -> frozenset[Event]:
        """The events of which this world would show an end."""
        seen = {Event.FAILED, Event.GROUP_DONE}
        if self.progress is not None:
            seen |= {Event.LINK_LOST, Event.OBJECTIVE_MISSED}
        if self.unreachable is not None:
            seen.add(Event.HOST_GONE)
        if self.approvals is not None:
            seen.add(Event.APPROVAL)
        return frozenset(seen)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Something that holds. `since` is Unix seconds, None where only its first sight says so."""

    key: str
    """The same for as long as it holds, whoever looks."""
    event: Event
    subject: str
    """What it is about: a condition that follows another of the same event and subject is no recovery of that."""
    severity: str
    title: str
    text: str
    remedy: str | None = None
    since: float | None = None
    news: bool = False
    """It happened, and has no end that is told."""


def conditions(world: World, now: float) -> list[Condition]:
    """Everything that holds `now` (Unix seconds), each key once."""
    found: list[Condition] = []
    for migration in world.migrations:
        found += _failed(migration)
        live = (world.progress or {}).get(migration.id)
        found += _link(migration, live)
        found += _late(migration, live, now)
        found += _downtime(migration, live, now)
    by_id = {migration.id: migration for migration in world.migrations}
    for group in world.groups:
        found += _done(group, by_id, now)
    found += [_gone(host, since) for host, since in (world.unreachable or {}).items()]
    found += [_waits(approval) for approval in world.approvals or ()]
    return list({condition.key: condition for condition in found}.values())


def epilogue(world: World, subject: str) -> str:
    """What became of the subject of a condition that holds no longer."""
    migration = next((one for one in world.migrations if one.id == subject.split(":")[0]), None)
    if migration is None:
        return ""
    return f"{_way(migration)} is {migration.state}" + (f": {migration.reason}" if migration.reason else "")


def _failed(migration: Migration) -> Iterator[Condition]:
    """Also one that is paused and needs a hand; not one that the administrator stopped."""
    paused = migration.state is State.PAUSED and migration.reason not in (None, INTERRUPTED)
    if migration.state is not State.FAILED and not paused:
        return
    yield Condition(
        # The fencing token grows with each run, so that it counts attempts.
        key=f"failed:{migration.id}:{migration.facts.token}",
        event=Event.FAILED,
        subject=migration.id,
        severity="warning" if paused else "critical",
        title=f"{migration.spec.vm}: the migration {'is paused' if paused else 'failed'}",
        text=f"{_way(migration)} is {migration.state}: {migration.reason or 'no reason was noted'}",
        remedy=migration.remedy or f"cure that, then `drover resume {migration.id}`",
        since=migration.updated_at,
    )


def _link(migration: Migration, live: Mapping[str, Any] | None) -> Iterator[Condition]:
    """Of a migration that runs; the last word of one whose process died stands until it is resumed."""
    link = "up" if live is None else str(live.get("link") or "up")
    if link.split(":")[0] == "up" or migration.state not in _RUNNING:
        return
    yield Condition(
        key=f"link-lost:{migration.id}",
        event=Event.LINK_LOST,
        subject=migration.id,
        severity="warning",
        title=f"{migration.spec.vm}: the link between the sites is lost",
        text=f"The link of {_way(migration)} is {link}. The engines wait and go on by themselves.",
        remedy="look at the network between the hosts",
    )


def _late(migration: Migration, live: Mapping[str, Any] | None, now: float) -> Iterator[Condition]:
    """Over the target time, or certain to be; one that stopped for that stays late until it is resumed."""
    target, began = migration.spec.target_time, migration.facts.timings.replicating_at
    if target is None or began is None:
        return
    if migration.state in _COPYING:
        # What only one case in ten stays below.
        least = _least(live, "time_left")
        taken = max(now, 0.0 if live is None or least is None else live["at"] + least) - began
    elif migration.state in (State.PAUSED, State.FAILED):
        taken = migration.updated_at - began
    else:
        return
    if taken > target:
        text = f"takes {format_duration(taken)} at least, the target time is {format_duration(target)}"
        yield _missed(migration, "duration", f"{_way(migration)} {text}", live)


def _downtime(migration: Migration, live: Mapping[str, Any] | None, now: float) -> Iterator[Condition]:
    limit, cutover = migration.spec.max_downtime, migration.facts.cutover
    if migration.state in _COPYING and live is not None:
        least = _least(live, "downtime")
        if least is not None and least > limit:
            text = f"the downtime will be {format_duration(least)} at least, the maximum is {format_duration(limit)}"
            yield _missed(migration, "downtime", f"{_way(migration)}: {text}", live)
        elif live.get("prediction"):
            yield _missed(migration, "downtime", f"{_way(migration)}: {live['prediction']}", live)
    elif migration.state is State.FINISHED and now - migration.updated_at < NEWS:
        taken = cutover.downtime if cutover is not None else None
        if taken is not None and taken > limit:
            text = f"{_way(migration)} was down for {format_duration(taken)}, the maximum is {format_duration(limit)}"
            yield _missed(migration, "downtime", text, None, since=migration.updated_at)


def _least(live: Mapping[str, Any] | None, what: str) -> float | None:
    least = (((live or {}).get("expected") or {}).get(what) or {}).get("p10")
    return None if least is None else float(least)


def _missed(
    migration: Migration, objective: str, text: str, live: Mapping[str, Any] | None, since: float | None = None
) -> Condition:
    help_ = (live or {}).get("prediction") or (live or {}).get("holding")
    cure = f"`drover resume {migration.id}` takes other limits"
    return Condition(
        key=f"objective-missed:{migration.id}:{objective}",
        event=Event.OBJECTIVE_MISSED,
        subject=f"{migration.id}:{objective}",
        severity="warning",
        title=f"{migration.spec.vm}: the {objective} {'was' if since else 'will be'} more than was asked for",
        text=text,
        remedy=None if since else f"{help_}; {cure}" if help_ and help_ not in text else cure,
        since=since,
        news=since is not None,
    )


def _done(group: Group, migrations: Mapping[str, Migration], now: float) -> Iterator[Condition]:
    members = [migrations[member.migration] for member in group.members if member.migration in migrations]
    if len(members) < len(group.members) or not members or not all(member.state.ended for member in members):
        return
    at = max(member.updated_at for member in members)
    arrived = [member.spec.vm for member in members if member.state is State.FINISHED]
    if not arrived or now - at >= NEWS:
        return
    stayed = ", ".join(member.spec.vm for member in members if member.state is not State.FINISHED)
    yield Condition(
        key=f"group-done:{group.id}",
        event=Event.GROUP_DONE,
        subject=group.id,
        severity="info",
        title=f"group {group.name} of the plan {group.plan} is done",
        text=f"At the destination: {', '.join(arrived)}." + (f" Cancelled: {stayed}." if stayed else ""),
        since=at,
        news=True,
    )


def _gone(host: str, since: float) -> Condition:
    return Condition(
        key=f"host-gone:{host}",
        event=Event.HOST_GONE,
        subject=host,
        severity="critical",
        title=f"the host {host} does not answer",
        text=f"Drover does not reach {host}. Migrations from it and to it wait.",
        remedy="look whether it runs, and at the network to it",
        since=since,
    )


def _waits(approval: Approval) -> Condition:
    return Condition(
        key=f"approval:{approval.id}",
        event=Event.APPROVAL,
        subject=approval.id,
        severity="info",
        title=f"waiting for approval: {approval.id}",
        text=approval.text,
        remedy=approval.remedy,
        since=approval.since,
    )


def _way(migration: Migration) -> str:
    return f"{migration.spec.vm} ({migration.id})"
