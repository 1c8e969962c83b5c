"""Several `drover server` that share PostgreSQL: whichever dies, stands still or loses the database, all is done once.

Real servers, workflows, claims and a real database; what a migration does is simulated (`simulated.py`). Each server
has a data folder of its own, as on hosts of their own.
"""

import json
import os
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
import sqlalchemy as sa

from drover.model.migration import Facts, Spec, State
from drover.store import MigrationStore, RunStore
from drover.store.claims import Claims
from drover.store.database import Database
from drover.store.location import FILE
from drover.store.plans import RunKind, RunState, StoredRun
from tests.postgresql import Cluster

TAKEN_OVER = 10.0
"""Seconds within which others take over."""


class Several:
    """Servers on one database."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        self.address = cluster.new_database()
        self.processes: list[subprocess.Popen[str]] = []
        self.clients: list[httpx2.Client] = []
        self.data = self._data("here")
        self.store, self.runs = MigrationStore(self.data), RunStore(self.data)
        self.acts = folder / "acts"

    def _data(self, name: str) -> Path:
        data = self.folder / name
        data.mkdir()
        (data / FILE).write_text(self.address)
        return data

    def start(self, servers: int, *, turns: int, pause: float) -> None:
        """Returns when all of them serve."""
        command = [sys.executable, "-m", "tests.server.simulated", "server", "--port", "0", "--json"]
        work = {"SIMULATED_ACTS": str(self.acts), "SIMULATED_TURNS": str(turns), "SIMULATED_PAUSE": str(pause)}
        for _ in range(servers):
            data = self._data(f"server-{len(self.processes)}")
            env = {**os.environ, **work, "DROVER_DATA": str(data)}
            process = subprocess.Popen(
                [*command, "--runs-at-once", "3"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
            )
            self.processes.append(process)
        for process in self.processes[-servers:]:
            assert process.stdout is not None
            said = json.loads(process.stdout.readline())
            trusted = ssl.create_default_context(cafile=said["authority"])
            self.clients.append(httpx2.Client(base_url=said["url"], verify=trusted, timeout=30))

    def ask(self, number: int) -> list[str]:
        """That many migrations, a run for each; their ids. Servers that start later find them."""
        asked = []
        for index in range(number):
            spec = Spec(vm=f"vm-{index}", source="qemu:///a?socket=/no/a", destination="qemu:///b?socket=/no/b")
            migration = self.store.add(spec, Facts(uuid=f"uuid-{index}"))
            target = {"migration": migration.id}
            kind = RunKind.MIGRATION
            self.runs.add(StoredRun(id=f"r-{migration.id}", kind=kind, target=target, name=migration.id, by="boss"))
            asked.append(migration.id)
        return asked

    def done(self) -> list[tuple[str, int, int]]:
        """Migration, number of the act, process."""
        lines = self.acts.read_text().splitlines() if self.acts.exists() else []
        return [(name, int(number), int(process)) for name, number, process in (line.split() for line in lines)]

    def working(self) -> dict[str, int]:
        """Of each pending workflow's server, how many it has."""
        query = "SELECT executor_id, count(*) FROM dbos.workflow_status WHERE status = 'PENDING' GROUP BY 1"
        with Database(self.data).transaction() as db:
            return {row[0]: row[1] for row in db.execute(sa.text(query))}

    def all_finished(self, asked: list[str]) -> bool:
        return all(self.runs.get(f"r-{migration}").state.ended for migration in asked)

    def close(self) -> None:
        for client in self.clients:
            client.close()
        for process in self.processes:
            process.kill()
            process.wait()
        for process in {process for _, _, process in self.done()}:
            if b"tests.server.simulated" in _command(process):
                os.kill(process, signal.SIGKILL)


def _command(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def until(wanted: Callable[[], object], patience: float = 60) -> float:
    """Seconds until it was so."""
    began = time.monotonic()
    while not wanted():
        assert time.monotonic() - began < patience
        time.sleep(0.1)
    return time.monotonic() - began


@pytest.fixture
def several(postgresql: Cluster, tmp_path: Path) -> Iterator[Several]:
    several = Several(postgresql, tmp_path)
    yield several
    several.close()


def once_each(several: Several, asked: list[str], turns: int) -> None:
    """Every act of every migration was done, once, and each run says that it finished."""
    assert sorted((name, number) for name, number, _ in several.done()) == sorted(
        (name, number) for name in asked for number in range(turns)
    )
    for migration in asked:
        run = several.runs.get(f"r-{migration}")
        assert run.state is RunState.FINISHED, run
        assert several.store.get(migration).state is State.FINISHED
        told = [text for _, kind, text in several.store.history(migration) if kind == "state"]
        assert len(told) == len(set(told)) == 8


def test_nothing_is_lost_though_the_database_restarts_and_a_server_is_killed(several: Several) -> None:
    asked = several.ask(4)
    several.start(2, turns=80, pause=0.1)
    until(lambda: len({process for _, _, process in several.done()}) == 4 and len(several.working()) == 2)
    several.cluster.stop()
    began = time.monotonic()
    assert several.clients[1].get("/healthz").status_code == 200
    told = several.clients[1].get("/readyz")
    assert told.status_code == 503 and "cannot be used" in told.json()["detail"]
    time.sleep(max(0.0, began + 3 - time.monotonic()))
    several.cluster.start()
    until(lambda: several.clients[1].get("/readyz").status_code == 200)
    several.processes[0].kill()
    assert until(lambda: len(several.working()) == 1) < TAKEN_OVER
    # Migrations are processes of their own: those of the dead server went on, and are attended to by the other.
    until(lambda: several.all_finished(asked))
    assert len({process for _, _, process in several.done()}) == 4
    once_each(several, asked, 80)
    assert several.processes[1].poll() is None


def test_a_server_that_stood_still_does_nothing_any_more(several: Several) -> None:
    asked = several.ask(4)
    several.start(2, turns=100, pause=0.1)
    until(lambda: len({process for _, _, process in several.done()}) == 4 and len(several.working()) == 2)
    stopped, other = several.processes
    # And a migration's process with it, as if its host had stood still.
    frozen = next(pid for _, _, pid in several.done() if f"{_parent(pid)}" == str(stopped.pid))
    os.kill(frozen, signal.SIGSTOP)
    stopped.send_signal(signal.SIGSTOP)
    assert until(lambda: len(several.working()) == 1) < TAKEN_OVER
    name = next(name for name, _, pid in several.done() if pid == frozen)
    until(lambda: {pid for migration, _, pid in several.done() if migration == name} > {frozen}, 20)
    count = sum(pid == frozen for _, _, pid in several.done())
    os.kill(frozen, signal.SIGCONT)
    stopped.send_signal(signal.SIGCONT)
    assert stopped.wait(10) == 1
    assert stopped.stderr is not None and "another server took over" in stopped.stderr.read()
    until(lambda: several.all_finished(asked))
    assert sum(pid == frozen for _, _, pid in several.done()) == count
    once_each(several, asked, 100)
    assert other.poll() is None
    # One that ends in order leaves nothing that others had to wait for.
    other.terminate()
    other.wait(20)
    assert not Claims(Database(several.data)).living("server ")


def _parent(process: int) -> int:
    stat = Path(f"/proc/{process}/stat").read_text()
    found = re.search(r"\) \S (\d+)", stat)
    assert found is not None
    return int(found.group(1))
