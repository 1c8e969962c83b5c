"""Running the real `drover` command from a test: start it, follow its JSON lines, stop, kill or await it."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

COMMAND = Path(sys.executable).parent / "drover"
Event = dict[str, Any]


class Drover:
    """One `drover … --json` process. Its events are dictionaries in the order in which they were printed."""

    def __init__(self, data: Path, *arguments: str) -> None:
        self.events: list[Event] = []
        self._queue: queue.Queue[Event | None] = queue.Queue()
        self._process = subprocess.Popen(
            [COMMAND, *arguments, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "DROVER_DATA": str(data)},
        )
        threading.Thread(target=self._read, daemon=True).start()

    def wait_for(self, wanted: Callable[[Event], bool], timeout: float = 120) -> Event:
        """The next event of that kind. Fails the test if the process ends or time runs out before it comes."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                event = self._queue.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"waited {timeout} s in vain; the last events: {self.events[-4:]}") from None
            if event is None:
                raise AssertionError(f"drover ended: {self.events[-3:]} {self.stderr()}")
            if wanted(event):
                return event

    def wait_state(self, state: str, timeout: float = 120) -> Event:
        return self.wait_for(lambda event: event.get("state") == state, timeout)

    def finish(self, timeout: float = 240) -> Event:
        """The last event of a process that must succeed."""
        assert self.wait(timeout) == 0, (self.events[-3:], self.stderr())
        return self.events[-1]

    def fail(self, timeout: float = 240) -> Event:
        """The error of a process that must fail, in an orderly way."""
        code = self.wait(timeout)
        stderr = self.stderr()
        assert code not in (0, None), self.events[-3:]
        assert "Traceback" not in stderr, stderr
        assert self.events[-1]["event"] == "error", (self.events[-3:], stderr)
        return self.events[-1]

    def wait(self, timeout: float) -> int:
        code = self._process.wait(timeout)
        self._reader_done(timeout=10)
        return code

    def kill(self) -> None:
        """As `kill -9` does."""
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def stderr(self) -> str:
        assert self._process.stderr is not None
        return self._process.stderr.read() if self._process.poll() is not None else ""

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = json.loads(line)
            self.events.append(event)
            self._queue.put(event)
        self._queue.put(None)

    def _reader_done(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while None not in list(self._queue.queue) and time.monotonic() < deadline:
            time.sleep(0.01)


def run(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A whole `drover` command that ends by itself."""
    return subprocess.run(
        [COMMAND, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "DROVER_DATA": str(data)},
        timeout=240,
        check=False,
    )
