"""A migration's process is attended to its end, whoever started it, and whatever becomes of the server meanwhile."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest

from drover.model.migration import Facts, Spec, State
from drover.plans.course import End
from drover.store import LiveStore, MigrationStore
from drover.workflows.attend import attend

PROGRAM = """
import os, signal, sys, time
from drover.model.migration import State
from drover.store import MigrationStore
store = MigrationStore()
migration = store.get(sys.argv[1])
with store.running(migration):
    print("holds it", flush=True)
    for word in sys.argv[2:]:
        if word == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif word == "wait":
            sys.stdin.readline()
        else:
            store.enter(migration, State(word))
"""


class Processes:
    """Starts the program in place of `drover resume`."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[bytes]] = []
        self.words: list[str] = []

    def __call__(self, migration: str, since: float) -> "subprocess.Popen[bytes]":
        assert since <= time.time()
        command = [sys.executable, "-c", PROGRAM, migration, *self.words]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.started.append(process)
        return process


@pytest.fixture
def processes() -> Processes:
    return Processes()


@pytest.fixture
def migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("DROVER_DATA", str(tmp_path))
    return MigrationStore().add(Spec(vm="web", source="a:///", destination="b:///"), Facts()).id


def attended(migration: str, processes: Processes) -> End:
    return asyncio.run(asyncio.wait_for(attend(migration, time.time(), processes), 60))


@pytest.mark.parametrize(
    ("words", "end"),
    [
        (["cancelled"], End.FINISHED),
        (["preparing", "paused"], End.FAILED),
        (["preparing"], End.FAILED),
        (["preparing", "die"], End.KILLED),
    ],
)
def test_how_its_process_ends_is_told(migration: str, processes: Processes, words: list[str], end: End) -> None:
    processes.words = words
    assert attended(migration, processes) is end
    assert len(processes.started) == 1


@pytest.mark.parametrize(
    ("words", "end"),
    [(["preparing", "wait", "paused"], End.FAILED), (["preparing", "wait"], End.KILLED), (["wait", "die"], End.KILLED)],
)
def test_one_that_runs_already_is_found_and_not_started_again(
    migration: str, processes: Processes, words: list[str], end: End
) -> None:
    processes.words = words
    other = processes(migration, time.time())
    assert other.stdout is not None and other.stdin is not None
    assert other.stdout.readline() == b"holds it\n"

    async def both() -> End:
        attending = asyncio.create_task(attend(migration, time.time(), processes))
        await asyncio.sleep(0.5)
        assert not attending.done()
        assert other.stdin is not None
        other.stdin.write(b"\n")
        other.stdin.flush()
        return await asyncio.wait_for(attending, 60)

    assert asyncio.run(both()) is end
    other.wait()
    assert processes.started == [other]


def test_one_that_ended_meanwhile_is_not_started(migration: str, processes: Processes) -> None:
    store = MigrationStore()
    store.enter(store.get(migration), State.CANCELLED)
    assert attended(migration, processes) is End.FINISHED
    assert not processes.started


def test_one_that_is_to_pause_is_not_started_and_an_old_pause_is_void(migration: str, processes: Processes) -> None:
    LiveStore().ask_to_pause(migration)
    processes.words = ["cancelled"]
    begun = time.time()
    assert asyncio.run(attend(migration, begun - 10, processes)) is End.FAILED
    assert not processes.started
    assert asyncio.run(asyncio.wait_for(attend(migration, begun, processes), 60)) is End.FINISHED


def test_its_progress_is_stored_and_a_pause_is_as_ctrl_c(migration: str) -> None:
    """In a process of its own, since it is a signal that comes."""
    program = """
import sys, time
from drover.model.migration import State
from drover.replicator.attended import attended
from drover.replicator.events import Progress
from drover.store import LiveStore, MigrationStore
store = MigrationStore()
migration = store.get(sys.argv[1])
seen = []
try:
    with attended(store, migration, seen.append) as observe:
        observe(Progress(migration=migration.id, vm="web", state=State.REPLICATING, sent=17))
        LiveStore().ask_to_pause(migration.id)
        time.sleep(60)
except KeyboardInterrupt:
    assert len(seen) == 1
    sys.exit(42)
"""
    assert subprocess.run([sys.executable, "-c", program, migration], check=False).returncode == 42
    assert LiveStore().newest([migration])[migration]["sent"] == 17
