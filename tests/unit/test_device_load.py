"""Several VMs onto the same devices: all of them or none, each by a process of its own, and everybody is heard."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from drover.cli import plan_run, several
from drover.cli.main import app
from drover.errors import CheckError, InputError, PlatformError
from drover.model.migration import Facts, Migration, Spec, State
from drover.model.vm import Vdisk, Vm
from drover.plans import site
from drover.plans.course import Turn
from drover.replicator import parallel, record
from drover.replicator.check import Report, together
from drover.replicator.check.report import PoolRoom
from drover.store import GroupStore, MigrationStore
from tests.unit.test_plan_command import PLAN
from tests.unit.test_plan_command import vm as plan_vm

SITES = ["--from", "a:///", "--to", "b:///", "--device", "/mnt/blue"]


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DROVER_DATA", str(tmp_path / "data"))


class Sites:
    """Sites with any VM, but for those that are not there, not fit, or gone when they are planned."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.unfit: set[str] = set()
        self.gone: set[str] = set()
        self.free = 9000
        monkeypatch.setattr(together, "check", self.check)
        monkeypatch.setattr(record, "plan", self.plan)

    def check(self, spec: Spec, _store: MigrationStore, devices: list[str]) -> tuple[Report, Vm]:
        report = Report(devices={"d" * 32: devices[0]}, room={"d" * 32: 1000})
        report.pools[spec.pools.get("vda", "fast")] = PoolRoom(needed=900, free=self.free)
        report.good("VM", "runs")
        if spec.vm in self.unfit:
            report.bad("name", "it is taken", "rename it")
        vdisk = Vdisk(name="vda", size=900, format="raw", path="/x", kind="file", allocated=900)
        uuid = spec.vm.removeprefix("uuid-")
        return report, Vm(
            name=uuid, uuid=uuid, running=True, memory=0, machine="q35", arch="x86_64", virtualisation="kvm",
            vdisks=(vdisk,), networks=(),
        )  # fmt: skip

    def plan(self, store: MigrationStore, spec: Spec, report: Report, **_: object) -> Migration:
        if spec.vm in self.gone:
            raise PlatformError("it is gone")
        return store.add(spec, Facts(uuid=f"uuid-{spec.vm}", device_paths=report.devices))


@pytest.fixture
def sites(monkeypatch: pytest.MonkeyPatch) -> Sites:
    monkeypatch.setattr(several.DeviceStore, "get", lambda _, device: type("D", (), {"label": "blue", "id": device}))
    return Sites(monkeypatch)


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Has `drover resume` be a program of the test's."""

    def play(program: str) -> None:
        head = "import json, os, signal, sys, time\nsay = lambda **event: print(json.dumps(event), flush=True)\n"
        monkeypatch.setattr(parallel, "_command", lambda migration: [sys.executable, "-c", head + program, migration])

    return play


def load(*words: str) -> Result:
    return CliRunner().invoke(app, ["device", "load", *words], catch_exceptions=False)


def migrations(count: int) -> list[Migration]:
    store = MigrationStore()
    return [store.add(Spec(vm=f"vm-{n}", source="a:///", destination="b:///"), Facts()) for n in range(count)]


@pytest.mark.usefixtures("sites")
def test_all_are_checked_first_and_what_fits_together_is_told(play: Any) -> None:
    play("say(event='message', text='hello'); print('oops'); say(event='progress', vm='x')")
    done = load("web", "db", *SITES, "--json")
    assert done.exit_code == 0
    events = [json.loads(line) for line in done.output.splitlines()]
    assert [(event["event"], event.get("vm")) for event in events[:4]] == [
        ("check", "web"),
        ("check", "db"),
        ("pools", None),
        ("fit", None),
    ]
    assert (events[2]["passed"], events[2]["pools"]) == (True, {"fast": {"needed": 1800, "free": 9000}})
    assert (events[3]["allocated_bytes"], events[3]["free_bytes"], events[3]["fits"]) == (1800, 1000, False)
    texts = sorted((event["vm"], event["text"]) for event in events[4:] if event["event"] == "message")
    assert texts == [("db", "hello"), ("db", "oops"), ("web", "hello"), ("web", "oops")]
    assert {event["migration"] for event in events[4:]} == {m.id for m in MigrationStore().all()}


