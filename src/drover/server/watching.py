"""What the server does by itself, beside its workflows: it looks whether sites answer, and sends alerts."""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from drover import logs
from drover.alerts.config import FILE, load
from drover.alerts.watcher import Watcher, watched
from drover.errors import DroverError
from drover.platforms.libvirt.connection import open_uri
from drover.store import SiteStore

_EVERY = 5.0
_LOOK_AT_SITES = 30.0
_ANSWER = 15.0
"""Seconds in which a site answers; an SSH connection may take a few."""
_log = logs.logger("server")


class Sites:
    """Which sites do not answer, and since when."""

    def __init__(self, store: SiteStore) -> None:
        self._store = store
        self._pool = ThreadPoolExecutor(thread_name_prefix="site")
        self._asked: dict[str, tuple[float, Future[None]]] = {}
        self._gone: dict[str, float] = {}

    def unreachable(self, now: float) -> dict[str, float]:
        """By name, Unix seconds; asks those again that were not asked lately. Does not wait for answers."""
        uris = {site.name: site.uri for site in self._store.all()}
        for name in self._asked.keys() - uris.keys():
            del self._asked[name]
        for name, uri in uris.items():
            asked_at, answer = self._asked.get(name, (0.0, None))
            if answer is not None and not answer.done():
                if now - asked_at > _ANSWER:
                    self._gone.setdefault(name, asked_at)
                continue
            if answer is not None and answer.exception() is not None:
                self._gone.setdefault(name, asked_at)
            elif answer is not None:
                self._gone.pop(name, None)
            if now - asked_at >= _LOOK_AT_SITES:
                self._asked[name] = now, self._pool.submit(_ask, uri)
        self._gone = {name: since for name, since in self._gone.items() if name in uris}
        return dict(self._gone)

    def close(self) -> None:
        """Does not wait for those that are asked."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Watching:
    """A thread from `start` to `stop`. What goes wrong in it is in the log, once, and is tried again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stopped = threading.Event()
        self._sites = Sites(SiteStore(folder))
        self._thread = threading.Thread(target=self._run, name="watching", daemon=True)
        self._said = ""
        self.unreachable: dict[str, float] = {}
        """Sites that do not answer, by name, and since when, Unix seconds."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when what is being sent has been."""
        self._stopped.set()
        self._thread.join(10)
        self._sites.close()

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
        unreachable = self.unreachable = self._sites.unreachable(time.time())
        if not (self._folder / FILE).exists():
            return
        # Read each time: what the administrator changes holds at once.
        watcher = Watcher(self._folder, load(self._folder / FILE))
        watcher.look(time.time(), **watched(self._folder), unreachable=unreachable)
        for attempt in watcher.deliver(time.time()):
            if attempt.error is not None:
                _log.warning(attempt.error.message, remedy=attempt.error.remedy)


def _ask(uri: str) -> None:
    """Raises DroverError if the site does not answer."""
    open_uri(uri).close()
