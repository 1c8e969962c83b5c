"""Probing a link again and again while its VMs are observed: nights and noons differ, and so do two minutes of one."""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from drover.errors import DroverError


class Repeated:
    """Calls `probe` every so many seconds (None: never), in a thread, from entering to leaving, but not at once.

    A probe that fails is noted in `failures`, and the next one tries again. Leaving waits for one that is under way.
    """

    def __init__(self, probe: Callable[[], None], every: float | None) -> None:
        self.failures: list[str] = []
        self._probe = probe
        self._every = every
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._run, name="probing")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._left.wait(self._every):
            try:
                self._probe()
            except DroverError as error:
                self.failures.append(str(error))
