"""The audit trail on a real database: in order, without secrets, and not changed unnoticed."""

import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drover.accounts import Audit
from drover.errors import DroverError
from drover.store.database import Database
from drover.store.location import FILE
from tests.postgresql import Cluster

HERE = "192.0.2.1"


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    """With three entries."""
    times = iter(range(1000))
    audit = Audit(tmp_path, lambda: next(times))
    audit.record("ann", "plan.run", "web", source=HERE, detail={"vms": ["a", "b"]})
    audit.record("bob", "plan.run", "db", source=HERE, outcome="refused")
    audit.record("ann", "user.add", "carl", source=HERE)
    return audit


def raw(folder: Path, *statements: str) -> None:
    """Goes past Drover."""
    with sqlite3.connect(folder / "drover.sqlite") as db:
        for statement in statements:
            db.execute(statement)
    db.close()


TRIGGERS = ("audit_update", "audit_delete", "audit_replace")
DROPPED = [f"DROP TRIGGER {name}" for name in TRIGGERS]


def test_entries_are_newest_first(audit: Audit) -> None:
    three, two, one = audit.entries()
    assert [entry.number for entry in (one, two, three)] == [1, 2, 3]
    assert (one.who, one.what, one.target, one.source, one.outcome) == ("ann", "plan.run", "web", HERE, "done")
    assert one.detail == {"vms": ["a", "b"]} and two.detail == {} and two.outcome == "refused"
    assert [entry.at for entry in (one, two, three)] == [0.0, 1.0, 2.0]
    assert audit.verify() is None


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ({"before": 3}, [2, 1]),
        ({"limit": 1}, [3]),
        ({"before": 3, "limit": 1}, [2]),
        ({"who": "ann"}, [3, 1]),
        ({"what": "plan.run"}, [2, 1]),
        ({"since": 1.0}, [3, 2]),
        ({"who": "ann", "what": "plan.run", "since": 1.0}, []),
    ],
)
def test_entries_can_be_chosen(audit: Audit, wanted: dict[str, Any], numbers: list[int]) -> None:
    assert [entry.number for entry in audit.entries(**wanted)] == numbers


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET who = 'eve'",
        "UPDATE OR REPLACE audit SET number = 1 WHERE number = 2",
        "DELETE FROM audit",
        "DELETE FROM audit WHERE number = 3",
        "REPLACE INTO audit SELECT number, at, 'eve', what, target, source, outcome, detail, hash FROM audit",
    ],
)
def test_the_database_refuses_to_change_an_entry(audit: Audit, tmp_path: Path, statement: str) -> None:
    before = audit.entries()
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        raw(tmp_path, statement)
    assert audit.entries() == before


@pytest.mark.parametrize("column", ["at", "who", "what", "target", "source", "outcome", "detail", "hash"])
@pytest.mark.parametrize("value", ["1234", "'{}x'", "x'00ff'"])
def test_a_changed_field_is_found(audit: Audit, tmp_path: Path, column: str, value: str) -> None:
    raw(tmp_path, *DROPPED, f"UPDATE audit SET {column} = {value} WHERE number = 2")
    found = audit.verify()
    assert found is not None and found.number == 2


@pytest.mark.parametrize(
    ("statement", "number"),
    [
        ("DELETE FROM audit WHERE number = 1", 2),
        ("DELETE FROM audit WHERE number = 2", 3),
        ("; ".join(f"UPDATE audit SET number = {b} WHERE number = {a}" for a, b in ((1, 9), (3, 1), (9, 3))), 1),
        ("INSERT INTO audit SELECT 4, at, who, what, target, source, outcome, detail, hash FROM audit LIMIT 1", 4),
        ("INSERT INTO audit SELECT 0, at, who, what, target, source, outcome, detail, hash FROM audit LIMIT 1", 0),
    ],
)
def test_entries_taken_away_swapped_or_added_are_found(
    audit: Audit, tmp_path: Path, statement: str, number: int
) -> None:
    raw(tmp_path, *DROPPED, *statement.split("; "))
    found = audit.verify()
    assert found is not None and found.number == number


def test_a_chain_written_anew_has_another_newest_hash(audit: Audit, tmp_path: Path) -> None:
    noted = audit.entries(limit=1)[0].hash
    raw(tmp_path, *DROPPED, "DELETE FROM audit WHERE number = 3")
    assert audit.verify() is None
    audit.record("ann", "user.add", "dora", source=HERE)
    assert audit.entries(limit=1)[0].hash != noted


@pytest.mark.parametrize("statement", ["UPDATE audit SET who = 'eve'", "DELETE FROM audit", "TRUNCATE audit"])
def test_postgresql_refuses_to_change_an_entry(postgresql: Cluster, tmp_path: Path, statement: str) -> None:
    (tmp_path / FILE).write_text(postgresql.new_schema())
    audit = Audit(tmp_path)
    audit.record("ann", "plan.run", "web", source=HERE)
    with pytest.raises(DroverError, match="append-only"), Database(tmp_path).transaction() as db:
        db.execute(sa.text(statement))
    assert [entry.who for entry in audit.entries()] == ["ann"]


def test_servers_that_append_at_once_keep_one_chain(data: Path) -> None:
    def append(audit: Audit, name: str) -> None:
        for _ in range(15):
            audit.record(name, "plan.run", "web", source=HERE)

    servers = [Audit(data) for _ in range(4)]
    threads = [threading.Thread(target=append, args=(audit, f"u{n}")) for n, audit in enumerate(servers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [entry.number for entry in servers[0].entries(limit=1000)] == list(range(60, 0, -1))
    assert servers[0].verify() is None


def test_secrets_do_not_get_in(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    planted = "hunter2hunter2"
    detail = {
        "Password": planted,
        "newPassword": [planted],
        "headers": [{"Authorization": f"Bearer {planted}", "Cookie": planted, "host": "kept"}],
        "api_token": {"value": planted},
        "client-secret": planted,
        "text": f"got drover_t_{planted} and drover_s_{planted}",
        f"drover_s_{planted}": 1,
    }
    audit.record(f"drover_s_{planted}", "log-in", f"drover_t_{planted}", source=HERE, detail=detail)
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert planted.encode() not in stored and b"kept" in stored
    assert planted not in repr(audit.entries())
    assert detail["Password"] == planted, "the caller's own must stay"


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.text(st.characters(), max_size=8), min_size=4, max_size=4),
    detail=st.dictionaries(st.text(max_size=5), VALUES, max_size=3),
)
def test_whatever_is_recorded_can_be_read_and_verified(
    tmp_path: Path, texts: list[str], detail: dict[str, Any]
) -> None:
    who, what, target, source = texts
    audit = Audit(tmp_path)
    audit.record(who, what, target, source=source, detail=detail)
    entry = audit.entries(limit=1)[0]
    assert "\0" not in entry.who + entry.what + entry.target + entry.source
    assert len(entry.detail) <= len(detail)
    assert audit.verify() is None
