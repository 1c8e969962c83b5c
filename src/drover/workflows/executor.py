"""Which server this is, for the workflows: alone on its data folder, or one of several that share a database.

Each of several has a claim under an id of its own, made at its start and never used again. Any of them that finds
workflows of a server whose claim nobody holds, or renews, takes that claim, which fences the other should it come
back, and puts its workflows into the queue again. A server that lost its claim ends at once, in the middle of what
it does: what its steps would say then must not count.
"""

import fcntl
import logging
import secrets
import threading
from contextlib import ExitStack
from pathlib import Path

import sqlalchemy as sa
from dbos import DBOS

from drover.errors import DroverError, InputError
from drover.fence import under
from drover.store.claims import Claims, HeldError, end_process
from drover.store.database import Database

_EVERY = 1.0
"""Seconds between two looks for servers that died."""
ALONE = "server"
"""The id of a server that shares its database with nobody."""
_PREFIX = "server "
_WORKING = sa.text("SELECT DISTINCT executor_id FROM dbos.workflow_status WHERE status = 'PENDING'")
_log = logging.getLogger("drover.server")


class Executor:
    """This server, from before its workflows begin until they have stopped. Raises InputError if it may not be."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(folder)
        self._claims = Claims(self.database)
        self._held = ExitStack()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        if self.database.shared:
            self.id = f"s-{secrets.token_hex(6)}"
            claim = self._claims.take(_PREFIX + self.id, alone_here=False, on_lost=end_process)
            self._held.callback(self._claims.forget, claim)
            self._held.enter_context(under(claim))
        else:
            self.id = ALONE
            self._held.enter_context(self._lock(folder))

    def begin(self) -> None:
        """Takes over from servers that died, from now on. Workflows have begun."""
        if self.database.shared:
            self._thread = threading.Thread(target=self._run, name="taking over", daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Takes over no more. Workflows still run."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(10)

    def leave(self) -> None:
        """Lets the others take over what this one left. Its workflows have stopped."""
        self._held.close()

    def _lock(self, folder: Path) -> ExitStack:
        held = ExitStack()
        lock = held.enter_context((folder / "server.lock").open("a"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.close()
            raise InputError(
                f"another drover server works with {folder}",
                remedy="stop it, name another folder in DROVER_DATA, or let both share PostgreSQL: --database-url",
            ) from None
        return held

    def _run(self) -> None:
        said = ""
        while not self._stopped.wait(_EVERY):
            try:
                self._take_over()
                said = ""
            except (DroverError, sa.exc.SQLAlchemyError) as error:
                if str(error) != said:
                    _log.warning("looking for servers that died: %s", error)
                said = str(error)

    def _take_over(self) -> None:
        with self.database.transaction() as db:
            working = {str(row.executor_id) for row in db.execute(_WORKING)}
        for other in sorted(working - {self.id}):
            if self._claims.holder(_PREFIX + other) is not None:
                continue
            try:
                claim = self._claims.take(_PREFIX + other, alone_here=False)
            except HeldError:
                continue
            # Again whenever some are left: one that was stopped may begin one more before it finds that it is fenced.
            taken = DBOS._recover_pending_workflows([other])
            _log.warning("the server %s is gone: this one goes on with %d workflows of it", other, len(taken))
            self._claims.forget(claim)


def servers(folder: Path) -> int:
    """How many work with the database, this one included."""
    database = Database(folder)
    return len(Claims(database).living(_PREFIX)) if database.shared else 1


def working_with(folder: Path) -> str | None:
    """What a server is at work with this data folder, or shares its database; None if none is."""
    database = Database(folder, bring_up=False)
    if database.shared:
        living = Claims(database).living(_PREFIX) if database.revision() is not None else []
        return f"{len(living)} that share its database" if living else None
    lock = folder / "server.lock"
    if not lock.exists():
        return None
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return "one"
    return None
