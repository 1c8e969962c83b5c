"""What running migrations say of themselves, and what they are asked to do, whichever process runs them."""

import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from drover.store.database import Database, insert, lasting, metadata

_progress = sa.Table(
    "progress",
    metadata,
    sa.Column("migration", sa.String, sa.ForeignKey("migrations.id"), primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("body", sa.JSON, nullable=False),
)
_pauses = sa.Table(
    "pauses",
    metadata,
    sa.Column("migration", sa.String, sa.ForeignKey("migrations.id"), primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
)
_leaves = sa.Table(
    "window_leaves",
    metadata,
    sa.Column("migration", sa.String, sa.ForeignKey("migrations.id"), primary_key=True),
    sa.Column("by", sa.String, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)
"""Migrations that may cut over outside their maintenance windows, and who said so when."""


class LiveStore:
    """The newest progress of each migration, which of them are to pause, and which need not wait for a window."""

    def __init__(self, folder: Path | None = None) -> None:
        self._database = Database(folder)

    @lasting
    def tell(self, migration: str, progress: Mapping[str, Any]) -> None:
        """Replaces what was known of this migration's progress, `Progress.as_json()`."""
        values = {"at": progress["at"], "body": dict(progress)}
        with self._database.transaction() as db:
            row = insert(db, _progress).values(migration=migration, **values)
            db.execute(row.on_conflict_do_update(index_elements=["migration"], set_=values))

    @lasting
    def newest(self, migrations: Collection[str]) -> dict[str, dict[str, Any]]:
        """By migration; its field `at` (Unix seconds) says how old it is."""
        query = sa.select(_progress.c.migration, _progress.c.body).where(_progress.c.migration.in_(migrations))
        with self._database.transaction() as db:
            return {row.migration: row.body for row in db.execute(query)}

    def since(self, at: float) -> dict[str, dict[str, Any]]:
        """What was told after this time (Unix seconds, of the telling migration), by migration."""
        query = sa.select(_progress.c.migration, _progress.c.body).where(_progress.c.at > at)
        with self._database.transaction() as db:
            return {row.migration: row.body for row in db.execute(query)}

    @lasting
    def ask_to_pause(self, migration: str) -> None:
        """The process that runs this migration ends it in an orderly way within seconds; `drover resume` goes on."""
        with self._database.transaction() as db:
            asked = {"at": time.time()}
            row = insert(db, _pauses).values(migration=migration, **asked)
            db.execute(row.on_conflict_do_update(index_elements=["migration"], set_=asked))

    @lasting
    def is_to_pause(self, migration: str, *, since: float) -> bool:
        """Whether that was asked at this time (Unix seconds) or later."""
        asked = sa.and_(_pauses.c.migration == migration, _pauses.c.at >= since)
        with self._database.transaction() as db:
            return db.execute(sa.select(_pauses.c.at).where(asked)).first() is not None

    def free_of_windows(self, migration: str, by: str) -> bool:
        """Lets a migration cut over outside its windows, from now on; False if it was let already."""
        with self._database.transaction() as db:
            if db.execute(sa.select(_leaves.c.at).where(_leaves.c.migration == migration)).first() is not None:
                return False
            db.execute(_leaves.insert().values(migration=migration, by=by, at=time.time()))
            return True

    def is_free_of_windows(self, migration: str) -> bool:
        with self._database.transaction() as db:
            return db.execute(sa.select(_leaves.c.at).where(_leaves.c.migration == migration)).first() is not None
