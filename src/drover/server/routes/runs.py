"""Runs: plans and VMs that are carried out by the server."""

import hashlib
import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Query

from drover.accounts.identity import Identity
from drover.errors import InputError
from drover.server.access import Viewer
from drover.server.context import Context, Stores
from drover.server.paging import Cursor, Limit, cursor_after, position
from drover.server.problems import ConflictError, MissingError, answers
from drover.server.views import Runs, RunView
from drover.store.plans import RunKind, RunState, StoredRun
from drover.workflows.start import enqueue

router = APIRouter(prefix="/v1/runs", tags=["runs"])


@router.get("", responses=answers())
def runs(
    identity: Viewer,
    stores: Stores,
    limit: Limit = 100,
    cursor: Cursor = None,
    name: Annotated[str | None, Query(max_length=255, description="Of a plan, or of a VM")] = None,
    state: Annotated[list[RunState], Query(description="Any of these")] = [],  # noqa: B006
    kind: Annotated[list[RunKind], Query(description="Any of these")] = [],  # noqa: B006
) -> Runs:
    """What was asked for, newest first."""
    found = stores.runs.page(limit=limit, before=position(cursor), name=name, states=state, kinds=kind)
    following = cursor_after(found[-1].created_at, found[-1].id) if len(found) == limit else None
    return Runs(items=[RunView.of(run) for run in found if _is_for(run, identity)], next=following)


@router.get("/{run_id}", responses=answers(404))
def run(run_id: str, identity: Viewer, stores: Stores) -> RunView:
    """A run as it stands; its migrations tell the rest."""
    missing = MissingError(f"there is no run {run_id!r}", remedy="`GET /v1/runs` lists them")
    try:
        found = stores.runs.get(run_id)
    except InputError:
        raise missing from None
    if not _is_for(found, identity):
        raise missing
    return RunView.of(found)


def begin(
    stores: Context, identity: Identity, kind: RunKind, name: str, target: dict[str, Any], key: str | None
) -> RunView:
    """Records a run and has it carried out. Raises ConflictError if one of this name is under way."""
    chosen = (
        secrets.token_hex(6) if key is None else hashlib.sha256(f"{identity.name}\0{key}".encode()).hexdigest()[:12]
    )
    run = StoredRun(id=f"r-{chosen}", kind=kind, target=target, name=name, by=identity.name)
    if key is not None and (before := stores.runs.find(run.id)) is not None:
        if (before.kind, before.target) != (kind, target):
            raise InputError(f"the key {key!r} was used for another request", remedy="use a new key for each request")
        return RunView.of(before)
    if (other := stores.runs.under_way(name)) is not None:
        raise ConflictError(
            f"{name} is being carried out already, as {other.id}", remedy="wait for its end, or pause its migrations"
        )
    stores.runs.add(run)
    enqueue(run.id)
    return RunView.of(stores.runs.get(run.id))


def _is_for(run: StoredRun, identity: Identity) -> bool:
    if run.kind is RunKind.PLAN:
        return identity.scope.allows_plan(run.name)
    return not identity.scope.plans
