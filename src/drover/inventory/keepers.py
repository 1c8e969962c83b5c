"""The keepers of all sites: each site is watched by one server of those that share the database, under a lease."""

import secrets
import threading
import time
from pathlib import Path

from drover import logs
from drover.errors import DroverError
from drover.inventory.keeper import RESYNC, Keeper, Watch
from drover.inventory.sites import watch as watch_uri
from drover.store import InventoryStore, SiteStore

LEASE = 20.0
"""Seconds that a dead server's sites stay unwatched at most."""


_EVERY = 2.0
_log = logs.logger("inventory")


class Keepers:
    """Works from `start` to `stop`. What goes wrong is in the log, once, and is tried again."""

    def __init__(self, folder: Path | None = None, watch: Watch = watch_uri, *, resync: float = RESYNC) -> None:
        self._sites = SiteStore(folder)
        self._store = InventoryStore(folder)
        self._watch = watch
        self._resync = resync
        self._holder = f"server-{secrets.token_hex(6)}"
        self._keepers: dict[str, Keeper] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="inventory", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when no site is watched any more by this server."""
        self._stopped.set()
        self._thread.join(10)
        self.stop_watching()

    def stop_watching(self) -> None:
        """Lets other servers watch the sites at once."""
        for keeper in self._keepers.values():
            keeper.stop()
        for keeper in self._keepers.values():
            keeper.join(2.0)
            self._store.let_go(keeper.site.name, self._holder)

    def _run(self) -> None:
        said = ""
        while not self._stopped.is_set():
            try:
                self.look(time.time())
                said = ""
            except DroverError as error:
                if str(error) != said:
                    _log.warning(error.message, remedy=error.remedy)
                said = str(error)
            self._stopped.wait(_EVERY)

    def look(self, now: float) -> None:
        """Keeps the leases, watches sites that nobody else does, forgets those that were removed.

        `now` is Unix seconds. Asks no site anything. Raises DroverError if the database cannot be used.
        """
        sites = {site.name: site for site in self._sites.all()}
        for name, keeper in list(self._keepers.items()):
            if sites.get(name) != keeper.site or not keeper.alive:
                keeper.stop()
                del self._keepers[name]
                self._store.let_go(name, self._holder)
        for name, site in sites.items():
            if not self._store.take(name, site.uri, self._holder, LEASE):
                continue
            if name not in self._keepers:
                self._keepers[name] = Keeper(self._store, site, self._holder, self._watch, resync=self._resync)
                self._keepers[name].start()
            self._keepers[name].judge(now)
        self._store.forget(sites.keys())