@pytest.mark.usefixtures("sites")
def test_each_line_says_whose_it_is(play: Any) -> None:
    program = """
say(event="message", text="it is loaded [red]")
state = {"migration": sys.argv[1], "vm": "web", "state": "replicating", "vdisks": [{"name": "vda", "size": 100,
    "done": 50, "left": 50, "dirty": 0, "loaded": 0}], "size": 100, "done": 50, "loaded": 0}
say(event="progress", **state)
say(event="progress", **state)
say(event="progress", vdisks="nonsense")
say(event="error", error="it is held", remedy="cure it")
sys.exit(4)
"""
    play(program)
    done = load("web", *SITES)
    assert done.exit_code == 4
    assert "do not fit" not in done.output and "blue 1000 B" in done.output
    assert "web: it is held — cure it" in done.output
    assert done.output.count("web:  50 % of 100 B") == 1
    assert "it is loaded [red]" in done.output


def test_nothing_begins_if_one_is_not_fit_or_gone(sites: Sites, play: Any) -> None:
    play("sys.exit('this must not run')")
    sites.unfit = {"db"}
    with pytest.raises(CheckError, match="db cannot be migrated"):
        load("web", "db", *SITES)
    assert MigrationStore().all() == []
    sites.unfit, sites.gone = set(), {"db"}
    with pytest.raises(PlatformError):
        load("web", "db", *SITES)
    assert [(m.spec.vm, m.state) for m in MigrationStore().all()] == [("web", State.CANCELLED)]


def test_a_pool_that_has_room_for_each_but_not_for_all_is_named_before_anything_begins(sites: Sites, play: Any) -> None:
    play("sys.exit('this must not run')")
    sites.free = 1700
    with pytest.raises(
        CheckError, match=r"pool fast: it has 1.7 KiB left, and the VDISKs of web, db together"
    ) as named:
        load("web", "db", *SITES)
    assert "another pool" in str(named.value.remedy)
    assert MigrationStore().all() == []


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(site, "look", lambda _: [plan_vm(name) for name in ("db1", "db2", "legacy[1]", "web")])
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN + "at_once: 1\n")
    return path


FINISH = """
from drover.model.migration import State
from drover.store import MigrationStore
store = MigrationStore()
store.enter(store.get(sys.argv[1]), State.CANCELLED)
"""


@pytest.mark.usefixtures("sites")
def test_a_plan_is_loaded_side_by_side_and_its_groups_stay_groups(file: Path, play: Any, tmp_path: Path) -> None:
    # Each waits until all four are there, though the plan says one at once, and one group after the other.
    play(
        f"from pathlib import Path; here = Path({str(tmp_path / 'here')!r}); here.mkdir(exist_ok=True)\n"
        "(here / sys.argv[1]).touch()\n"
        "while len(list(here.iterdir())) < 4: time.sleep(0.05)\n" + FINISH
    )
    done = load("--plan", str(file), "--device", "/mnt/blue", "--connections", "3")
    assert done.exit_code == 0, done.output
    specs = {migration.spec.vm: migration.spec for migration in MigrationStore().all()}
    assert specs.keys() == {"db1", "db2", "legacy[1]", "web"}
    assert {spec.connections for spec in specs.values()} == {3}
    assert specs["db1"].pools == {"": "fast", "vda": "slow"} and specs["web"].cutover == "restart"
    groups = {group.name: [(member.vm, member.turn) for member in group.members] for group in GroupStore().all()}
    assert groups["database"] == [("db1", 0), ("db2", 1)] and groups["shop"] == [("web", 0)]
    assert {tuple(m.facts.device_paths.values()) for m in MigrationStore().all()} == {("/mnt/blue",)}


