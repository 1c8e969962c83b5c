"""A server takes over from one of the version before, with runs under way (`previous/`): all of them go on."""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from drover.accounts.audit import Audit
from drover.model.migration import State
from drover.store import MigrationStore, RunStore, schema
from drover.store.database import Database
from drover.store.plans import RunState
from tests.server.previous.make import HERE


def test_runs_of_the_version_before_go_on(tmp_path: Path) -> None:
    for name in ("drover", "workflows"):
        with sqlite3.connect(tmp_path / f"{name}.sqlite") as database:
            database.executescript((HERE / f"{name}.sql").read_text())
        database.close()
    acts = tmp_path / "acts"
    work = {"SIMULATED_ACTS": str(acts), "SIMULATED_TURNS": "3", "SIMULATED_PAUSE": "0.1"}
    command = [sys.executable, "-m", "tests.server.simulated", "server", "--port", "0", "--json"]
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, **work, "DROVER_DATA": str(tmp_path)}
    )
    try:
        assert server.stdout is not None and "serving" in server.stdout.readline()
        runs = RunStore(tmp_path)
        deadline = time.monotonic() + 60
        while not all(runs.get(f"r-{number}").state.ended for number in range(3)):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        server.terminate()
        server.wait(20)
    assert [runs.get(f"r-{number}").state for number in range(3)] == [RunState.FINISHED] * 3
    assert {migration.state for migration in MigrationStore(tmp_path).all()} == {State.FINISHED}
    assert len(acts.read_text().splitlines()) == 9
    assert Audit(tmp_path).verify() is None
    # And back, for the version before.
    database = Database(tmp_path)
    assert database.change("0001") == (schema.revisions()[-1], "0001")
    with sqlite3.connect(tmp_path / "drover.sqlite") as old:
        assert old.execute("SELECT count(*) FROM runs WHERE state = 'finished'").fetchone() == (3,)
    old.close()
    shutil.rmtree(tmp_path)
