"""Carrying out a run: its VMs checked and recorded, its batches in their order, each migration attended to its end.

Every step may be done again after a death of the server: it asks the world, acts, and records.
"""

import asyncio
import time
from typing import Any

from dbos import DBOS, SetWorkflowID

from drover.errors import CheckError, DroverError
from drover.fence import FencedError
from drover.model.migration import Spec
from drover.model.plan import Plan
from drover.model.vm import Vm
from drover.plans.course import Course, End, Planned, Turn
from drover.plans.file import parse
from drover.plans.site import at_source
from drover.replicator.check import Report, together
from drover.replicator.record import plan_all, planned, record, tuned
from drover.store import LiveStore, MigrationStore, PlanStore, RunStore, SiteStore
from drover.store.database import DatabaseGoneError, patient
from drover.store.plans import RunKind, RunState, StoredRun
from drover.workflows.attend import attend

_ENDED = "ended"
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
    batches = [
        Planned(name=b["name"], members=tuple(b["members"]), after=tuple(b["after"]), finished=frozenset(b["finished"]))
        for b in prepared["batches"]
    ]
    course = Course(batches, prepared["at_once"])
    turn, begun = course.begin(), 0
    while True:
        for migration in turn.interrupt:
            await _pause(migration)
        for migration in turn.begin:
            begun += 1
            with SetWorkflowID(f"{run_id}.{begun}"):
                await DBOS.start_workflow_async(move, migration, run_id)
        if not course.running:
            break
        ended = await DBOS.recv_async(_ENDED, timeout_seconds=_LONG)
        turn = Turn() if ended is None else course.ended(ended["migration"], End[ended["end"]])
    await _close(run_id, course.unfinished)


@DBOS.workflow(name="move")
async def move(migration_id: str, run_id: str) -> None:
    """One migration of a run, until its process ends."""
    since = await _now()
    end = await _attend(migration_id, since)
    await DBOS.send_async(run_id, {"migration": migration_id, "end": end}, _ENDED)


@_STEP
async def _now() -> float:
    return time.time()


@_STEP
async def _attend(migration_id: str, since: float) -> str:
    with patient():
        return (await attend(migration_id, since)).name


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
    if run.kind is RunKind.PLAN:
        stored = PlanStore().get(run.target["plan"], run.target["version"])
        resolved = at_source(_at_sites(parse(stored.text, f"plan {stored.name}, version {stored.version}")))
        recorded = record(
            stored.name, resolved.batches, store, lambda specs: _check(specs, store, heard), approval=True
        )
        batches = [planned(group, batch, store) for group, batch in recorded]
        return {"at_once": resolved.plan.at_once, "batches": [_fields(batch) for batch in batches]}
    if run.migrations or run.kind is RunKind.MIGRATION:
        migration = store.get(run.migrations[0] if run.migrations else run.target["migration"])
    else:
        specs = [tuned(Spec.model_validate(run.target["spec"]), store)]
        (migration,) = plan_all(specs, _check(specs, store, heard), store)
        # A death between these two leaves a planned migration that nobody runs: it changed nothing.
        RunStore().change(run.id, migrations=[migration.id])
    return {"at_once": 1, "batches": [_fields(Planned(name=migration.spec.vm, members=(migration.id,)))]}


def _at_sites(plan: Plan) -> Plan:
    """With the URIs of its sites."""
    sites = SiteStore()
    ends = {"source": sites.named(plan.source).uri, "destination": sites.named(plan.destination).uri}
    return plan.model_copy(update=ends)


def _check(specs: Any, store: MigrationStore, heard: "_Failures") -> list[Report]:
    return [report for _, report in together.check_all(specs, store, (), heard)]


def _fields(batch: Planned) -> dict[str, Any]:
    lists = {"members": list(batch.members), "after": list(batch.after), "finished": sorted(batch.finished)}
    return {"name": batch.name, **lists}


def close(run_id: str, unfinished: list[str]) -> None:
    """Says how a run ended: what did not finish has its reason in its migrations."""
    runs = RunStore()
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
