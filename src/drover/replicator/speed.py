"""Rates from totals that grow: what a migration did lately, smoothed."""

import time
from collections import deque
from collections.abc import Callable


class Meter:
    """Bytes per second over the last `window` seconds of a growing total. `clock` gives monotonic seconds."""

    def __init__(self, window: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._window = window
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, total: int) -> None:
        """Notes the total now. A total that shrank (a new engine counts from 0) starts the window anew."""
        now = self._clock()
        if self._samples and total < self._samples[-1][1]:
            self._samples.clear()
        self._samples.append((now, total))
        while len(self._samples) > 2 and self._samples[0][0] < now - self._window:
            self._samples.popleft()

    @property
    def rate(self) -> float:
        if len(self._samples) < 2:
            return 0.0
        (start, before), (end, after) = self._samples[0], self._samples[-1]
        return (after - before) / (end - start) if end > start else 0.0
