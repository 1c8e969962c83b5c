"""Several migrations at once, a `drover resume` process for each: what one of them suffers is no other's business."""

import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from drover.model.migration import Migration, State
from drover.plans.course import Turn

_LOOK = 60.0
"""Seconds for which the clock is trusted to go on as it goes."""
_SIGNALLED = 128
"""What shells add to the number of the signal that ended a process."""

Event = dict[str, Any]
Observer = Callable[[Migration, Event], None]


class Follower(Protocol):
    """Says what follows from what happens to migrations, which it knows by their ids."""

    @property
    def wake(self) -> float | None:
        """When `due` is to be asked though nothing happens before, Unix seconds."""

    def ended(self, migration: str, code: int) -> Turn:
        """A process has ended, with this exit code, or minus the signal that ended it."""

    def copied(self, migration: str) -> Turn:
        """All of a migration is copied."""

    def due(self) -> Turn:
        """The time of `wake` has come."""


class Alone:
    """Nothing follows from anything."""

    wake: float | None = None

    def ended(self, _migration: str, _code: int) -> Turn:
        return Turn()

    def copied(self, _migration: str) -> Turn:
        return Turn()

    def due(self) -> Turn:
        return Turn()


def run_all(migrations: Sequence[Migration], observe: Observer) -> int:
    """Runs each of them, all at once, until it ends or cannot go on; the worst exit code. As `run_course` otherwise."""
    ids = [migration.id for migration in migrations]
    return run_course(migrations, Turn(begin=ids), Alone(), observe)


def run_course(migrations: Sequence[Migration], first: Turn, follower: Follower, observe: Observer) -> int:
    """Runs migrations as `follower` has them begin and stop; the worst of the exit codes that they ended with.

    `observe` gets what they print with `--json`, in the order in which it comes. Ctrl-C interrupts each of them: they
    pause in an orderly way, and that is waited for; none begins after it.
    """
    course = _Course(migrations, follower, observe)
    before = signal.signal(signal.SIGINT, lambda *_: course.interrupt())
    try:
        course.take(first)
        while course.goes_on:
            course.take(course.next_turn())
    finally:
        signal.signal(signal.SIGINT, before)
    return max(course.codes.values(), default=0)


class _Course:
    def __init__(self, migrations: Sequence[Migration], follower: Follower, observe: Observer) -> None:
        self._migrations = {migration.id: migration for migration in migrations}
        self._follower = follower
        self._copied: set[str] = set()
        self._observe = observe
        self._events: queue.Queue[tuple[str, Event | None]] = queue.Queue()
        self._interrupted = False
        self._stopped: set[str] = set()
        """Those that `follower` had stop: how they end is not their own doing."""
        self.running: dict[str, subprocess.Popen[str]] = {}
        self.codes: dict[str, int] = {}

    def take(self, turn: Turn) -> None:
        for migration in turn.interrupt:
            if migration in self.running:
                self._stopped.add(migration)
                self.running[migration].send_signal(signal.SIGINT)
        for migration in turn.begin:
            if self._interrupted:
                self.codes.setdefault(migration, _SIGNALLED + signal.SIGINT)
                continue
            self.running[migration] = process = _start(migration)
            threading.Thread(target=_read, args=(migration, process, self._events), daemon=True).start()

    def interrupt(self) -> None:
        self._interrupted = True
        for process in list(self.running.values()):
            process.send_signal(signal.SIGINT)

    @property
    def goes_on(self) -> bool:
        """Whether something runs, or will by itself."""
        return bool(self.running) or (self._follower.wake is not None and not self._interrupted)

    def next_turn(self) -> Turn:
        """Waits for one event, passes it on, and says what follows."""
        wake = self._follower.wake
        try:
            number, event = self._events.get(timeout=None if wake is None else min(max(wake - time.time(), 0), _LOOK))
        except queue.Empty:
            return self._follower.due() if wake is not None and wake <= time.time() else Turn()
        if event is None:
            return self._end(number)
        migration = self._migrations[number]
        self._observe(migration, {"migration": number, "vm": migration.spec.vm, **event})
        if event.get("state") != State.READY or number in self._copied:
            return Turn()
        self._copied.add(number)
        return self._follower.copied(number)

    def _end(self, number: str) -> Turn:
        code = self.running[number].wait()
        del self.running[number]
        if number not in self._stopped:
            self.codes[number] = code if code >= 0 else _SIGNALLED - code
        if code < 0:
            self._observe(self._migrations[number], _ended(self._migrations[number], -code))
        return self._follower.ended(number, code)


def _start(migration: str) -> "subprocess.Popen[str]":
    # A process group of its own: Ctrl-C reaches this process alone, and each of them once.
    return subprocess.Popen(
        _command(migration), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace",
        process_group=0,
    )  # fmt: skip


def _command(migration: str) -> list[str]:
    return [sys.executable, "-P", "-m", "drover", "resume", migration, "--json"]


def _read(number: str, process: "subprocess.Popen[str]", events: "queue.Queue[tuple[str, Event | None]]") -> None:
    assert process.stdout is not None
    for line in process.stdout:
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        events.put((number, event if isinstance(event, dict) else {"event": "message", "text": line.rstrip()}))
    events.put((number, None))


def _ended(migration: Migration, by: int) -> Event:
    try:
        name = signal.Signals(by).name
    except ValueError:
        name = f"signal {by}"
    return {
        "event": "error",
        "migration": migration.id,
        "vm": migration.spec.vm,
        "error": f"the process that ran {migration.id} of {migration.spec.vm} was ended by {name}",
        "remedy": f"`drover resume {migration.id}` goes on from where it stands",
    }
