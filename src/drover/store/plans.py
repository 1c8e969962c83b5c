"""Plans as they were handed in, every version of them, and the runs that carry work out."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from drover.errors import InputError
from drover.store.database import Database, lasting, metadata

_plans = sa.Table(
    "plans",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("by", sa.String, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)
_runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("target", sa.JSON, nullable=False),
    sa.Column("name", sa.String, nullable=False, index=True),
    sa.Column("state", sa.String, nullable=False, index=True),
    sa.Column("reason", sa.String),
    sa.Column("remedy", sa.String),
    sa.Column("migrations", sa.JSON, nullable=False),
    sa.Column("by", sa.String, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("updated_at", sa.Float, nullable=False),
)


@dataclass(frozen=True, kw_only=True)
class StoredPlan:
    """A version of a plan; `at` is Unix seconds, `text` its YAML as it was handed in."""

    name: str
    version: int
    text: str
    by: str
    at: float


class RunState(StrEnum):
    """Where a run is."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    HELD = "held"
    """Something of it did not finish, and waits for the administrator."""
    REFUSED = "refused"
    """Nothing was begun."""

    @property
    def ended(self) -> bool:
        return self not in (RunState.QUEUED, RunState.RUNNING)


class RunKind(StrEnum):
    """What a run carries out."""

    PLAN = "plan"
    """A version of a plan: `{"plan": name, "version": number}`."""
    VM = "vm"
    """One VM: `{"spec": …}`."""
    MIGRATION = "migration"
    """One that was begun before: `{"migration": id}`."""


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """Work that was asked for; times are Unix seconds. `migrations` are ids, once they are recorded."""

    id: str
    kind: RunKind
    target: dict[str, Any]
    name: str
    by: str
    state: RunState = RunState.QUEUED
    reason: str | None = None
    remedy: str | None = None
    migrations: tuple[str, ...] = ()
    created_at: float = 0.0
    updated_at: float = 0.0


class PlanStore:
    """Every version of every plan. Each change is durable when the call returns."""

    def __init__(self, folder: Path | None = None) -> None:
        self._database = Database(folder)

    def put(self, name: str, text: str, by: str) -> StoredPlan:
        """A new version, or the newest if that says the same."""
        while True:
            newest = self._newest(name)
            if newest is not None and newest.text == text:
                return newest
            version = 1 if newest is None else newest.version + 1
            stored = StoredPlan(name=name, version=version, text=text, by=by, at=time.time())
            try:
                with self._database.transaction() as db:
                    db.execute(_plans.insert().values(**vars(stored)))
            except sa.exc.IntegrityError:
                # Another server has just stored this number.
                continue
            return stored

    @lasting
    def get(self, name: str, version: int | None = None) -> StoredPlan:
        """A version of a plan, or the newest. Raises InputError."""
        found = self._newest(name, version)
        if found is None:
            what = f"plan {name!r}" if version is None else f"version {version} of the plan {name!r}"
            raise InputError(f"there is no {what}", remedy="`GET /v1/plans` lists them")
        return found

    def all(self) -> list[StoredPlan]:
        """The newest version of each, by name."""
        newest = sa.select(_plans.c.name, sa.func.max(_plans.c.version).label("version")).group_by(_plans.c.name)
        kept = newest.subquery()
        same = sa.and_(_plans.c.name == kept.c.name, _plans.c.version == kept.c.version)
        with self._database.transaction() as db:
            rows = db.execute(sa.select(_plans).join(kept, same).order_by(_plans.c.name)).mappings().all()
        return [StoredPlan(**row) for row in rows]

    def _newest(self, name: str, version: int | None = None) -> StoredPlan | None:
        query = sa.select(_plans).where(_plans.c.name == name)
        if version is not None:
            query = query.where(_plans.c.version == version)
        with self._database.transaction() as db:
            row = db.execute(query.order_by(_plans.c.version.desc())).mappings().first()
        return None if row is None else StoredPlan(**row)


class RunStore:
    """Every run. Each change is durable when the call returns."""

    def __init__(self, folder: Path | None = None) -> None:
        self._database = Database(folder)

    def add(self, run: StoredRun) -> bool:
        """False if there is a run with this id already: it is left as it is."""
        now = time.time()
        row = {**vars(run), "migrations": list(run.migrations), "created_at": now, "updated_at": now}
        try:
            with self._database.transaction() as db:
                db.execute(_runs.insert().values(**row))
        except sa.exc.IntegrityError:
            return False
        return True

    @lasting
    def get(self, run_id: str) -> StoredRun:
        """Raises InputError."""
        if (run := self.find(run_id)) is None:
            raise InputError(f"there is no run {run_id!r}", remedy="`GET /v1/runs` lists them")
        return run

    @lasting
    def find(self, run_id: str) -> StoredRun | None:
        """The run with this id, if there is one."""
        with self._database.transaction() as db:
            row = db.execute(sa.select(_runs).where(_runs.c.id == run_id)).mappings().first()
        return None if row is None else _run(row)

    def page(
        self,
        *,
        limit: int,
        before: tuple[float, str] | None = None,
        name: str | None = None,
        states: Sequence[RunState] = (),
        kinds: Sequence[RunKind] = (),
    ) -> list[StoredRun]:
        """Newest first, those that come after `before`, (Unix seconds of its creation, id)."""
        query = sa.select(_runs).order_by(_runs.c.created_at.desc(), _runs.c.id.desc()).limit(limit)
        if before is not None:
            order = sa.tuple_(_runs.c.created_at, _runs.c.id)
            query = query.where(order < sa.tuple_(*map(sa.literal, before)))
        if name is not None:
            query = query.where(_runs.c.name == name)
        if states:
            query = query.where(_runs.c.state.in_(states))
        if kinds:
            query = query.where(_runs.c.kind.in_(kinds))
        with self._database.transaction() as db:
            return [_run(row) for row in db.execute(query).mappings()]

    def under_way(self, name: str) -> StoredRun | None:
        """The run of this name that has not ended, if there is one."""
        here = sa.and_(_runs.c.name == name, _runs.c.state.in_([RunState.QUEUED, RunState.RUNNING]))
        with self._database.transaction() as db:
            row = db.execute(sa.select(_runs).where(here)).mappings().first()
        return None if row is None else _run(row)

    def count(self) -> dict[str, int]:
        """How many there are, by state."""
        with self._database.transaction() as db:
            query = sa.select(_runs.c.state, sa.func.count()).group_by(_runs.c.state)
            return {row[0]: row[1] for row in db.execute(query)}

    def waiting(self) -> list[str]:
        """Ids of those that no server has begun."""
        with self._database.transaction() as db:
            return list(db.execute(sa.select(_runs.c.id).where(_runs.c.state == RunState.QUEUED)).scalars())

    @lasting
    def change(self, run_id: str, **values: Any) -> None:
        """Sets fields of a run."""
        with self._database.transaction() as db:
            db.execute(_runs.update().where(_runs.c.id == run_id).values(**values, updated_at=time.time()))


def _run(row: sa.RowMapping) -> StoredRun:
    fields = {**row, "kind": RunKind(row["kind"]), "state": RunState(row["state"])}
    return StoredRun(**{**fields, "migrations": tuple(row["migrations"])})
