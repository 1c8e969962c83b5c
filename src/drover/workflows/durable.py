"""DBOS as Drover uses it: its database, its queue, when it begins and ends."""

import sqlite3
from pathlib import Path

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer
from dbos import error as dbos_error

from drover.errors import DroverError

QUEUE = "runs"


def launch(folder: Path, *, runs_at_once: int) -> None:
    """Takes up what was under way, and new work from now on. Raises DroverError.

    Import the modules with workflows before: DBOS goes on at once with those that a server before this one left.
    """
    database = folder / "workflows.sqlite"
    try:
        with sqlite3.connect(database) as connection:
            # Before DBOS opens it: that does not change the mode any more.
            connection.execute("PRAGMA journal_mode=WAL")
    except sqlite3.Error as error:
        raise DroverError(
            f"the workflows' database {database} cannot be used: {error}", remedy="check that the folder is writable"
        ) from error
    config = DBOSConfig(
        name="drover",
        system_database_url=f"sqlite:///{database}",
        # A new version goes on with the workflows of the one before.
        application_version="1",
        executor_id="server",
        serializer=DBOSPortableJSONSerializer(),
        log_level="WARNING",
        # Threads that wait take memory: workflows are coroutines, and what blocks is short.
        max_executor_threads=32,
        notification_listener_polling_interval_sec=0.25,
        enable_otlp=False,
    )
    DBOS(config=config)
    try:
        DBOS.launch()
        DBOS.register_queue(QUEUE, worker_concurrency=runs_at_once, polling_interval_sec=0.5)
    except dbos_error.DBOSException as error:
        raise DroverError(
            f"the workflows cannot begin: {error}", remedy=f"look at {database} and the lines above"
        ) from error


def close() -> None:
    """Leaves the workflows where they are; migrations that run go on by themselves."""
    DBOS.destroy()
