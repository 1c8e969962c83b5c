"""Servers are killed at random while simulated migrations run: all finish, each is reported truthfully, and nothing is
lost (`tests/simulated.py`). The seed chooses VMs, failures and the moments of the kills.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from drover.accounts import Accounts, Role
from drover.cli.remote import Remote
from drover.model.inventory import Power
from drover.model.migration import State
from drover.platforms.simulated import World, parse
from drover.store import InventoryStore, MigrationStore, SiteStore
from drover.store.inventory import Wanted
from drover.store.sites import Site
from tests.simulated import assert_invariants

_GROUPS, _OF_A_GROUP, _SINGLE = 4, 3, 28


class Server:
    """A `drover server` process that is killed and begun again."""

    def __init__(self, data: Path) -> None:
        self._environment = {**os.environ, "DROVER_DATA": str(data)}
        Accounts(data).add_user("boss", Role.ADMINISTRATOR, password="a password of some length")
        self._token, _ = Accounts(data).add_token("boss", "test", Role.ADMINISTRATOR)
        self.begin()

    def begin(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "drover", "server", "--port", "0", "--json"],
            stdout=subprocess.PIPE, text=True, env=self._environment,
        )  # fmt: skip
        assert self._process.stdout is not None
        said = json.loads(self._process.stdout.readline())
        self.remote = Remote(said["url"], self._token, Path(said["authority"]).read_text())

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(60)


def plan(vms: list[str]) -> str:
    of_groups = [vms[at * _OF_A_GROUP : (at + 1) * _OF_A_GROUP] for at in range(_GROUPS)]
    groups = "".join(f"  - group: g{at}\n    vms: [{', '.join(of)}]\n" for at, of in enumerate(of_groups))
    single = ", ".join(vms[_GROUPS * _OF_A_GROUP :])
    return f"version: 1\nplan: herd\nfrom: alpha\nto: beta\nat_once: 16\ngroups:\n{groups}vms: [{single}]\n"


def chaos(data: Path, *, seed: int, kills: int, seconds: float, between: tuple[float, float], speed: float) -> None:
    """Kills so often at most, and has the run finish in so many seconds."""
    chance = random.Random(seed)
    source = f"simulated:///alpha?vms=200&seed={seed}&speed={speed}&failures=0.1"
    destination = f"simulated:///beta?seed={seed}&speed={speed}"
    sites, world = SiteStore(data), World(data)
    sites.put(Site(name="alpha", uri=source))
    sites.put(Site(name="beta", uri=destination))
    running = sorted(one.profile.name for one in world.vms(parse(source)).values() if one.state is Power.RUNNING)
    chosen = chance.sample(running, _GROUPS * _OF_A_GROUP + _SINGLE)
    server, deadline = Server(data), time.monotonic() + seconds
    try:
        server.remote.put("/v1/plans/herd", text=plan(chosen))
        run, killed = server.remote.post("/v1/plans/herd/runs", key="once"), 0
        next_kill = time.monotonic() + chance.uniform(*between)
        while (now := server.remote.get(f"/v1/runs/{run['id']}"))["state"] != "finished":
            counts = MigrationStore(data).count()
            assert time.monotonic() < deadline, (killed, now["state"], now["reason"], counts)
            if now["state"] not in ("queued", "running"):
                # Killed more often than a course puts up with: the administrator runs it again.
                run = server.remote.post("/v1/plans/herd/runs")
            for group in server.remote.get("/v1/groups")["items"]:
                if group["waits_for_approval"]:
                    server.remote.post(f"/v1/groups/{group['id']}/approval")
            if killed < kills and time.monotonic() > next_kill:
                server.kill()
                server.begin()
                killed, next_kill = killed + 1, time.monotonic() + chance.uniform(*between)
            time.sleep(0.2)
        assert killed > kills // 2
        judged(server, world, data, source, destination, now["migrations"])
    finally:
        server.kill()


def judged(server: Server, world: World, data: Path, source: str, destination: str, migrations: list[str]) -> None:
    """What is said of each is what its world says; the inventory follows."""
    store = MigrationStore(data)
    assert len(migrations) == _GROUPS * _OF_A_GROUP + _SINGLE
    uuids = set()
    for name in migrations:
        told = server.remote.get(f"/v1/migrations/{name}")
        kept = store.get(name)
        uuids.add(kept.facts.uuid)
        assert told["state"] == kept.state == State.FINISHED
        assert_invariants(world, source, destination, kept.facts.uuid, finished=True)
        (last_stop, last_start) = world.ledger(kept.facts.uuid)[-2:]
        assert told["downtime_seconds"] == pytest.approx(last_start[0] - last_stop[0], abs=1.0)
    assert len(uuids) == len(migrations)
    inventory, deadline = InventoryStore(data), time.monotonic() + 30
    while {kept.vm.uuid for kept in inventory.page(Wanted(sites=["beta"]), limit=100)} != uuids:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_forty_migrations_finish_though_servers_are_killed(tmp_path: Path) -> None:
    chaos(tmp_path, seed=1, kills=2, seconds=120, between=(1.0, 3.0), speed=300)


@pytest.mark.soak
@pytest.mark.timeout(1500)
def test_forty_migrations_finish_in_ten_minutes_of_kills(tmp_path: Path) -> None:
    chaos(tmp_path, seed=2, kills=60, seconds=1200, between=(3.0, 10.0), speed=3)
