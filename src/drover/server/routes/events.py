"""What happens, as it happens: server-sent events."""

import asyncio
import time
from collections.abc import AsyncIterable
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from drover.accounts.errors import AccessError
from drover.accounts.identity import Identity
from drover.server.access import Viewer
from drover.server.context import Context, Stores
from drover.server.problems import MissingError, answers
from drover.server.routes.migrations import find

router = APIRouter(prefix="/v1", tags=["events"])
_LOOK = 1.0
_AT_ONCE = 500
_LONGEST = 600.0
"""Seconds; who has lost the right to listen meanwhile is not let in again."""


@router.get("/events", response_class=EventSourceResponse, responses=answers())
async def events(
    identity: Viewer,
    stores: Stores,
    last_event_id: Annotated[str | None, Header(max_length=20)] = None,
    migration: Annotated[list[str], Query(description="Only of these")] = [],  # noqa: B006
) -> AsyncIterable[ServerSentEvent]:
    """Every change of a migration (`happened`) and its progress (`progress`), from now or after `Last-Event-ID`."""
    known = last_event_id is not None and last_event_id.isdecimal()
    number = int(last_event_id) if known and last_event_id else await run_in_threadpool(stores.migrations.newest_event)
    told_at, deadline = time.time(), time.monotonic() + _LONGEST
    while time.monotonic() < deadline:
        seen, happened, progress = await run_in_threadpool(_news, stores, identity, number, told_at, set(migration))
        for at, body in happened:
            yield ServerSentEvent(data=body, event="happened", id=str(at))
        # Also past those that are not for whoever listens: there may be more of them than are looked at at once.
        number = seen
        for body in progress:
            told_at = max(told_at, body["at"])
            yield ServerSentEvent(data=body, event="progress")
        if not happened and not progress:
            yield ServerSentEvent(comment="still here")
        await asyncio.sleep(_LOOK)


def _news(
    stores: Context, identity: Identity, number: int, told_at: float, wanted: set[str]
) -> tuple[int, list[tuple[int, dict[str, Any]]], list[dict[str, Any]]]:
    """The number of the last event that was looked at, and what of all that is for whoever listens."""
    news: list[tuple[int, dict[str, Any]]] = [
        (number, {"migration": migration, "at": at, "kind": kind, "text": text})
        for number, migration, at, kind, text in stores.migrations.happened(number, _AT_ONCE)
    ]
    progress = stores.live.since(told_at)
    concerned = {str(body["migration"]) for _, body in news} | progress.keys()
    visible = {name: (not wanted or name in wanted) and _visible(stores, identity, name) for name in concerned}
    return (
        news[-1][0] if news else number,
        [(at, body) for at, body in news if visible[body["migration"]]],
        [body for name, body in progress.items() if visible[name]],
    )


def _visible(stores: Context, identity: Identity, migration: str) -> bool:
    try:
        find(stores, identity, migration)
    except (MissingError, AccessError):
        return False
    return True
