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

_SIGNALLED = 128
"""What shells add to the number of the signal that ended a process."""

Event = dict[str, Any]
Observer = Callable[[Migration, Event], None]


def run_all(migrations: Sequence[Migration], observe: Observer) -> int:
    """Runs each of them until it ends or cannot go on; the worst exit code.

    `observe` gets what they print with `--json`, in the order in which it comes. Ctrl-C interrupts each of them: they
    pause in an orderly way, and that is waited for.
    """
    events: queue.Queue[tuple[int, Event | None]] = queue.Queue()
    processes: list[subprocess.Popen[str]] = []
    interrupted = threading.Event()

    def interrupt(*_: object) -> None:
        interrupted.set()
        for process in processes:
            process.send_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        for number, migration in enumerate(migrations):
            if interrupted.is_set():
                break
            processes.append(_start(migration))
            threading.Thread(target=_read, args=(number, processes[-1], events), daemon=True).start()
        codes: list[int] = [_SIGNALLED + signal.SIGINT] * (len(migrations) - len(processes))
        while len(codes) < len(migrations):
            number, event = events.get()
            migration = migrations[number]
            if event is not None:
                observe(migration, {"migration": migration.id, "vm": migration.spec.vm, **event})
                continue
            code = processes[number].wait()
            codes.append(code if code >= 0 else _SIGNALLED - code)
            if code < 0:
                observe(migration, _ended(migration, -code))
    finally:
        signal.signal(signal.SIGINT, before)
    return max(codes)


def _start(migration: Migration) -> "subprocess.Popen[str]":
    # A process group of its own: Ctrl-C reaches this process alone, and each of them once.
    return subprocess.Popen(
        _command(migration.id), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace",
        process_group=0,
    )  # fmt: skip


def _command(migration: str) -> list[str]:
    return [sys.executable, "-P", "-m", "drover", "resume", migration, "--json"]


def _read(number: int, process: "subprocess.Popen[str]", events: "queue.Queue[tuple[int, Event | None]]") -> None:
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
