"""The management server with real VMs: a plan from hand-in to finished, though the server is killed on the way."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from drover.accounts import Accounts, Role
from drover.cli.remote import Remote
from drover.lab import Lab
from drover.store import SiteStore
from drover.store.sites import Site
from tests.migration.drover import COMMAND
from tests.migration.world import Vm, traces


class Server:
    """A `drover server` process, and a token for its administrator."""

    def __init__(self, lab: Lab, data: Path) -> None:
        self._data = data
        self._token = ""
        for name in ("alpha", "beta"):
            SiteStore(data).put(Site(name=name, uri=lab.site(name).uri))
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [COMMAND, "server", "--port", "0", "--json"],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "DROVER_DATA": str(self._data)},
        )
        assert self._process.stdout is not None
        said = json.loads(self._process.stdout.readline())
        if not self._token:
            accounts = Accounts(self._data)
            accounts.add_user("boss", Role.ADMINISTRATOR)
            self._token, _ = accounts.add_token("boss", "test", Role.ADMINISTRATOR)
        self._remote = Remote(said["url"], self._token, Path(said["authority"]).read_text())

    def end(self, by: signal.Signals) -> None:
        self._process.send_signal(by)
        self._process.wait(60)

    @property
    def remote(self) -> Remote:
        return self._remote

    def until(self, path: str, wanted: Callable[[Any], object], timeout: float = 240) -> Any:
        """What the server says there, once it is what is wanted."""
        deadline = time.monotonic() + timeout
        while True:
            said = self._remote.get(path)
            if wanted(said):
                return said
            assert time.monotonic() < deadline, said
            time.sleep(0.2)


@pytest.fixture
def server(lab: Lab, tmp_path: Path) -> Iterator[Server]:
    server = Server(lab, tmp_path)
    yield server
    server.end(signal.SIGKILL)


def plan_of(pair: list[Vm], single: Vm) -> str:
    lab, later = single.lab, datetime.now(UTC) + timedelta(hours=3)
    return (
        f"version: 1\nplan: move\nfrom: alpha\nto: beta\nat_once: 3\nlimits: {{per_host: 2}}\n"
        f"networks: {{{lab.site('alpha').network}: {lab.site('beta').network}}}\npools: {{'*': raw, vda: qcow2}}\n"
        f"settings: {{cutover: resume, max_downtime: 2m}}\n"
        f"groups:\n  - group: pair\n    vms: [{', '.join(vm.name for vm in pair)}]\n"
        f"    windows: [{{from: {later:%H}:00, to: {later:%H}:30, timezone: UTC}}]\nvms: [{single.name}]\n"
    )


def test_a_plan_is_carried_out_though_the_server_is_killed(
    server: Server, make_vm: Callable[..., Vm], lab: Lab
) -> None:
    pair, single = [make_vm(pattern="append"), make_vm(pattern="idle")], make_vm(pattern="idle")
    lab.link.set(rate=20e6)
    server.remote.put("/v1/plans/move", text=plan_of(pair, single))
    run = server.remote.post("/v1/plans/move/runs", key="once")
    # Who has no room at the host begins when all of the others is copied, though these wait for approval.
    server.until("/v1/migrations", lambda said: any("of 2" in (one["waits_for"] or "") for one in said["items"]))
    server.until("/v1/migrations?state=replicating", lambda said: said["items"])
    server.end(signal.SIGKILL)
    server.start()
    again = server.remote.post("/v1/plans/move/runs", key="once")
    assert again["id"] == run["id"]
    # A group waits for somebody's leave; who goes alone doesn't.
    finished = "/v1/migrations?state=finished"
    server.until(finished, lambda said: [one["vm"] for one in said["items"]] == [single.name])
    assert [vm.state("alpha") for vm in pair] == ["running"] * 2
    groups = server.remote.get("/v1/groups")["items"]
    (waiting,) = [one for one in groups if one["waits_for_approval"]]
    # Nor does it wait for its window if somebody says now.
    server.remote.post(f"/v1/groups/{waiting['id']}/approval?now=true")
    server.end(signal.SIGTERM)
    server.start()
    done = server.until(f"/v1/runs/{run['id']}", lambda said: said["state"] not in ("queued", "running"))
    assert done["state"] == "finished", done
    assert len(done["migrations"]) == 3
    rows = server.remote.get("/v1/plans/move/timeline")["rows"]
    assert {row["name"]: row["state"] for row in rows} == {"pair": "finished", single.name: "finished"}
    for vm in (*pair, single):
        assert (vm.state("alpha"), vm.state("beta")) == ("off", "running")
        vm.assert_witness()
        assert not traces(lab, vm.name)


def test_a_migration_is_paused_and_gone_on_with(server: Server, make_vm: Callable[..., Vm], lab: Lab) -> None:
    vm = make_vm(pattern="append")
    lab.link.set(rate=3e6)
    network = {lab.site("alpha").network: lab.site("beta").network}
    body = {
        "vm": vm.name, "source": "alpha", "destination": "beta", "networks": network,
        "pools": {"*": "raw", "vda": "qcow2"}, "settings": {"cutover": "resume", "max_downtime": "2m"},
    }  # fmt: skip
    run = server.remote.post("/v1/migrations", body)
    begun = server.until(f"/v1/runs/{run['id']}", lambda said: said["migrations"])
    path = f"/v1/migrations/{begun['migrations'][0]}"
    server.until(path, lambda said: said["progress"] and said["progress"]["sent"] > 0)
    server.remote.post(f"{path}/pause")
    held = server.until(f"/v1/runs/{run['id']}", lambda said: said["state"] not in ("queued", "running"))
    assert held["state"] == "held" and vm.name in held["reason"]
    assert server.remote.get(path)["state"] == "paused"
    assert vm.state("alpha") == "running"
    lab.link.set(rate=None)
    more = server.remote.post(f"{path}/resume", {"max_downtime": "3m"})
    done = server.until(f"/v1/runs/{more['id']}", lambda said: said["state"] not in ("queued", "running"))
    assert done["state"] == "finished", done
    story = server.remote.get(path)
    assert story["spec"]["max_downtime"] == 180 and story["downtime_seconds"] > 0
    assert (vm.state("alpha"), vm.state("beta")) == ("off", "running")
    vm.assert_witness()
