"""The audit trail: who did what to what, from where, and how it ended. Nothing in it is changed or taken away.

Each entry holds the SHA-256 of the one before and of its own fields, so that a change made past Drover shows. Entries
cut off at the end do not show by themselves: note the newest entry's `hash` elsewhere, if you want to know of that too.
"""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from drover.scrub import scrub
from drover.store.database import Database, exclusive, metadata

# That entries are neither changed nor taken away is watched by triggers (store/schema/versions/0001).
_entries = sa.Table(
    "audit",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Float, nullable=False, index=True),
    sa.Column("who", sa.String, nullable=False, index=True),
    sa.Column("what", sa.String, nullable=False, index=True),
    sa.Column("target", sa.String, nullable=False),
    sa.Column("source", sa.String, nullable=False),
    sa.Column("outcome", sa.String, nullable=False),
    # Text, since the hash is over its bytes.
    sa.Column("detail", sa.String, nullable=False),
    sa.Column("hash", sa.String, nullable=False),
)
_BEFORE_THE_FIRST = "0" * 64


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One thing that was done, or refused."""

    number: int
    at: float
    """Unix seconds."""
    who: str
    what: str
    target: str
    source: str
    outcome: str
    detail: dict[str, Any]
    hash: str


class Audit:
    """The trail of all servers that share the database."""

    def __init__(self, folder: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        self._database = Database(folder)
        self._clock = clock

    def record(
        self,
        who: str,
        what: str,
        target: str,
        *,
        source: str,
        outcome: str = "done",
        detail: dict[str, Any] | None = None,
    ) -> None:
        """Appends an entry, without the secrets in it. Durable when the call returns."""
        texts = {"who": who, "what": what, "target": target, "source": source, "outcome": outcome}
        row: dict[str, Any] = {key: scrub(text) for key, text in texts.items()}
        row["detail"] = json.dumps(scrub(detail or {}), sort_keys=True, default=lambda other: scrub(str(other)))
        with self._database.transaction() as db:
            exclusive(db, _entries)
            newest = sa.select(_entries.c.number, _entries.c.hash).order_by(_entries.c.number.desc()).limit(1)
            number, before = db.execute(newest).one_or_none() or (0, _BEFORE_THE_FIRST)
            row |= {"number": number + 1, "at": float(self._clock())}
            db.execute(_entries.insert().values(**row, hash=_hash(before, row)))

    def entries(
        self,
        *,
        before: int | None = None,
        limit: int = 100,
        who: str | None = None,
        what: str | None = None,
        since: float | None = None,
    ) -> list[Entry]:
        """Newest first: those with a number below `before`, not older than `since` (Unix seconds)."""
        wanted = []
        if before is not None:
            wanted.append(_entries.c.number < before)
        if who is not None:
            wanted.append(_entries.c.who == who)
        if what is not None:
            wanted.append(_entries.c.what == what)
        if since is not None:
            wanted.append(_entries.c.at >= since)
        query = sa.select(_entries).where(*wanted).order_by(_entries.c.number.desc()).limit(limit)
        with self._database.transaction() as db:
            return [_entry(row) for row in db.execute(query).mappings()]

    def verify(self) -> Entry | None:
        """The first entry that does not fit the one before it or its own hash; None if all do."""
        query = sa.select(_entries).order_by(_entries.c.number).execution_options(yield_per=1000)
        number, before = 0, _BEFORE_THE_FIRST
        with self._database.transaction() as db:
            for row in db.execute(query).mappings():
                if row["number"] != number + 1 or row["hash"] != _hash(before, row):
                    return _entry(row)
                number, before = row["number"], row["hash"]
        return None


def _hash(before: str, row: sa.RowMapping | dict[str, Any]) -> str:
    fields = [row[column.name] for column in _entries.c if column.name != "hash"]
    return hashlib.sha256(json.dumps([before, *fields], default=repr).encode()).hexdigest()


def _entry(row: sa.RowMapping) -> Entry:
    try:
        detail = json.loads(row["detail"])
    except (TypeError, ValueError):
        # Nobody but Drover's enemy writes so; `verify` is to show it all the same.
        detail = {"unreadable": str(row["detail"])}
    return Entry(**{**row, "detail": detail})
