"""What the server does by itself, beside its workflows: it keeps the inventory, and sends alerts."""

import threading
import time
from pathlib import Path

from drover import logs
from drover.alerts.config import FILE, load
from drover.alerts.watcher import Watcher, watched
from drover.errors import DroverError
from drover.inventory import Keepers
from drover.store import InventoryStore

_EVERY = 5.0
_log = logs.logger("server")


class Watching:
    """A thread from `start` to `stop`. What goes wrong in it is in the log, once, and is tried again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stopped = threading.Event()
        self._keepers = Keepers(folder)
        self._inventory = InventoryStore(folder)
        self._thread = threading.Thread(target=self._run, name="watching", daemon=True)
        self._said = ""
        self.unreachable: dict[str, float] = {}
        """Sites that do not answer, by name, and since when, Unix seconds."""

    def start(self) -> None:
        self._keepers.start()
        self._thread.start()

    def stop(self) -> None:
        """Returns when what is being sent has been."""
        self._stopped.set()
        self._thread.join(10)
        self._keepers.stop()

    def _run(self) -> None:
        while not self._stopped.wait(_EVERY):
            try:
                self._look()
                self._said = ""
            except DroverError as error:
                if str(error) != self._said:
                    _log.warning(error.message, remedy=error.remedy)
                self._said = str(error)

    def _look(self) -> None:
        sites = self._inventory.sites().values()
        self.unreachable = {one.site: one.gone_since for one in sites if one.gone_since is not None}
        if not (self._folder / FILE).exists():
            return
        # Read each time: what the administrator changes holds at once.
        watcher = Watcher(self._folder, load(self._folder / FILE))
        watcher.look(time.time(), **watched(self._folder), unreachable=self.unreachable)
        for attempt in watcher.deliver(time.time()):
            if attempt.error is not None:
                _log.warning(attempt.error.message, remedy=attempt.error.remedy)
