"""The application: its routes, its errors, its audit; and the workflows that it begins with."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from drover import __version__
from drover.platforms.libvirt import credentials
from drover.server import metrics, openapi, problems
from drover.server.auditing import Auditing
from drover.server.conditional import Conditional
from drover.server.context import Context
from drover.server.routes import events, health, migrations, people, plans, reports, runs, sites
from drover.server.tracing import Tracing
from drover.server.watching import Watching
from drover.workflows import durable
from drover.workflows.start import enqueue_waiting

_ABOUT = """Moves running virtual machines to another site while their applications keep working.

Log in with `POST /v1/sessions`, or make a token with `POST /v1/tokens`; either's secret goes into
`Authorization: Bearer`. Errors are problem details (RFC 9457) with a `remedy`. Times are Unix seconds, sizes bytes."""


def application(context: Context, *, runs_at_once: int = 100) -> FastAPI:
    """The server for these stores. While it is served its workflows run: one at a time in a process."""

    watching = Watching(context.folder)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(durable.launch, context.folder, runs_at_once=runs_at_once)
        await run_in_threadpool(enqueue_waiting, context.runs)
        watching.start()
        yield
        await run_in_threadpool(watching.stop)
        await run_in_threadpool(durable.close)

    app = FastAPI(
        title="Drover", version=__version__, description=_ABOUT, lifespan=lifespan, docs_url=None, redoc_url=None,
        # What validation says of an input may hold a password.
        servers=[{"url": "/"}],
    )  # fmt: skip
    app.state.context = context
    app.state.registry = metrics.registry(context, lambda: watching.unreachable)
    credentials.ask(context.credentials.of)
    problems.install(app)
    openapi.install(app)
    for part in (people, sites, plans, runs, migrations, reports, events, health):
        app.include_router(part.router)
    app.add_middleware(Auditing, audit=context.audit)
    app.add_middleware(Conditional)
    # The last one is around the others.
    app.add_middleware(Tracing, answers=metrics.answers(app.state.registry))
    return app