@pytest.mark.usefixtures("sites")
def test_a_group_of_a_plan_is_loaded_and_what_is_unfinished_is_told_with_the_way_on(
    file: Path, play: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    play("sys.exit(4)")
    done = load("--plan", str(file), "--group", "shop", "--device", "/mnt/blue")
    assert done.exit_code == 4
    assert [migration.spec.vm for migration in MigrationStore().all()] == ["web"]
    assert f"`drover device load --plan {file} --group shop --device /mnt/blue` goes on" in done.output
    play(FINISH)
    looked: list[tuple[str, list[str]]] = []

    def plug_in(_store: MigrationStore, migration: Migration, paths: list[str]) -> list[str]:
        looked.append((migration.spec.vm, paths))
        return ["device blue: it is at /media/blue now"]

    monkeypatch.setattr(plan_run, "plug_in", plug_in)
    again = load("--plan", str(file), "--group", "shop", "--device", "/media/blue")
    assert again.exit_code == 0, again.output
    assert looked == [("web", ["/media/blue"])]
    assert "web: device blue: it is at /media/blue now" in again.output
    assert len(MigrationStore().all()) == 1


@pytest.mark.usefixtures("sites")
@pytest.mark.parametrize("more", [["web"], ["--from", "a:///"], ["--network", "a=b"], ["--pool", "fast"]])
def test_what_a_plan_says_cannot_be_said_beside_it(file: Path, more: list[str]) -> None:
    with pytest.raises(InputError) as refused:
        load("--plan", str(file), "--device", "/mnt/blue", *more)
    assert refused.value.remedy
    assert MigrationStore().all() == []


@pytest.mark.usefixtures("sites")
@pytest.mark.parametrize(
    "words",
    [["web", "uuid-web", *SITES], ["web", *SITES[:4]], ["web", *SITES, "--connections", "0"]],
)
def test_what_cannot_be_meant_is_named(words: list[str]) -> None:
    with pytest.raises(InputError) as refused:
        load(*words)
    assert refused.value.remedy
    assert MigrationStore().all() == []


def test_the_worst_exit_code_counts_and_a_killed_process_is_named(play: Any) -> None:
    two, heard = migrations(2), []
    play(f"os.kill(os.getpid(), 9) if sys.argv[1] == {two[1].id!r} else sys.exit(3)")
    assert parallel.run_all(two, lambda migration, event: heard.append((migration.id, event))) == 137
    ((victim, event),) = heard
    assert (victim, event["event"], event["migration"]) == (two[1].id, "error", two[1].id)
    assert "SIGKILL" in event["error"]
    assert f"drover resume {two[1].id}" in event["remedy"]


def test_an_interruption_pauses_each_once_and_waits_for_it(play: Any) -> None:
    play(
        """
try:
    say(event="message", text="here")
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(0.3)
    say(event="message", text="paused")
    sys.exit(130)
"""
    )
    heard: list[str] = []

    def observe(_: Migration, event: dict[str, Any]) -> None:
        heard.append(event["text"])
        if heard == ["here"] * 3:
            os.kill(os.getpid(), signal.SIGINT)

    assert parallel.run_all(migrations(3), observe) == 130
    assert heard == ["here"] * 3 + ["paused"] * 3
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_the_real_command_is_run() -> None:
    heard: list[dict[str, Any]] = []
    (one,) = migrations(1)
    code = parallel.run_all([one], lambda _, event: heard.append(event))
    assert code in range(1, 100)
    assert (heard[-1]["event"], heard[-1]["migration"]) == ("error", one.id)


class Chain:
    """The first begins at once, the second when the first is copied, the third at its time."""

    def __init__(self, ids: list[str]) -> None:
        self.ids = ids
        self.wake: float | None = None
        self.heard: list[str] = []

    def copied(self, migration: str) -> Turn:
        self.heard.append(f"copied {self.ids.index(migration)}")
        return Turn(begin=self.ids[1:2]) if migration == self.ids[0] else Turn()

    def ended(self, migration: str, code: int) -> Turn:
        self.heard.append(f"ended {self.ids.index(migration)} {code}")
        if migration == self.ids[1]:
            self.wake = time.time() + 0.2
        return Turn()

    def due(self) -> Turn:
        assert self.wake is not None and time.time() >= self.wake
        self.wake = None
        return Turn(begin=self.ids[2:])


def test_others_begin_when_all_of_one_is_copied_or_their_time_has_come(play: Any, tmp_path: Path) -> None:
    three = migrations(3)
    ids = [migration.id for migration in three]
    # The first one ends only when the second has begun.
    play(
        f"""
SECOND = {str(tmp_path / "second")!r}
say(event="message", text="ready", state="ready")
say(event="message", text="ready", state="ready")
if sys.argv[1] == {ids[0]!r}:
    deadline = time.monotonic() + 20
    while not os.path.exists(SECOND) and time.monotonic() < deadline:
        time.sleep(0.02)
elif sys.argv[1] == {ids[1]!r}:
    open(SECOND, "w").close()
    time.sleep(0.3)
"""
    )
    chain = Chain(ids)
    assert parallel.run_course(three, Turn(begin=ids[:1]), chain, lambda *_: None) == 0
    assert sorted(chain.heard) == sorted([f"copied {n}" for n in range(3)] + [f"ended {n} 0" for n in range(3)])
    assert chain.heard.index("copied 0") < chain.heard.index("copied 1") < chain.heard.index("copied 2")
