"""Keeping one site's inventory fresh: everything once at (re)connection, then what events name, in a thread of its own.

connecting ──► listing everything ──► waiting for events ──► reading the VMs that they name ─┐
    ▲                 ▲ every 15 minutes      ▲  └───────────────────────────────────────────┘
    └── back-off ◄────┴── the site is gone ───┘
"""

import secrets
import threading
import time
from collections.abc import Callable, Collection

from drover import logs
from drover.errors import DroverError
from drover.model.inventory import Watched
from drover.store import InventoryStore
from drover.store.sites import Site

RESYNC = 900.0
"""Seconds after which everything is listed again, for what no event tells."""
_FIRST_RETRY = 0.5
_SLOWEST_RETRY = 60.0
_WAIT = 1.0
"""Seconds in which a keeper hears that it is to stop."""
_ANSWER = 15.0
"""Seconds in which a site answers; an SSH connection may take a few."""
_chance = secrets.SystemRandom()
_log = logs.logger("inventory")

Watch = Callable[[str], Watched]


class Keeper:
    """Runs from `start` until `stop`, or until the site's lease is lost: then `alive` is false."""

    def __init__(self, store: InventoryStore, site: Site, holder: str, watch: Watch, *, resync: float = RESYNC) -> None:
        self.site = site
        self._store = store
        self._holder = holder
        self._watch = watch
        self._resync = resync
        self._stopped = threading.Event()
        self._connecting: float | None = None
        self._gone_since: float | None = None
        self._pause = _FIRST_RETRY
        self._thread = threading.Thread(target=self._run, name=f"inventory of {site.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Does not wait: a site that does not answer would keep it."""
        self._stopped.set()

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and not self._stopped.is_set()

    def judge(self, now: float) -> None:
        """Notes that a site is gone that leaves whoever connects waiting. `now` is Unix seconds. Raises DroverError."""
        since = self._connecting
        if since is not None and now - since > _ANSWER:
            self._lost(f"it has not answered for {_ANSWER:.0f} s", since)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._follow()
            except DroverError as error:
                self._note(error)
                # With jitter: hosts that were cut off together do not come back together.
                self._stopped.wait(self._pause * _chance.uniform(0.5, 1.0))
                self._pause = min(2 * self._pause, _SLOWEST_RETRY)

    def _follow(self) -> None:
        """From a connection to its end."""
        self._connecting = time.time()
        try:
            watched = self._watch(self.site.uri)
        finally:
            self._connecting = None
        try:
            while not self._stopped.is_set() and self._listed(watched):
                until = time.monotonic() + self._resync
                while not self._stopped.is_set() and time.monotonic() < until:
                    if not self._read(watched, watched.changed(min(_WAIT, self._resync))):
                        self._stopped.set()
        finally:
            watched.close()

    def _listed(self, watched: Watched) -> bool:
        vms = watched.everything()
        kept = not self._stopped.is_set() and self._store.replace(self.site.name, self._holder, vms)
        if not kept:
            # Another server watches it now, or another keeper by another URI.
            self._stopped.set()
            return False
        self._pause = _FIRST_RETRY
        if self._gone_since is not None:
            self._gone_since = None
            _log.warning("a site answers again", site=self.site.name)
        return True

    def _read(self, watched: Watched, named: Collection[str]) -> bool:
        """Reads anew what events named; False if the lease is lost."""
        if not named:
            return True
        found = {uuid: watched.one(uuid) for uuid in named}
        here = [vm for vm in found.values() if vm is not None]
        gone = [uuid for uuid, vm in found.items() if vm is None]
        return self._store.put(self.site.name, self._holder, here, gone)

    def _note(self, error: DroverError) -> None:
        if self._gone_since is None:
            _log.warning(error.message, remedy=error.remedy, site=self.site.name)
        try:
            self._lost(error.message, time.time())
        except DroverError as unwritten:
            _log.warning(unwritten.message, remedy=unwritten.remedy, site=self.site.name)

    def _lost(self, reason: str, since: float) -> None:
        self._gone_since = self._gone_since or since
        if not self._store.lost(self.site.name, self._holder, self._gone_since, reason):
            self._stopped.set()
