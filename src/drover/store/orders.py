"""The order that a run goes by: its timeline as it was worked out last, and what its migrations wait for."""

from collections.abc import Collection, Mapping
from pathlib import Path

import sqlalchemy as sa

from drover.model.timeline import Progressing, Timeline
from drover.store.database import Database, metadata

_timelines = sa.Table(
    "timelines",
    metadata,
    sa.Column("run", sa.String, primary_key=True),
    sa.Column("plan", sa.String, nullable=False, index=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("body", sa.JSON, nullable=False),
)
_waits = sa.Table(
    "waits",
    metadata,
    sa.Column("migration", sa.String, primary_key=True),
    sa.Column("run", sa.String, nullable=False, index=True),
    sa.Column("reason", sa.String, nullable=False),
)


class OrderStore:
    """Of every run of a plan. Each write is durable when the call returns."""

    def __init__(self, folder: Path | None = None) -> None:
        self._database = Database(folder)

    def put(self, run: str, timeline: Timeline) -> None:
        """Replaces what was worked out for this run before."""
        values = {"plan": timeline.plan, "at": timeline.at, "body": timeline.model_dump(mode="json")}
        with self._database.transaction() as db:
            if not db.execute(_timelines.update().where(_timelines.c.run == run).values(**values)).rowcount:
                db.execute(_timelines.insert().values(run=run, **values))

    def get(self, run: str) -> Timeline | None:
        """What was worked out for this run last, if something was, with what each that waits now waits for."""
        with self._database.transaction() as db:
            row = db.execute(sa.select(_timelines.c.body).where(_timelines.c.run == run)).first()
        if row is None:
            return None
        timeline = Timeline.model_validate(row.body)
        waits = self.waits([vm.migration for one in timeline.rows for vm in one.vms if vm.migration is not None])
        rows = [
            one.model_copy(update={"waits_for": waits.get(one.vms[0].migration or "", one.waits_for)})
            if one.state is Progressing.WAITING
            else one
            for one in timeline.rows
        ]
        return timeline.model_copy(update={"rows": rows})

    def put_waits(self, run: str, reasons: Mapping[str, str]) -> None:
        """What each migration of this run that has not begun waits for, by its id; those that are left out do not."""
        with self._database.transaction() as db:
            db.execute(_waits.delete().where(sa.or_(_waits.c.run == run, _waits.c.migration.in_(list(reasons)))))
            if reasons:
                rows = [{"run": run, "migration": number, "reason": reason} for number, reason in reasons.items()]
                db.execute(_waits.insert(), rows)

    def waits(self, migrations: Collection[str]) -> dict[str, str]:
        """What these wait for, by id; those that wait for nothing are absent."""
        query = sa.select(_waits.c.migration, _waits.c.reason).where(_waits.c.migration.in_(list(migrations)))
        with self._database.transaction() as db:
            return {row.migration: row.reason for row in db.execute(query)}
