"""Several migrations at once, a `drover resume` process for each: what one of them suffers is no other's business."""

import json
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from drover.model.migration import Migration
from drover.plans.course import Turn

_SIGNALLED = 128
"""What shells add to the number of the signal that ended a process."""

Event = dict[str, Any]
Observer = Callable[[Migration, Event], None]
Follow = Callable[[str, int], Turn]
"""What follows from the end of a migration's process: its id, and its exit code, or minus the signal that ended it."""


def run_all(migrations: Sequence[Migration], observe: Observer) -> int:
    """Runs each of them, all at once, until it ends or cannot go on; the worst exit code. As `run_course` otherwise."""
    ids = [migration.id for migration in migrations]
    return run_course(migrations, Turn(begin=ids), lambda _id, _code: Turn(), observe)


def run_course(migrations: Sequence[Migration], first: Turn, follow: Follow, observe: Observer) -> int:
    """Runs migrations as `follow` has them begin and stop; the worst of the exit codes that they ended with.

    `observe` gets what they print with `--json`, in the order in which it comes. Ctrl-C interrupts each of them: they
    pause in an orderly way, and that is waited for; none begins after it.
    """
    course = _Course(migrations, observe)
    before = signal.signal(signal.SIGINT, lambda *_: course.interrupt())
    try:
        course.take(first)
        while course.running:
            if (ended := course.next_end()) is not None:
                course.take(follow(*ended))
    finally:
        signal.signal(signal.SIGINT, before)
    return max(course.codes.values(), default=0)


class _Course:
    def __init__(self, migrations: Sequence[Migration], observe: Observer) -> None:
        self._migrations = {migration.id: migration for migration in migrations}
        self._observe = observe
        self._events: queue.Queue[tuple[str, Event | None]] = queue.Queue()
        self._interrupted = False
        self._stopped: set[str] = set()
        """Those that `follow` had stop: how they end is not their own doing."""
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

    def next_end(self) -> tuple[str, int] | None:
        """Passes one event on; the migration and how its process ended, if it was the last of that process."""
        number, event = self._events.get()
        migration = self._migrations[number]
        if event is not None:
            self._observe(migration, {"migration": number, "vm": migration.spec.vm, **event})
            return None
        code = self.running[number].wait()
        del self.running[number]
        if number not in self._stopped:
            self.codes[number] = code if code >= 0 else _SIGNALLED - code
        if code < 0:
            self._observe(migration, _ended(migration, -code))
        return number, code


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
