"""A migration's process as others see it: its progress is in the database, and it pauses when that asks it to."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from drover import logs
from drover.errors import DroverError
from drover.model.migration import Migration
from drover.replicator.events import Event, Message, Observer, Progress
from drover.store import LiveStore, MigrationStore

BEGUN = "DROVER_BEGUN"
_EVERY = 2.0
"""Seconds between two writes of the progress."""
_LOOK = 0.5
"""Seconds between two looks at what is asked."""
_log = logs.logger("migration")


@contextmanager
def attended(store: MigrationStore, migration: Migration, observe: Observer) -> Iterator[Observer]:
    """Yields an observer that stores progress and passes everything on.

    While it is open, asking the database for a pause has the effect of Ctrl-C, which is the orderly way to stop. What
    was asked before this run was begun is void; who begins it for somebody else says in `DROVER_BEGUN` (Unix seconds)
    when that was.
    """
    live = LiveStore(store.folder)
    since = float(os.environ.get(BEGUN, time.time()))
    ended = threading.Event()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As shells start what runs in the background.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_listen, args=(live, migration.id, since, ended), daemon=True).start()
    written = 0.0

    def observed(event: Event) -> None:
        nonlocal written
        if isinstance(event, Message):
            _log.info(event.text, state=event.state)
        if isinstance(event, Progress) and time.monotonic() - written >= _EVERY:
            written = time.monotonic()
            live.tell(migration.id, event.as_json())
        observe(event)

    try:
        with logs.bound(migration=migration.id, vm=migration.spec.vm):
            yield observed
    finally:
        ended.set()


def _listen(live: LiveStore, migration: str, since: float, ended: threading.Event) -> None:
    while not ended.wait(_LOOK):
        try:
            asked = live.is_to_pause(migration, since=since)
        except DroverError:
            # A database that is busy or gone for a moment: the migration itself says so if it stays away.
            continue
        if asked and not ended.is_set():
            os.kill(os.getpid(), signal.SIGINT)
            return
