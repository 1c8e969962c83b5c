"""Chaos with real VMs: servers, engines, migrations' processes, the link and the database die at random for minutes.

Two servers share PostgreSQL; four VMs that write, two of them a group, go from one lab site to the other meanwhile. All
must finish, be told truthfully, and have lost nothing. The 40 simulated migrations are in `tests/server/test_chaos.py`.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drover.accounts import Accounts, Role
from drover.cli.remote import Remote
from drover.errors import DroverError
from drover.lab import Lab
from drover.model.migration import State
from drover.store import MigrationStore, SiteStore
from drover.store.location import FILE
from drover.store.sites import Site
from tests.migration.drover import COMMAND
from tests.migration.world import Vm, processes, started, sweep, traces
from tests.postgresql import Cluster

SECONDS = float(os.environ.get("DROVER_CHAOS_SECONDS", "600"))
SEED = int(os.environ.get("DROVER_CHAOS_SEED", "1"))
_BETWEEN = (3.0, 12.0)
_TO_FINISH = 900.0
_SLOW = 1_500_000
"""Bytes/s of the link while things are killed: the migrations are to be under way all the time."""


class Servers:
    """Two `drover server` on one database, each with a data folder of its own."""

    def __init__(self, cluster: Cluster, folder: Path, lab: Lab) -> None:
        address = cluster.new_database()
        self.folders = [folder / f"server-{number}" for number in range(2)]
        for data in self.folders:
            data.mkdir()
            (data / FILE).write_text(address)
        here = self.folders[0]
        for name in ("alpha", "beta"):
            SiteStore(here).put(Site(name=name, uri=lab.site(name).uri))
        Accounts(here).add_user("boss", Role.ADMINISTRATOR, password="a password of some length")
        self._token, _ = Accounts(here).add_token("boss", "test", Role.ADMINISTRATOR)
        self.store = MigrationStore(here)
        self._running: dict[int, tuple[subprocess.Popen[str], Remote]] = {}
        for number in range(2):
            self.begin(number)

    def begin(self, number: int) -> None:
        data = self.folders[number]
        with (data / "server.log").open("ab") as log:
            process = subprocess.Popen(
                [COMMAND, "server", "--port", "0", "--json"],
                stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, "DROVER_DATA": str(data)},
            )  # fmt: skip
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        self._running[number] = process, Remote(said["url"], self._token, Path(said["authority"]).read_text())

    def kill(self, number: int, by: signal.Signals = signal.SIGKILL) -> None:
        process, _ = self._running[number]
        process.send_signal(by)
        if by == signal.SIGKILL:
            process.wait(60)

    def end(self) -> None:
        for number in self._running:
            self.kill(number)

    def revive(self) -> None:
        """Begins those again that have ended, by themselves as well: one that stood still was replaced."""
        for number, (process, _) in list(self._running.items()):
            if process.poll() is not None:
                self.begin(number)

    def ask(self, act: Callable[[Remote], Any]) -> Any:
        """What one of them answers; a server that dies meanwhile or has no database is asked again, or the other."""
        deadline = time.monotonic() + 120
        while True:
            self.revive()
            for _, remote in self._running.values():
                with contextlib.suppress(DroverError):
                    return act(remote)
            assert time.monotonic() < deadline, "no server answers"
            time.sleep(0.5)


class Chaos:
    """What may die, and how; each method returns when the harm is done, and most heal it after a while."""

    def __init__(self, seed: int, lab: Lab, servers: Servers, cluster: Cluster) -> None:
        self._chance, self._lab, self._servers, self._cluster = random.Random(seed), lab, servers, cluster
        self.done: list[str] = []
        self._kinds = (self.server, self.still, self.engine, self.process, self.link, self.database)

    def strike(self) -> None:
        kind = self._chance.choice(self._kinds)
        kind()
        self.done.append(kind.__name__)

    def pause(self) -> float:
        return self._chance.uniform(*_BETWEEN)

    def server(self) -> None:
        self._servers.kill(self._chance.randrange(2))
        time.sleep(self._chance.uniform(0, 4))

    def still(self) -> None:
        """Longer than the others wait for it."""
        number = self._chance.randrange(2)
        self._servers.kill(number, signal.SIGSTOP)
        time.sleep(self._chance.uniform(2, 9))
        self._servers.kill(number, signal.SIGCONT)

    def engine(self) -> None:
        self._one([pid for pid, words in processes(self._lab).items() if words[0].endswith(b"/drover-engine")])

    def process(self) -> None:
        """The process of a migration."""
        found = [started(data) for data in self._servers.folders]
        self._one([pid for one in found for pid, words in one.items() if b"\0resume\0m-" in words])

    def _one(self, pids: list[int]) -> None:
        if pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._chance.choice(sorted(pids)), signal.SIGKILL)

    def link(self) -> None:
        self._lab.link.cut()
        time.sleep(self._chance.uniform(1, 8))
        self._lab.link.heal()

    def database(self) -> None:
        self._cluster.stop()
        time.sleep(self._chance.uniform(0, 4))
        self._cluster.start()


@pytest.fixture
def servers(postgresql: Cluster, lab: Lab, tmp_path: Path) -> Iterator[Servers]:
    servers = Servers(postgresql, tmp_path, lab)
    yield servers
    servers.end()
    for data in servers.folders:
        if started(data):
            sweep(lab, data)


def plan_of(pair: list[Vm], alone: list[Vm]) -> str:
    """Those that go alone are left off at the destination, to be compared there."""
    lab = alone[0].lab
    return (
        f"version: 1\nplan: herd\nfrom: alpha\nto: beta\nat_once: 4\n"
        f"networks: {{{lab.site('alpha').network}: {lab.site('beta').network}}}\npools: {{'*': raw, vda: qcow2}}\n"
        f"settings: {{max_downtime: 2m}}\ngroups:\n  - group: pair\n    vms: [{', '.join(vm.name for vm in pair)}]\n"
        f"vms: [{', '.join(vm.name for vm in alone)}]\n"
        f"exceptions:\n  - vms: [{', '.join(vm.name for vm in alone)}]\n    profile: {{start: off}}\n"
    )


def tend(servers: Servers, run: dict[str, Any]) -> dict[str, Any]:
    """What an administrator does meanwhile: approves of groups, and runs again what was given up. The run by now."""

    def look(remote: Remote) -> dict[str, Any]:
        for group in remote.get("/v1/groups")["items"]:
            if group["waits_for_approval"]:
                remote.post(f"/v1/groups/{group['id']}/approval")
        now: dict[str, Any] = remote.get(f"/v1/runs/{run['id']}")
        if now["state"] not in ("queued", "running", "finished"):
            now = remote.post("/v1/plans/herd/runs")
        return now

    return dict(servers.ask(look))


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 2 * _TO_FINISH)
def test_real_vms_arrive_though_everything_dies_at_random(
    servers: Servers, postgresql: Cluster, make_vm: Callable[..., Vm], lab: Lab
) -> None:
    pair = [make_vm(pattern="append"), make_vm(pattern="rewrite-hot")]
    alone = [make_vm(pattern="random"), make_vm(pattern="idle")]
    lab.link.set(rate=_SLOW)
    servers.ask(lambda remote: remote.put("/v1/plans/herd", text=plan_of(pair, alone)))
    run = servers.ask(lambda remote: remote.post("/v1/plans/herd/runs", key="once"))
    chaos, until = Chaos(SEED, lab, servers, postgresql), time.monotonic() + SECONDS
    while time.monotonic() < until and run["state"] != "finished":
        time.sleep(chaos.pause())
        chaos.strike()
        run = tend(servers, run)
    lab.link.set(rate=None)
    deadline = time.monotonic() + _TO_FINISH
    while run["state"] != "finished":
        assert time.monotonic() < deadline, (run, chaos.done)
        time.sleep(1)
        run = tend(servers, run)
    judge(servers, run, pair, alone)


def judge(servers: Servers, run: dict[str, Any], pair: list[Vm], alone: list[Vm]) -> None:
    """All are where they are said to be, and have every write."""
    told = {one["vm"]: one for one in servers.ask(lambda remote: remote.get("/v1/migrations"))["items"]}
    assert told.keys() == {vm.name for vm in (*pair, *alone)} and len(run["migrations"]) == 4
    assert {one["state"] for one in told.values()} == {State.FINISHED}
    for vm in alone:
        assert (vm.state("alpha"), vm.state("beta")) == ("off", "off")
        vm.compare([vdisk.model_dump() for vdisk in servers.store.get(told[vm.name]["id"]).facts.vdisks])
        vm.lab.site("beta").start(vm.name)
    for vm in (*pair, *alone):
        assert (vm.state("alpha"), vm.state("beta")) == ("off", "running")
        vm.assert_witness()
        assert not traces(vm.lab, vm.name)
