"""How many migrations cut over at one destination host, or into one pool, at the same time: whoever runs them.

One that may cut over takes its place here first, and its state then keeps it: a place that is taken and not used within
seconds is free again, so that no death leaves one behind.
"""

import time
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

import sqlalchemy as sa

from drover.model.migration import State
from drover.store.database import Database, metadata

_limits = sa.Table(
    "cutover_limits",
    metadata,
    sa.Column("migration", sa.String, primary_key=True),
    sa.Column("places", sa.JSON, nullable=False),
    sa.Column("most", sa.JSON, nullable=False),
)
"""`places` are what a migration's cutover uses, `most` how many may use each of them."""
_taken = sa.Table(
    "cutover_places",
    metadata,
    sa.Column("migration", sa.String, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
)
_turns = sa.Table("cutover_turns", metadata, sa.Column("number", sa.Integer, primary_key=True))
"""One row, which whoever counts holds meanwhile: two who count at once would both find the last place free."""
_USED = (State.CUTTING_OVER, State.VERIFYING, State.STARTING)
_BATCH = 500
_FRESH = 15.0
"""Seconds within which a place that was taken shows in its migration's state."""


class CutoverStore:
    """Places for cutovers. Each change is durable when the call returns."""

    def __init__(self, folder: Path | None = None) -> None:
        self._database = Database(folder)

    def limit(self, places: Mapping[str, Collection[str]], most: Mapping[str, int]) -> None:
        """By migration, what its cutover uses; `most` is by what is used, and what it lacks is not limited."""
        rows = [
            {"migration": number, "places": sorted(used), "most": {one: most[one] for one in used if one in most}}
            for number, used in places.items()
        ]
        with self._database.transaction() as db:
            for start in range(0, len(rows), _BATCH):
                part = rows[start : start + _BATCH]
                db.execute(_limits.delete().where(_limits.c.migration.in_([row["migration"] for row in part])))
                db.execute(_limits.insert(), part)

    def take(self, migrations: Collection[str]) -> str | None:
        """Takes places for these, which cut over together; None if they have them now, else what has none.

        What is more than a limit by itself has room where nobody else is.
        """
        with self._database.transaction() as db:
            if not self._is_limited(db, migrations):
                return None
            self._hold(db)
            others = {str(number) for number in db.execute(_used()).scalars()} - set(migrations)
            wanted, most = _places(db, migrations)
            there, _ = _places(db, others)
            for place, count in wanted.items():
                if place in most and there[place] and there[place] + count > most[place]:
                    db.execute(_taken.delete().where(_taken.c.migration.in_(list(migrations))))
                    return f"{place} has {there[place]} of {most[place]} cutovers"
            db.execute(_taken.delete().where(_taken.c.migration.in_(list(migrations))))
            db.execute(_taken.insert(), [{"migration": number, "at": time.time()} for number in migrations])
            return None

    def _is_limited(self, db: sa.Connection, migrations: Collection[str]) -> bool:
        query = sa.select(_limits.c.most).where(_limits.c.migration.in_(list(migrations)))
        return any(most for most in db.execute(query).scalars())

    def _hold(self, db: sa.Connection) -> None:
        if not db.execute(_turns.update().values(number=_turns.c.number)).rowcount:
            db.execute(_turns.insert().values(number=1))


def _used() -> sa.CompoundSelect[tuple[str]]:
    """Ids of those that cut over, or are about to."""
    migrations = metadata.tables["migrations"]
    cutting = sa.select(migrations.c.id).where(migrations.c.state.in_(_USED))
    return cutting.union(sa.select(_taken.c.migration).where(_taken.c.at > time.time() - _FRESH))


def _places(db: sa.Connection, migrations: Collection[str]) -> tuple[Counter[str], dict[str, int]]:
    """How many of these use each place, and how many may."""
    query = sa.select(_limits.c.places, _limits.c.most).where(_limits.c.migration.in_(list(migrations)))
    used: Counter[str] = Counter()
    most: dict[str, int] = {}
    for row in db.execute(query):
        used.update(row.places)
        most |= row.most
    return used, most
