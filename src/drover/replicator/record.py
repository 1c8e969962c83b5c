"""The batches of a plan in the database: each VM checked, each migration recorded, all or none; known ones go on."""

import time
from collections.abc import Sequence

from drover.errors import DroverError, InputError
from drover.estimator.answer import FRESH
from drover.estimator.tuning import tune
from drover.model.group import Group, Member
from drover.model.migration import Migration, Spec, State
from drover.plans.batch import Batch
from drover.plans.course import End, Planned
from drover.replicator.check.report import Report
from drover.replicator.check.together import Check
from drover.replicator.migrate import plan
from drover.store import GroupStore, LinkStore, MigrationStore


def record(
    plan: str, batches: Sequence[Batch], store: MigrationStore, check: Check, *, approval: bool, run: str | None = None
) -> list[tuple[Group, Batch]]:
    """The batches as they are in the database; those that are new there are checked, all of them, before one is.

    `approval` is whether groups of which the plan does not say it wait for somebody's leave before they cut over; `run`
    is the server's run that has them recorded.
    Raises CheckError if one cannot be migrated, InputError if the plan is another one than it began as.
    """
    groups = GroupStore(store.folder)
    known = {batch.name: group for batch in batches if (group := _under_way(plan, batch, groups, store)) is not None}
    for batch in batches:
        if batch.name in known:
            _take_windows(batch, known[batch.name], store)
    fresh = [batch for batch in batches if batch.name not in known]
    if members := [member for batch in fresh for member in batch.members]:
        specs = [tuned(member.spec, store) for member in members]
        planned = iter(plan_all(specs, check(specs), store, run=run))
        for batch in fresh:
            rows = [
                Member(migration=next(planned).id, vm=member.vm, turn=member.turn, delay=member.delay)
                for member in batch.members
            ]
            known[batch.name] = groups.add(plan, batch.name, rows, approval=_or(batch.approval, approval))
    return [(known[batch.name], batch) for batch in batches]


def _take_windows(batch: Batch, group: Group, store: MigrationStore) -> None:
    """Gives migrations that began with other windows those that the plan has now, unless a process runs them."""
    wanted = {member.uuid: member.spec.windows for member in batch.members}
    for member in group.members:
        found = store.get(member.migration)
        windows = wanted[found.facts.uuid]
        if found.state.ended or found.spec.windows == windows or store.is_running(found.id):
            continue
        with store.running(found):
            found = store.get(found.id)
            found.spec = found.spec.model_copy(update={"windows": windows})
            store.save(found)
            store.note(found, f"its windows are now {', '.join(map(str, windows)) or 'any time'}")


def _or(said: bool | None, default: bool) -> bool:
    return default if said is None else said


def clear_away(run: str, store: MigrationStore) -> None:
    """Cancels what a server that died had recorded for its run and not yet given to anybody: it changed nothing."""
    groups = GroupStore(store.folder)
    for migration in store.planned_by(run):
        if groups.of(migration.id) is None:
            store.enter(migration, State.CANCELLED, reason="the server died while it recorded the run")


def plan_all(
    specs: Sequence[Spec], reports: Sequence[Report], store: MigrationStore, *, run: str | None = None
) -> list[Migration]:
    """All of them, or none."""
    planned: list[Migration] = []
    try:
        for spec, report in zip(specs, reports, strict=True):
            planned.append(plan(store, spec, report, run=run))
    except DroverError:
        for migration in planned:
            store.enter(migration, State.CANCELLED, reason="another VM that was to go with it could not")
        raise
    return planned


def tuned(spec: Spec, store: MigrationStore) -> Spec:
    """With the settings of the link that a fresh measurement found best, where nothing is said of them."""
    link = LinkStore(store.folder).latest(spec.source, spec.destination)
    if "connections" in spec.model_fields_set or link is None or not link.bulk or time.time() - link.at > FRESH:
        return spec
    # Settings that gave no more were not kept.
    return spec.model_copy(update={"connections": tune(link).connections})


def planned(group: Group, batch: Batch, store: MigrationStore) -> Planned:
    """A recorded batch as a course takes it."""
    states = {member.migration: store.get(member.migration).state for member in group.members}
    return Planned(
        name=batch.name,
        members=tuple(states),
        after=batch.after,
        finished=frozenset(name for name, state in states.items() if state.ended),
    )


def end(migration: Migration, *, killed: bool) -> End:
    """How a process that ran this migration ended."""
    if migration.state.ended:
        return End.FINISHED
    return End.KILLED if killed else End.FAILED


def _under_way(plan: str, batch: Batch, groups: GroupStore, store: MigrationStore) -> Group | None:
    """What an earlier run of the plan recorded of this batch; None if that was cancelled."""
    group = groups.newest(plan, batch.name)
    if group is None:
        return None
    migrations = [store.get(member.migration) for member in group.members]
    if all(migration.state is State.CANCELLED for migration in migrations):
        return None
    began, wanted = {m.facts.uuid: m.spec.vm for m in migrations}, {m.uuid: m.vm for m in batch.members}
    if began.keys() != wanted.keys():
        raise InputError(
            f"{batch.name} of the plan {plan} began with {', '.join(sorted(began.values()))}, and the file now says "
            f"{', '.join(sorted(wanted.values()))}",
            remedy="let it end as it began, or `drover cancel` its migrations and run the plan again",
        )
    return group
