"""Carrying out a run: its VMs checked and recorded, its batches in their order, each migration attended to its end.

Every step may be done again after a death of the server: it asks the world, acts, and records.
"""

import asyncio
import time
from typing import Any

from dbos import DBOS, SetWorkflowID

from drover import logs
from drover.errors import CheckError, DroverError
from drover.fence import FencedError
from drover.model.migration import Spec
from drover.model.plan import Plan
from drover.model.vm import Vm
from drover.planner.parts import parts_of
from drover.plans.course import Course, End, Planned, Turn
from drover.plans.file import parse
from drover.plans.site import at_source
from drover.replicator.check import Report, together
from drover.replicator.record import clear_away, plan_all, planned, record, tuned
from drover.store import LiveStore, MigrationStore, OrderStore, PlanStore, RunStore, SiteStore
from drover.store.database import DatabaseGoneError, patient
from drover.store.plans import RunKind, RunState, StoredRun
from drover.workflows.attend import attend
from drover.workflows.order import HEARD, Order

_log = logs.logger("workflows")
_LONG = 3600.0
_STEP = DBOS.step(
    retries_allowed=True,
    max_attempts=20,
    interval_seconds=0.5,
    backoff_rate=1.5,
    should_retry=lambda error: isinstance(error, DatabaseGoneError),
)
"""What a step was doing when the database went is done again when it is back."""


@DBOS.workflow(name="carry")
async def carry(run_id: str) -> None:
    """A run from its beginning to its end, or to where the administrator is needed."""
    prepared = await _prepare(run_id)
    if prepared is None:
        return
    course = Course([_planned(fields) for fields in prepared["batches"]], prepared["at_once"])
    # One that a Drover without an order of its own prepared goes on as it began.
    order = Order(run_id, course, prepared) if "parts" in prepared else None
    turn, begun = course.begin() if order is None else Turn(), 0
    while True:
        for migration in turn.interrupt:
            await _pause(migration)
        begun = await _start(run_id, begun, turn.begin)
        if order is not None:
            begun = await _start(run_id, begun, await order.begin())
        if course.idle:
            break
        heard = await DBOS.recv_async(HEARD, timeout_seconds=_LONG if order is None else order.patience)
        turn = Turn() if heard is None else _follow(course, heard)
    await _close(run_id, course.unfinished)


async def _start(run_id: str, begun: int, migrations: list[str]) -> int:
    """Returns how many of the run have begun now."""
    for number, migration in enumerate(migrations, begun + 1):
        with SetWorkflowID(f"{run_id}.{number}"):
            await DBOS.start_workflow_async(move, migration, run_id)
    return begun + len(migrations)


def _follow(course: Course, heard: dict[str, Any]) -> Turn:
    """What follows at once from what a run hears: an end, that all of a migration is copied, that its plan changed."""
    if (end := heard.get("end")) is not None:
        return course.ended(heard["migration"], End[end], heard.get("at", 0.0))
    if heard.get("copied"):
        return course.copied(heard["migration"], heard.get("at", 0.0))
    return Turn()


@DBOS.workflow(name="move")
async def move(migration_id: str, run_id: str) -> None:
    """One migration of a run, until its process ends."""
    since = await _now()
    end = await _attend(migration_id, since, run_id)
    await DBOS.send_async(run_id, {"migration": migration_id, "end": end}, HEARD)


@_STEP
async def _now() -> float:
    return time.time()


@_STEP
async def _attend(migration_id: str, since: float, run_id: str) -> str:
    async def copied() -> None:
        said = {"migration": migration_id, "copied": True, "at": time.time()}
        # Once, however often this step is done.
        await DBOS.send_async(run_id, said, HEARD, idempotency_key=f"{run_id}.{migration_id}.{since}.copied")

    with patient():
        run = await asyncio.to_thread(RunStore().get, run_id)
        with logs.bound(run=run.id, user=run.by):
            end = await attend(migration_id, since, copied=copied)
            _log.info("its process has ended", migration=migration_id, end=end.name.lower())
    return end.name


@_STEP
async def _pause(migration_id: str) -> None:
    with patient():
        await asyncio.to_thread(lambda: LiveStore().ask_to_pause(migration_id))


@_STEP
async def _prepare(run_id: str) -> dict[str, Any] | None:
    with patient():
        return await asyncio.to_thread(prepare, run_id)


@_STEP
async def _close(run_id: str, unfinished: list[str]) -> None:
    with patient():
        await asyncio.to_thread(close, run_id, unfinished)


