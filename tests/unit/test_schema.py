"""The schema in its versions: what the code knows is what they make; up and down, nothing of what stays is lost."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from typer.testing import CliRunner, Result

from drover.cli.main import app
from drover.errors import DroverError, InputError
from drover.store import MigrationStore, schema
from drover.store.database import Database, metadata
from drover.store.location import ADDRESS, FILE, location, plain
from tests.postgresql import Cluster
from tests.server.previous.make import HERE, fill

Rows = dict[str, list[tuple[object, ...]]]
FIRST = "0001"


def rows(database: Database) -> Rows:
    with database.transaction() as db:
        there = set(sa.inspect(db).get_table_names())
        return {
            table.name: [tuple(row) for row in db.execute(sa.select(table))]
            for table in metadata.sorted_tables
            if table.name in there
        }


def before_versions(folder: Path) -> None:
    with sqlite3.connect(folder / "drover.sqlite") as db:
        db.executescript((HERE / "drover.sql").read_text())
    db.close()


def test_the_revisions_make_what_the_code_knows(data: Path) -> None:
    with Database(data).engine.connect() as db:
        assert compare_metadata(MigrationContext.configure(db, opts={"compare_type": True}), metadata) == []


def test_revisions_are_one_line_of_numbers() -> None:
    assert schema.revisions() == [f"{number:04}" for number in range(1, len(schema.revisions()) + 1)]


def test_down_and_up_with_rows_in_every_table(data: Path) -> None:
    database = Database(data)
    with database.transaction() as db:
        fill(db)
    before = rows(database)
    assert all(before.values())
    newest = schema.revisions()[-1]
    for target in reversed(schema.revisions()):
        database.change(target)
        assert database.revision() == target
    first = rows(database)
    assert first == {name: before[name] for name in first} and len(first) > 20
    assert database.change(newest) == (FIRST, newest)
    again = rows(database)
    assert again.keys() == before.keys() and {name: again[name] for name in first} == first
    with database.engine.connect() as db:
        assert compare_metadata(MigrationContext.configure(db), metadata) == []


def test_a_database_from_before_versions_is_known_and_keeps_everything(tmp_path: Path) -> None:
    before_versions(tmp_path)
    with sqlite3.connect(tmp_path / "drover.sqlite") as db:
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        before = {name: db.execute(f'SELECT * FROM "{name}"').fetchall() for name in names}
        # Not every Drover had all of them.
        db.execute("DROP TABLE alert_outbox")
    db.close()
    assert Database(tmp_path, bring_up=False).revision() is None
    assert len(MigrationStore(tmp_path).all()) == 3
    database = Database(tmp_path)
    assert database.revision() == schema.revisions()[-1]
    with sqlite3.connect(tmp_path / "drover.sqlite") as db:
        for name in set(names) - {"alert_outbox"}:
            assert db.execute(f'SELECT * FROM "{name}"').fetchall() == before[name], name
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            db.execute("DELETE FROM audit")
    assert not rows(database)["alert_outbox"]


def test_a_database_of_a_newer_drover_is_refused_and_left_alone(data: Path) -> None:
    database = Database(data)
    with database.transaction() as db:
        db.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DroverError, match="9999, which is newer") as refused:
        database.change(FIRST)
    assert "downgrade --to" in str(refused.value)
    database.forget()
    with pytest.raises(DroverError, match="9999"):
        MigrationStore(data)
    assert database.revision() == "9999"


def test_a_change_that_fails_changes_nothing(data: Path) -> None:
    database = Database(data)
    database.change(FIRST)
    with database.engine.begin() as db:
        db.execute(sa.text("CREATE TABLE claims (other INTEGER)"))
    with pytest.raises(DroverError, match="claims"):
        database.change("0002")
    assert database.revision() == FIRST


def test_opened_by_many_processes_at_once_it_is_made_once(postgresql: Cluster, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(postgresql.new_schema())
    script = f"from drover.store import SiteStore; from pathlib import Path; SiteStore(Path({str(tmp_path)!r})).all()"
    processes = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0] * 3


def test_the_command_tells_and_changes_it(data: Path) -> None:
    def drover(*words: str) -> Result:
        return CliRunner().invoke(app, ["database", *words], env={"DROVER_DATA": str(data)})

    def told(*words: str) -> dict[str, str | None]:
        done = drover(*words, "--json")
        assert done.exit_code == 0, done.output
        said: dict[str, str | None] = json.loads(done.stdout)
        return said

    newest = schema.revisions()[-1]
    assert told("current")["revision"] is None
    assert (told("upgrade")["before"], told("upgrade")["before"]) == (None, newest)
    assert told("downgrade", "--to", FIRST)["revision"] == FIRST
    assert told("current") == {**told("current"), "revision": FIRST, "newest": newest}
    assert f"is at {FIRST}" in drover("current").stdout
    wrong = drover("downgrade", "--to", "none")
    assert isinstance(wrong.exception, InputError) and FIRST in str(wrong.exception)


def test_an_address_that_cannot_be_meant_is_named_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wrong in ("mysql://u:secret@h/d", "no address", "postgresql://u:secret@h:port/d"):
        monkeypatch.setenv(ADDRESS, wrong)
        with pytest.raises(InputError, match=ADDRESS) as refused:
            location(tmp_path)
        assert "secret" not in str(refused.value)
    monkeypatch.delenv(ADDRESS)
    (tmp_path / FILE).write_text("postgresql://u:secret@h/d\n")
    (tmp_path / FILE).chmod(0o640)
    with pytest.raises(InputError, match="chmod 600"):
        location(tmp_path)
    (tmp_path / FILE).chmod(0o600)
    url = location(tmp_path)
    assert url.password == "secret" and plain(url) == "postgresql://u@h/d"


def test_a_database_that_is_away_is_named_without_its_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ADDRESS, f"postgresql://u:secret@/d?host={tmp_path}")
    monkeypatch.setattr("drover.store.database._PATIENCE", 0.5)
    with pytest.raises(DroverError, match="cannot be used") as refused:
        Database(tmp_path)
    assert "secret" not in str(refused.value) and "DROVER_DATABASE_URL" in str(refused.value)
