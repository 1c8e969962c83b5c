"""Backup and restore: all of it comes back, from a server that is at work too; nothing that is damaged is used."""

import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner, Result

from drover.accounts.accounts import Accounts
from drover.accounts.audit import Audit
from drover.cli.main import app
from drover.errors import DroverError, InputError
from drover.model.migration import Facts, Spec, State
from drover.store import MigrationStore, RunStore, SiteStore
from drover.store.database import Database
from drover.store.location import FILE
from drover.store.plans import RunKind, RunState, StoredRun
from drover.store.sites import Site
from drover.workflows.executor import Executor
from tests.postgresql import Cluster


def drover(data: Path, *words: object) -> Result:
    return CliRunner().invoke(app, ["server", *map(str, words)], env={"DROVER_DATA": str(data)})


def fill(data: Path) -> None:
    SiteStore(data).put(Site(name="alpha", uri="qemu:///a"))
    Audit(data).record("boss", "PUT /v1/sites", "alpha", source="192.0.2.1")
    (data / "tls").mkdir(mode=0o700)
    for name in ("tls/authority.key", "identity.age-key", "alerts.yaml"):
        (data / name).write_text(f"the content of {name}")
    (data / "m-1.log").write_text("a log")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the database's, which are compared by what is in them."""
    files = [path for path in folder.rglob("*") if path.is_file() and "sqlite" not in path.name]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def data(data: Path, request: pytest.FixtureRequest) -> Path:
    """With a whole database of its own."""
    if (data / FILE).exists():
        cluster: Cluster = request.getfixturevalue("postgresql")
        (data / FILE).write_text(cluster.new_database())
    return data