def prepare(run_id: str) -> dict[str, Any] | None:
    """The batches of a run, recorded; None if it was refused, which the run then says."""
    runs = RunStore()
    run = runs.get(run_id)
    heard = _Failures()
    _log.info("the run begins", run=run_id, user=run.by, kind=run.kind, name=run.name)
    try:
        prepared = _recorded(run, heard)
    except CheckError as error:
        details = f" ({'; '.join(heard.lines)})" if heard.lines else ""
        runs.change(run_id, state=RunState.REFUSED, reason=error.message + details, remedy=error.remedy)
        return None
    except (DatabaseGoneError, FencedError):
        # Not the run's fault: the step is done again.
        raise
    except DroverError as error:
        runs.change(run_id, state=RunState.REFUSED, reason=error.message, remedy=error.remedy)
        return None
    migrations = [member for batch in prepared["batches"] for member in batch["members"]]
    runs.change(run_id, state=RunState.RUNNING, migrations=migrations)
    return prepared


def _recorded(run: StoredRun, heard: "_Failures") -> dict[str, Any]:
    store = MigrationStore()
    if not run.migrations and run.kind is not RunKind.MIGRATION:
        clear_away(run.id, store)
    if run.kind is RunKind.PLAN:
        stored = PlanStore().get(run.target["plan"], run.target["version"])
        resolved = at_source(at_sites(parse(stored.text, f"plan {stored.name}, version {stored.version}")))
        recorded = record(
            stored.name, resolved.batches, store, lambda specs: _check(specs, store, heard), approval=True, run=run.id
        )
        batches = [planned(group, batch, store) for group, batch in recorded]
        parts = parts_of(resolved, store.folder).model_dump(mode="json")
        return {
            "plan": stored.name,
            "at_once": resolved.plan.at_once,
            "limits": resolved.plan.limits.model_dump(mode="json"),
            "batches": [_fields(batch) for batch in batches],
            "parts": parts,
        }
    if run.migrations or run.kind is RunKind.MIGRATION:
        migration = store.get(run.migrations[0] if run.migrations else run.target["migration"])
    else:
        specs = [tuned(Spec.model_validate(run.target["spec"]), store)]
        (migration,) = plan_all(specs, _check(specs, store, heard), store, run=run.id)
        # A death between these two leaves a planned migration that the next attempt clears away.
        RunStore().change(run.id, migrations=[migration.id])
    return {"at_once": 1, "batches": [_fields(Planned(name=migration.spec.vm, members=(migration.id,)))]}


def at_sites(plan: Plan) -> Plan:
    """With the URIs of its sites. Raises InputError if one is not known."""
    sites = SiteStore()
    ends = {"source": sites.named(plan.source).uri, "destination": sites.named(plan.destination).uri}
    return plan.model_copy(update=ends)


def _check(specs: Any, store: MigrationStore, heard: "_Failures") -> list[Report]:
    return [report for _, report in together.check_all(specs, store, (), heard)]


def _planned(fields: dict[str, Any]) -> Planned:
    members, after, finished = tuple(fields["members"]), tuple(fields["after"]), frozenset(fields["finished"])
    return Planned(name=fields["name"], members=members, after=after, finished=finished)


def _fields(batch: Planned) -> dict[str, Any]:
    lists = {"members": list(batch.members), "after": list(batch.after), "finished": sorted(batch.finished)}
    return {"name": batch.name, **lists}


def close(run_id: str, unfinished: list[str]) -> None:
    """Says how a run ended: what did not finish has its reason in its migrations."""
    runs = RunStore()
    OrderStore().put_waits(run_id, {})
    _log.info("the run has ended", run=run_id, unfinished=unfinished)
    if not unfinished:
        runs.change(run_id, state=RunState.FINISHED, reason=None, remedy=None)
        return
    store = MigrationStore()
    told = [store.get(migration) for migration in runs.get(run_id).migrations]
    reasons = [f"{m.spec.vm}: {m.reason}" for m in told if not m.state.ended and m.reason]
    runs.change(
        run_id,
        state=RunState.HELD,
        reason=f"not finished: {', '.join(unfinished)}" + (f" ({'; '.join(reasons)})" if reasons else ""),
        remedy="cure what is said of its migrations, then run it again: it goes on where it stands",
    )


class _Failures:
    """Keeps what the checks found wrong."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def looks_at(self, vm: str) -> None:
        pass

    def found(self, vm: Vm, report: Report) -> None:
        wrong = [finding for finding in report.findings if not finding.passed]
        self.lines += [f"{vm.name}: {one.subject}: {one.detail}" for one in wrong]

    def room(self, report: Report) -> None:
        self.lines += [f"{one.subject}: {one.detail}" for one in report.findings if not one.passed]
