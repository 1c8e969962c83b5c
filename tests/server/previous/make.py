"""Makes `drover.sql` and `workflows.sql` here: the databases of a server that was killed with work in flight.

They were made with Drover as of the commit before its databases had a version, and are kept: `python -m
tests.server.previous.make` with that commit's `src` in PYTHONPATH. Two runs are under way, one is recorded and not
begun; every table has a row.
"""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import sqlalchemy as sa

from drover.accounts import audit, tables  # noqa: F401
from drover.accounts.accounts import Accounts
from drover.accounts.audit import Audit
from drover.accounts.roles import Role
from drover.alerts import outbox  # noqa: F401
from drover.model.group import Member
from drover.model.migration import Facts, Spec
from drover.store import GroupStore, LiveStore, MigrationStore, PlanStore, RunStore, SiteStore
from drover.store.database import metadata
from drover.store.plans import RunKind, StoredRun
from drover.store.sites import Site

HERE = Path(__file__).parent


def fill(db: sa.Connection) -> None:
    """A row in every table that has none."""
    for table in metadata.sorted_tables:
        if db.execute(sa.select(sa.func.count()).select_from(table)).scalar_one():
            continue
        row = {column.name: _value(db, column) for column in table.columns if not _numbered(column)}
        db.execute(table.insert().values(**row))


def _numbered(column: "sa.Column[object]") -> bool:
    return column.name == "number" and column.table.name != "audit"


def _value(db: sa.Connection, column: "sa.Column[object]") -> object:
    if column.foreign_keys:
        return db.execute(sa.select(next(iter(column.foreign_keys)).column).limit(1)).scalar_one()
    kinds = {
        sa.Boolean: True,
        sa.Integer: 2,
        sa.Float: 1764547200.5,
        sa.JSON: {"a": [1, "ä"]},
        sa.String: "text",
        sa.LargeBinary: b"\0bytes",
    }
    return next(value for kind, value in kinds.items() if isinstance(column.type, kind))


def _acts(folder: str) -> list[int]:
    """Of each act, the process."""
    acts = Path(folder) / "acts"
    return [int(line.split()[2]) for line in acts.read_text().splitlines()] if acts.exists() else []


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        env = {
            "DROVER_DATA": folder, "SIMULATED_ACTS": f"{folder}/acts", "SIMULATED_TURNS": "1000",
            "SIMULATED_PAUSE": "0.1",
        }  # fmt: skip
        os.environ |= env
        runs, store = RunStore(), MigrationStore()
        SiteStore().put(Site(name="alpha", uri="qemu:///a?socket=/nowhere/a"))
        PlanStore().put("office", "version: 1\nplan: office\nfrom: alpha\nto: alpha\nvms: [web]\n", "boss")
        spec = Spec(vm="web", source="qemu:///a?socket=/nowhere/a", destination="qemu:///b?socket=/nowhere/b")
        begun = [store.add(spec.model_copy(update={"vm": f"vm-{n}"}), Facts(uuid=f"uuid-{n}")) for n in range(3)]
        GroupStore().add("office", "pair", [Member(migration=begun[2].id, vm="vm-2", turn=0, delay=0)], approval=True)
        LiveStore().tell(begun[0].id, {"at": time.time(), "vm": "vm-0", "sent": 7})
        Accounts().add_user("boss", Role.ADMINISTRATOR, password="a password of some length")
        Accounts().add_token("boss", "test", Role.ADMINISTRATOR, expires_in=None)
        Audit().record("boss", "POST /v1/plans", "office", source="127.0.0.1")
        for number, migration in enumerate(begun):
            target = {"migration": migration.id}
            runs.add(StoredRun(id=f"r-{number}", kind=RunKind.MIGRATION, target=target, name=migration.id, by="boss"))
        command = [sys.executable, "-m", "tests.server.simulated", "server", "--port", "0", "--runs-at-once", "2"]
        server = subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE)
        try:
            while len(set(_acts(folder))) < 2:
                time.sleep(0.1)
        finally:
            server.kill()
            server.wait()
        for process in set(_acts(folder)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        engine = sa.create_engine(f"sqlite:///{folder}/drover.sqlite")
        with engine.begin() as db:
            fill(db)
        for name in ("drover", "workflows"):
            with sqlite3.connect(f"{folder}/{name}.sqlite") as database:
                (HERE / f"{name}.sql").write_text("\n".join(database.iterdump()) + "\n")


if __name__ == "__main__":
    main()