@pytest.fixture
def other(data: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """Another, empty data folder with a database of the same kind."""
    folder = tmp_path_factory.mktemp("other")
    if (data / FILE).exists():
        cluster: Cluster = request.getfixturevalue("postgresql")
        (folder / FILE).write_text(cluster.new_database())
    return folder


def test_all_of_it_comes_back_elsewhere(data: Path, other: Path) -> None:
    fill(data)
    store = MigrationStore(data)
    migration = store.add(Spec(vm="web", source="a:///", destination="b:///"), Facts(uuid="u", token=7))
    kept = data / "backup.tar"
    done = drover(data, "backup", kept, "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["bytes"] == kept.stat().st_size, done.output
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert {path.name for path in data.iterdir() if path.name.startswith(".")} == set()
    SiteStore(data).remove("alpha")
    done = drover(other, "restore", kept, "--json")
    assert done.exit_code == 0, done.output + str(done.exception)
    assert [site.name for site in SiteStore(other).all()] == ["alpha"]
    assert [entry.target for entry in Audit(other).entries()] == ["alpha"] and Audit(other).verify() is None
    for name in ("tls/authority.key", "identity.age-key", "alerts.yaml"):
        assert (other / name).read_text() == f"the content of {name}"
        assert stat.S_IMODE((other / name).stat().st_mode) == 0o600
    assert not (other / "m-1.log").exists()
    # An engine that heard of a later token takes the next one all the same.
    assert MigrationStore(other).get(migration.id).facts.token > 7 + 1000
    refusal = (DroverError, sa.exc.IntegrityError)
    with pytest.raises(refusal, match="append-only"), Database(other).transaction() as db:
        db.exec_driver_sql("DELETE FROM audit")


def test_what_is_there_is_replaced_only_by_force(data: Path, other: Path) -> None:
    fill(data)
    assert drover(data, "backup", data / "b.tar").exit_code == 0
    SiteStore(other).put(Site(name="beta", uri="qemu:///b"))
    (other / "alerts.yaml").write_text("mine")
    before = contents(other)
    refused = drover(other, "restore", data / "b.tar")
    assert isinstance(refused.exception, InputError) and "--force" in str(refused.exception)
    assert contents(other) == before and [site.name for site in SiteStore(other).all()] == ["beta"]
    done = drover(other, "restore", data / "b.tar", "--force")
    assert done.exit_code == 0, done.output
    assert [site.name for site in SiteStore(other).all()] == ["alpha"]
    (aside,) = other.glob("replaced-*")
    assert (aside / "alerts.yaml").read_text() == "mine" and "alerts" in (other / "alerts.yaml").read_text()


def test_not_while_a_server_or_a_migration_works_there(data: Path, other: Path) -> None:
    fill(data)
    assert drover(data, "backup", data / "b.tar").exit_code == 0
    server = Executor(other)
    refused = drover(other, "restore", data / "b.tar", "--force")
    server.leave()
    assert "still works" in str(refused.exception)
    store = MigrationStore(other)
    migration = store.add(Spec(vm="web", source="a:///", destination="b:///"), Facts())
    with store.running(migration):
        refused = drover(other, "restore", data / "b.tar", "--force")
    assert migration.id in str(refused.exception)
    assert drover(other, "restore", data / "b.tar", "--force").exit_code == 0


def test_a_damaged_one_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    data, other = tmp_path / "data", tmp_path / "other"
    SiteStore(data)
    fill(data)
    good = tmp_path / "good.tar"
    assert drover(data, "backup", good).exit_code == 0
    whole, chance = good.read_bytes(), random.Random(1)
    SiteStore(other).put(Site(name="beta", uri="qemu:///b"))
    before = contents(other)
    # Padding between members means nothing, and may differ.
    damaged = [whole[:size] for size in (0, 100, 2000, len(whole) // 2)] + [b"no backup" * 1000]
    for position in [chance.randrange(len(whole)) for _ in range(40)]:
        damaged.append(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
    refused = 0
    for number, content in enumerate(damaged):
        (tmp_path / "bad.tar").write_bytes(content)
        done = drover(other, "restore", tmp_path / "bad.tar", "--force")
        if done.exit_code == 0:
            assert number > 4 and [site.name for site in SiteStore(other).all()] == ["alpha"]
            return_to_before(other)
            continue
        refused += 1
        assert isinstance(done.exception, InputError), done.exception
        assert contents(other) == before and [site.name for site in SiteStore(other).all()] == ["beta"]
    assert refused > 20
    missing = drover(other, "restore", tmp_path / "none.tar")
    assert isinstance(missing.exception, InputError) and "none.tar" in str(missing.exception)


def return_to_before(other: Path) -> None:
    store = SiteStore(other)
    store.remove("alpha")
    store.put(Site(name="beta", uri="qemu:///b"))
    for path in other.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif "sqlite" not in path.name:
            path.unlink()


def test_one_of_the_other_kind_is_refused(postgresql: Cluster, tmp_path: Path) -> None:
    data, other = tmp_path / "data", tmp_path / "other"
    SiteStore(data)
    assert drover(data, "backup", tmp_path / "b.tar").exit_code == 0
    other.mkdir()
    (other / FILE).write_text(postgresql.new_database())
    refused = drover(other, "restore", tmp_path / "b.tar")
    assert "same kind" in str(refused.exception)


def test_a_server_goes_on_where_another_was_when_it_was_backed_up(data: Path, other: Path) -> None:
    runs, store, acts = RunStore(data), MigrationStore(data), data / "acts"
    migration = store.add(Spec(vm="web", source="qemu:///a?socket=/no/a", destination="b:///"), Facts())
    target = {"migration": migration.id}
    runs.add(StoredRun(id="r-1", kind=RunKind.MIGRATION, target=target, name=migration.id, by="boss"))
    server = serve(data, acts, turns=10000)
    try:
        while not acts.exists():
            time.sleep(0.1)
        done = drover(data, "backup", data / "b.tar")
        assert done.exit_code == 0, done.output
    finally:
        server.kill()
        server.wait()
        os.kill(int(acts.read_text().split()[2]), signal.SIGKILL)
    assert drover(other, "restore", data / "b.tar").exit_code == 0
    there = RunStore(other)
    assert there.get("r-1").state is RunState.RUNNING
    server = serve(other, other / "acts", turns=1)
    try:
        deadline = time.monotonic() + 60
        while not there.get("r-1").state.ended:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        server.kill()
        server.wait()
    assert there.get("r-1").state is RunState.FINISHED
    assert MigrationStore(other).get(migration.id).state is State.FINISHED
    assert Accounts(other).users() == Accounts(data).users()


def serve(data: Path, acts: Path, *, turns: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.server.simulated", "server", "--port", "0", "--json"]
    work = {"SIMULATED_ACTS": str(acts), "SIMULATED_TURNS": str(turns), "SIMULATED_PAUSE": "0.1"}
    env = {**os.environ, **work, "DROVER_DATA": str(data)}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, text=True, env=env)
