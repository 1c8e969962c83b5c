"""What stands for the process of a simulated migration: a thread of the server."""

import threading

from drover import logs
from drover.errors import DroverError
from drover.model.migration import Migration
from drover.replicator.simulated import KilledError, migrate
from drover.store import MigrationStore

_log = logs.logger("simulated")


class SimulatedProcess:
    """Runs from the beginning; `poll` is that of a subprocess."""

    def __init__(self, store: MigrationStore, migration: Migration, since: float) -> None:
        self._store, self._migration, self._since = store, migration, since
        self._code = 1
        self._thread = threading.Thread(target=self._run, name=f"simulated {migration.id}", daemon=True)
        self._thread.start()

    def poll(self) -> int | None:
        """None while it runs; below 0 if the simulation killed it."""
        return None if self._thread.is_alive() else self._code

    def _run(self) -> None:
        try:
            with self._store.running(self._migration):
                migrate(self._store, self._migration, self._since)
            self._code = 0
        except KilledError:
            self._code = -9
        except (DroverError, KeyboardInterrupt) as error:
            # The migration has its reason.
            _log.info("a simulated migration stopped", migration=self._migration.id, reason=str(error))
