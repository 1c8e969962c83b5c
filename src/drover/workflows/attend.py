"""Attending a migration: its process runs, is found again by the next server, and is started again if it was killed.

The process is one of its own (`drover resume ID`): it goes on while the server is down. Whoever attends it sees by its
lock that it runs, and by the database how it ended.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable

from drover.model.migration import State
from drover.plans.course import End
from drover.replicator.attended import BEGUN
from drover.replicator.record import end
from drover.store import LiveStore, MigrationStore

_LOOK = 0.3
"""Seconds between two looks at a migration."""
_STILL = (State.PAUSED, State.FAILED)

Start = Callable[[str, float], "subprocess.Popen[bytes]"]
"""Starts the process of a migration that was begun at that time (Unix seconds)."""


async def attend(migration_id: str, since: float, start: Start | None = None) -> End:
    """Returns when the migration's process has ended, how. May be called again for the same one at any time.

    `since` is when this migration was to begin, Unix seconds: pauses that were asked later are meant for it.
    """
    store, begin = MigrationStore(), start or start_process
    live = LiveStore(store.folder)
    process: subprocess.Popen[bytes] | None = None
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
        await asyncio.sleep(_LOOK)


def start_process(migration_id: str, since: float) -> "subprocess.Popen[bytes]":
    """`drover resume`, in a session of its own; what it prints of a crash is in the data folder."""
    store = MigrationStore()
    with (store.folder / f"{migration_id}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "drover", "resume", migration_id, "--json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env={**os.environ, BEGUN: repr(since)},
            start_new_session=True,
        )
