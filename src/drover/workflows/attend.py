"""Attending a migration: its process runs, is found again by the next server, and is started again if it was killed.

The process is one of its own (`drover resume ID`): it goes on while the server is down. Whoever attends it sees by its
lock that it runs, and by the database how it ended.
"""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Protocol

from drover import logs
from drover.model.migration import COPIED, State
from drover.plans.course import End
from drover.replicator.attended import BEGUN
from drover.replicator.record import end
from drover.replicator.simulated import is_between
from drover.store import LiveStore, MigrationStore
from drover.workflows.simulated import SimulatedProcess

_LOOK = 0.3
"""Seconds between two looks at a migration."""
_LOOKS = 5
"""Of these, one that reads how far it is."""
_STILL = (State.PAUSED, State.FAILED)

_log = logs.logger("workflows")


class Process(Protocol):
    """What runs a migration."""

    def poll(self) -> int | None:
        """None while it runs; below 0 if it was killed."""
        ...


Start = Callable[[str, float], Process]
"""Starts the process of a migration that was begun at that time (Unix seconds)."""


async def attend(
    migration_id: str, since: float, start: Start | None = None, copied: Callable[[], Awaitable[None]] | None = None
) -> End:
    """Returns when the migration's process has ended, how. May be called again for the same one at any time.

    `since` is when this migration was to begin, Unix seconds: pauses that were asked later are meant for it. `copied`
    is called once all of it is copied, if that is seen before the end.
    """
    store, begin = MigrationStore(), start or start_process
    looks = 0
    live = LiveStore(store.folder)
    process: Process | None = None
    found = False
    while True:
        if process is not None:
            if (code := process.poll()) is not None:
                return end(await asyncio.to_thread(store.get, migration_id), killed=code < 0)
        elif await asyncio.to_thread(store.is_running, migration_id):
            found = True
        else:
            migration = await asyncio.to_thread(store.get, migration_id)
            if migration.state.ended or found:
                return end(migration, killed=migration.state not in _STILL)
            if await asyncio.to_thread(live.is_to_pause, migration_id, since=since):
                return End.FAILED
            process = begin(migration_id, since)
        looks += 1
        if copied is not None and not looks % _LOOKS and _is_copied(store, migration_id):
            await copied()
            copied = None
        await asyncio.sleep(_LOOK)


def _is_copied(store: MigrationStore, migration_id: str) -> bool:
    standing = store.standing([migration_id]).get(migration_id)
    return standing is not None and standing.state in COPIED


def start_process(migration_id: str, since: float) -> Process:
    """`drover resume`, in a session of its own; its log, and what it prints of a crash, is in the data folder.

    A simulated migration is a thread instead, and dies with the server: a process for each of thousands costs more
    than all that is simulated.
    """
    store = MigrationStore()
    migration = store.get(migration_id)
    if is_between(migration.spec.source, migration.spec.destination):
        return SimulatedProcess(store, migration, since)
    with (store.folder / f"{migration_id}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "drover", "resume", migration_id, "--json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env={**logs.environment(migration=migration_id), BEGUN: repr(since)},
            start_new_session=True,
        )
    _log.info("its process begins", migration=migration_id, pid=process.pid)
    return process
