"""Several VMs onto the same devices: all of them or none, each by a process of its own, and everybody is heard."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from drover.cli import load as loading
from drover.cli.main import app
from drover.errors import CheckError, InputError, PlatformError
from drover.model.migration import Facts, Migration, Spec, State
from drover.model.vm import Vdisk, Vm
from drover.replicator import parallel
from drover.replicator.check import Report
from drover.store import MigrationStore

SITES = ["--from", "a:///", "--to", "b:///", "--device", "/mnt/blue"]


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DROVER_DATA", str(tmp_path / "data"))


class Sites:
    """Sites with any VM, but for those that are not there, not fit, or gone when they are planned."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.unfit: set[str] = set()
        self.gone: set[str] = set()
        monkeypatch.setattr(loading, "check", self.check)
        monkeypatch.setattr(loading, "plan", self.plan)

    def check(self, spec: Spec, _store: MigrationStore, devices: list[str]) -> tuple[Report, Vm]:
        report = Report(devices={"d" * 32: devices[0]}, room={"d" * 32: 1000})
        report.good("VM", "runs")
        if spec.vm in self.unfit:
            report.bad("name", "it is taken", "rename it")
        vdisk = Vdisk(name="vda", size=900, format="raw", path="/x", kind="file", allocated=900)
        uuid = spec.vm.removeprefix("uuid-")
        return report, Vm(
            name=uuid, uuid=uuid, running=True, memory=0, machine="q35", arch="x86_64", virtualisation="kvm",
            vdisks=(vdisk,), networks=(),
        )  # fmt: skip

    def plan(self, store: MigrationStore, spec: Spec, report: Report) -> Migration:
        if spec.vm in self.gone:
            raise PlatformError("it is gone")
        return store.add(spec, Facts(device_paths=report.devices))


@pytest.fixture
def sites(monkeypatch: pytest.MonkeyPatch) -> Sites:
    monkeypatch.setattr(loading.DeviceStore, "get", lambda _, device: type("D", (), {"label": "blue", "id": device}))
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
    assert [(event["event"], event.get("vm")) for event in events[:3]] == [
        ("check", "web"),
        ("check", "db"),
        ("fit", None),
    ]
    assert (events[2]["allocated_bytes"], events[2]["free_bytes"], events[2]["fits"]) == (1800, 1000, False)
    texts = sorted((event["vm"], event["text"]) for event in events[3:] if event["event"] == "message")
    assert texts == [("db", "hello"), ("db", "oops"), ("web", "hello"), ("web", "oops")]
    assert {event["migration"] for event in events[3:]} == {m.id for m in MigrationStore().all()}


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
