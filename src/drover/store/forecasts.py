"""Forecasts that were made before migrations began, for the score."""

from pathlib import Path

import sqlalchemy as sa

from drover.model.forecast import Forecast
from drover.store.database import Database, insert, lasting, metadata

_forecasts = sa.Table(
    "forecasts",
    metadata,
    sa.Column("migration", sa.String, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("raw", sa.JSON, nullable=False),
    sa.Column("shown", sa.JSON, nullable=False),
)


class ForecastStore:
    """Each write is durable when the call returns."""

    def __init__(self, folder: Path | None = None) -> None:
        self._database = Database(folder)

    @lasting
    def add(self, migration: str, raw: Forecast, shown: Forecast) -> None:
        """Remembers what was forecast for a migration; the first one counts."""
        values = {"migration": migration, "at": raw.at, "raw": raw.model_dump(mode="json")}
        with self._database.transaction() as db:
            row = insert(db, _forecasts).values(**values, shown=shown.model_dump(mode="json"))
            db.execute(row.on_conflict_do_nothing())

    @lasting
    def has(self, migration: str) -> bool:
        """Whether one was made for this migration."""
        query = sa.select(_forecasts.c.migration).where(_forecasts.c.migration == migration)
        with self._database.transaction() as db:
            return db.execute(query).first() is not None

    def of(self, migration: str) -> Forecast | None:
        """What was shown for this migration, if something was."""
        query = sa.select(_forecasts.c.shown).where(_forecasts.c.migration == migration)
        with self._database.transaction() as db:
            row = db.execute(query).first()
        return None if row is None else Forecast.model_validate(row.shown)

    def all(self) -> dict[str, tuple[Forecast, Forecast]]:
        """By migration: as the simulation said it, and as it was shown."""
        with self._database.transaction() as db:
            rows = db.execute(sa.select(_forecasts)).mappings().all()
        return {
            row["migration"]: (Forecast.model_validate(row["raw"]), Forecast.model_validate(row["shown"]))
            for row in rows
        }
