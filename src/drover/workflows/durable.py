"""DBOS as Drover uses it: its database, its queue, when it begins and ends."""

import sqlite3
from pathlib import Path

import sqlalchemy as sa
from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer
from dbos import error as dbos_error

from drover.errors import DroverError
from drover.store.location import shown
from drover.workflows.executor import Executor

QUEUE = "runs"
SQLITE = "workflows.sqlite"
_executor: list[Executor] = []
"""This process's, while workflows run: DBOS is one in a process as well."""


def launch(folder: Path, *, runs_at_once: int) -> None:
    """Takes up what was under way, and new work from now on. Raises DroverError.

    Import the modules with workflows before: DBOS goes on at once with those that a server before this one left.
    """
    executor = Executor(folder)
    url = executor.database.url if executor.database.shared else _sqlite(folder / SQLITE)
    config = DBOSConfig(
        name="drover",
        system_database_url=url.set(drivername=url.get_backend_name()).render_as_string(hide_password=False),
        # A new version goes on with the workflows of the one before.
        application_version="1",
        executor_id=executor.id,
        serializer=DBOSPortableJSONSerializer(),
        log_level="WARNING",
        # Threads that wait take memory: workflows are coroutines, and what blocks is short.
        max_executor_threads=32,
        notification_listener_polling_interval_sec=0.25,
        sys_db_pool_size=10,
        # What a server that is stopped left open keeps nobody waiting.
        sys_db_idle_transaction_timeout_sec=5,
        enable_otlp=False,
    )
    try:
        DBOS(config=config)
        DBOS.launch()
        DBOS.register_queue(QUEUE, worker_concurrency=runs_at_once, polling_interval_sec=0.5)
    except (dbos_error.DBOSException, sa.exc.SQLAlchemyError) as error:
        executor.leave()
        raise DroverError(
            f"the workflows cannot begin: {error}", remedy=f"look at {shown(url)} and the lines above"
        ) from error
    executor.begin()
    _executor.append(executor)


def close() -> None:
    """Leaves the workflows where they are; migrations that run go on by themselves."""
    executor = _executor.pop()
    executor.end()
    DBOS.destroy()
    executor.leave()


def _sqlite(path: Path) -> sa.URL:
    try:
        with sqlite3.connect(path) as connection:
            # Before DBOS opens it: that does not change the mode any more.
            connection.execute("PRAGMA journal_mode=WAL")
    except sqlite3.Error as error:
        raise DroverError(
            f"the workflows' database {path} cannot be used: {error}", remedy="check that the folder is writable"
        ) from error
    return sa.URL.create("sqlite", database=str(path))
