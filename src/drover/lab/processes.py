"""The processes of a lab, found by what the kernel says of them, so that no process id is ever remembered.

A site's processes are those whose mount table holds the site's own file system (its mark). A process id that was
used again by a stranger therefore never looks like ours, and a lab whose files were deleted can still be ended.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from drover.errors import HostError

Belongs = Callable[[int], bool]


@dataclass(frozen=True)
class Process:
    """A process as it was seen: its id, its short name, and its command line."""

    pid: int
    name: str
    arguments: tuple[str, ...]


def has_mount(mark: str) -> Belongs:
    """Says of a process whether its mount table holds a file system that is called `mark`."""
    needle = f" - tmpfs {mark} ".encode()

    def belongs(pid: int) -> bool:
        return needle in _read(pid, "mountinfo")

    return belongs


def has_arguments(program: str, *arguments: str) -> Belongs:
    """Says of a process whether it runs `program` with all of `arguments` on its command line."""

    def belongs(pid: int) -> bool:
        line = _arguments(pid)
        return bool(line) and Path(line[0]).name == program and set(arguments) <= set(line)

    return belongs


def called(name: str, belongs: Belongs) -> Belongs:
    """Says of a process whether it belongs and the kernel calls it `name` (of which the kernel keeps 15 characters)."""

    def narrower(pid: int) -> bool:
        return _name(pid) == name[:15] and belongs(pid)

    return narrower


def find(belongs: Belongs) -> list[Process]:
    """The processes that belong, lowest id first."""
    return [Process(pid, _name(pid), _arguments(pid)) for pid in sorted(_pids()) if belongs(pid)]


def send(belongs: Belongs, number: signal.Signals) -> int:
    """Sends a signal to each process that belongs; the number of processes reached."""
    return sum(_send_checked(process.pid, belongs, number) for process in find(belongs))


def end(belongs: Belongs, *, what: str, grace_seconds: float = 5.0) -> int:
    """Ends every process that belongs: politely, then by force. Returns how many there were.

    Raises HostError, naming `what`, if some are still there after 10 seconds of force.
    """
    count = send(belongs, signal.SIGTERM)
    # A stopped process would not see the signal before it goes on.
    send(belongs, signal.SIGCONT)
    if wait_gone(belongs, grace_seconds):
        return count
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        # In a loop: a process may have started another between the look and the signal.
        send(belongs, signal.SIGKILL)
        if wait_gone(belongs, 0.5):
            return count
    left = ", ".join(f"{process.name} ({process.pid})" for process in find(belongs))
    raise HostError(f"ending {what}: still running after SIGKILL: {left}", remedy="look at dmesg for stuck I/O")


def wait_gone(belongs: Belongs, seconds: float) -> bool:
    """Whether no process belongs any more, waiting up to `seconds`."""
    deadline = time.monotonic() + seconds
    while find(belongs):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _send_checked(pid: int, belongs: Belongs, number: signal.Signals) -> bool:
    # The descriptor pins the process: after the second look the id cannot pass to another one.
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            if belongs(pid):
                signal.pidfd_send_signal(descriptor, number)
                return True
        finally:
            os.close(descriptor)
    return False


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _name(pid: int) -> str:
    return _read(pid, "comm").decode(errors="replace").strip()


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _arguments(pid: int) -> tuple[str, ...]:
    return tuple(word.decode(errors="replace") for word in _read(pid, "cmdline").split(b"\0")[:-1])
