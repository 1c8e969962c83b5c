"""Migrations and their history in a database, and the lock that lets one process at a time run one."""

import fcntl
import secrets
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import sqlalchemy as sa
from pydantic import ValidationError

from drover.errors import DroverError, InputError, MigrationError
from drover.fence import under
from drover.model.migration import Cutover, Facts, Migration, Spec, State, may_follow
from drover.store.claims import Claims, HeldError, reset_claims
from drover.store.database import WHOLE, Database, lasting, metadata, patient
from drover.store.groups import members_of

_migrations = sa.Table(
    "migrations",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("vm", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False, index=True),
    sa.Column("reason", sa.String),
    sa.Column("remedy", sa.String),
    sa.Column("spec", sa.JSON, nullable=False),
    sa.Column("facts", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False, index=True),
    sa.Column("updated_at", sa.Float, nullable=False),
)
_events = sa.Table(
    "events",
    metadata,
    sa.Column("number", WHOLE, primary_key=True),
    sa.Column("migration", sa.String, sa.ForeignKey("migrations.id"), nullable=False, index=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("text", sa.String, nullable=False),
)


_APPENDING = 0x6576656E7473
"""Key of PostgreSQL's advisory lock while an event is added."""
_LEAP = 1 << 20
"""Tokens that are skipped after a restore: more than were ever given out since the backup."""
_PATIENCE = 0.2
"""Seconds for which a migration that is held may be let go."""


class Standing(NamedTuple):
    """How far a migration is. Times are Unix seconds; `begun` is None before its first run."""

    state: State
    reason: str | None
    begun: float | None
    updated: float


class MigrationStore:
    """Every migration that this Drover knows. Each write is durable when the call returns."""

    def __init__(self, folder: Path | None = None) -> None:
        self._database = Database(folder)
        self._claims = Claims(self._database)
        self.folder = self._database.folder

    def ping(self) -> None:
        """Raises DroverError, without waiting, if the database does not answer."""
        self._database.ping()

    def add(self, spec: Spec, facts: Facts) -> Migration:
        migration = Migration(id=f"m-{secrets.token_hex(4)}", spec=spec, facts=facts)
        with self._database.transaction() as db:
            db.execute(_migrations.insert().values(**_row(migration)))
            _append(db, migration.id, "state", State.PLANNED)
        return migration

    @lasting
    def get(self, migration_id: str) -> Migration:
        """The migration with this id, or the only one whose id begins so. Raises InputError."""
        query = sa.select(_migrations).where(_migrations.c.id.startswith(migration_id, autoescape=True))
        with self._database.transaction() as db:
            rows = db.execute(query).mappings().all()
        if len(rows) != 1 or not migration_id:
            raise InputError(
                f"there is no migration {migration_id!r}"
                if not rows
                else f"{migration_id!r} is more than one migration",
                remedy="`drover status` lists them",
            )
        return _migration(rows[0])

    def all(self, *, include_ended: bool = True) -> list[Migration]:
        """Newest first."""
        with self._database.transaction() as db:
            rows = db.execute(sa.select(_migrations).order_by(_migrations.c.created_at.desc())).mappings().all()
        migrations = [_migration(row) for row in rows]
        return [m for m in migrations if include_ended or not m.state.ended]

    def page(
        self,
        *,
        limit: int,
        before: tuple[float, str] | None = None,
        states: Sequence[State] = (),
        vm: str | None = None,
        plan: str | None = None,
        group: str | None = None,
        sites: Sequence[str] | None = None,
    ) -> list[Migration]:
        """Newest first, those that come after `before`, (Unix seconds of its creation, id); `vm` may be a part.

        `plan` is a name, `group` an id, `sites` are URIs of which it goes from or to one.
        """
        order = sa.tuple_(_migrations.c.created_at, _migrations.c.id)
        query = sa.select(_migrations).order_by(_migrations.c.created_at.desc(), _migrations.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(order < sa.tuple_(*map(sa.literal, before)))
        if states:
            query = query.where(_migrations.c.state.in_(states))
        if vm is not None:
            query = query.where(_migrations.c.vm.contains(vm, autoescape=True))
        if plan is not None or group is not None:
            query = query.where(_migrations.c.id.in_(members_of(plan, group)))
        if sites is not None:
            ends = [_migrations.c.spec[end].as_string() for end in ("source", "destination")]
            query = query.where(sa.or_(*(end.in_(sites) for end in ends)))
        with self._database.transaction() as db:
            return [_migration(row) for row in db.execute(query).mappings()]

    def of_vm(self, uuid: str) -> Migration | None:
        """The migration of the VM with this UUID that has not ended; None if there is none."""
        ended = [state for state in State if state.ended]
        its = _migrations.c.facts["uuid"].as_string() == uuid
        query = sa.select(_migrations).where(_migrations.c.state.not_in(ended), its).limit(1)
        with self._database.transaction() as db:
            row = db.execute(query).mappings().first()
        return None if row is None else _migration(row)

    def planned_by(self, run: str) -> list[Migration]:
        """Those that were recorded for this run of a server and have not begun."""
        its = _migrations.c.facts["run"].as_string() == run
        query = sa.select(_migrations).where(_migrations.c.state == State.PLANNED, its)
        with self._database.transaction() as db:
            return [_migration(row) for row in db.execute(query).mappings()]

    def count(self) -> dict[str, int]:
        """How many there are, by state."""
        query = sa.select(_migrations.c.state, sa.func.count()).group_by(_migrations.c.state)
        with self._database.transaction() as db:
            return {row[0]: row[1] for row in db.execute(query)}

    def sums(self) -> dict[str, int]:
        """Bytes of all migrations: `background` and `foreground` before compression, and `wire`."""
        facts = _migrations.c.facts
        columns = {
            "background": sa.cast(facts["totals"]["background_bytes"].as_string(), WHOLE),
            "foreground": sa.cast(facts["totals"]["foreground_bytes"].as_string(), WHOLE),
            "wire": sa.cast(facts["sent_bytes"].as_string(), WHOLE),
        }
        query = sa.select(*(sa.func.sum(column).label(name) for name, column in columns.items()))
        with self._database.transaction() as db:
            row = db.execute(query).mappings().one()
        return {name: int(row[name] or 0) for name in columns}

    def downtimes(self) -> list[float]:
        """Seconds, of the VMs that have arrived; those that are started by hand, or were off, have none."""
        cutover = _migrations.c.facts["cutover"]
        stopping, started = cutover["stopping_at"].as_float(), cutover["started_at"].as_float()
        arrived = sa.and_(_migrations.c.state == State.FINISHED, started.is_not(None))
        counted = sa.and_(cutover["mode"].as_string() != Cutover.MANUAL, cutover["was_off"].as_boolean().is_(False))
        with self._database.transaction() as db:
            return [row[0] for row in db.execute(sa.select(started - stopping).where(arrived, counted))]

    def interruptions(self) -> dict[str, int]:
        """How often migrations were paused, and failed, each time with a reason."""
        query = sa.select(sa.func.count()).select_from(_events).where(_events.c.kind == "state")
        with self._database.transaction() as db:
            return {
                str(state): db.execute(query.where(_events.c.text.startswith(f"{state}: "))).scalar_one()
                for state in (State.PAUSED, State.FAILED)
            }

    @lasting
    def under_way(self) -> list[str]:
        """Ids of those that have not ended."""
        ended = [state for state in State if state.ended]
        with self._database.transaction() as db:
            return list(db.execute(sa.select(_migrations.c.id).where(_migrations.c.state.not_in(ended))).scalars())

    def standing(self, migrations: Collection[str]) -> dict[str, Standing]:
        """How far these are, by id; cheaper than reading all of them."""
        begun = _migrations.c.facts["timings", "begun_at"].as_float()
        columns = (_migrations.c.id, _migrations.c.state, _migrations.c.reason, _migrations.c.updated_at)
        query = sa.select(*columns, begun.label("begun")).where(_migrations.c.id.in_(list(migrations)))
        with self._database.transaction() as db:
            return {
                row.id: Standing(State(row.state), row.reason, row.begun, row.updated_at) for row in db.execute(query)
            }

    def happened(self, after: int, limit: int) -> list[tuple[int, str, float, str, str]]:
        """(number, migration, Unix seconds, kind, text) of what was noted after that number, oldest first."""
        columns = (_events.c.number, _events.c.migration, _events.c.at, _events.c.kind, _events.c.text)
        query = sa.select(*columns).where(_events.c.number > after).order_by(_events.c.number).limit(limit)
        with self._database.transaction() as db:
            return [tuple(row) for row in db.execute(query)]

    def newest_event(self) -> int:
        """The number of what was noted last; 0 if nothing was."""
        with self._database.transaction() as db:
            return db.execute(sa.select(sa.func.max(_events.c.number))).scalar() or 0

    @lasting
    def save(self, migration: Migration) -> None:
        """Stores the facts as they are now; the state stays what it was."""
        migration.updated_at = time.time()
        with self._database.transaction() as db:
            db.execute(_migrations.update().where(_migrations.c.id == migration.id).values(**_row(migration)))

    def enter(
        self, migration: Migration, state: State, *, reason: str | None = None, remedy: str | None = None
    ) -> None:
        """Moves a migration to `state`. Raises MigrationError for a step that its life does not have."""
        if not may_follow(migration.state, state):
            raise MigrationError(f"migration {migration.id} is {migration.state} and cannot become {state}")
        changed = migration.state != state
        migration.state, migration.reason, migration.remedy = state, reason, remedy
        migration.updated_at = time.time()
        told = f"{state}: {reason}" if reason else str(state)
        self._write(migration, told if changed or reason else None)

    @lasting
    def _write(self, migration: Migration, told: str | None) -> None:
        with self._database.transaction() as db:
            db.execute(_migrations.update().where(_migrations.c.id == migration.id).values(**_row(migration)))
            if told is not None:
                _append(db, migration.id, "state", told)

    @lasting
    def note(self, migration: Migration, text: str) -> None:
        """Remembers something that happened to a migration."""
        with self._database.transaction() as db:
            _append(db, migration.id, "note", text)

    @lasting
    def history(self, migration_id: str) -> list[tuple[float, str, str]]:
        """(Unix seconds, kind, text) of everything that happened to a migration, oldest first."""
        query = sa.select(_events.c.at, _events.c.kind, _events.c.text).where(_events.c.migration == migration_id)
        with self._database.transaction() as db:
            return [(row.at, row.kind, row.text) for row in db.execute(query.order_by(_events.c.number))]

    @contextmanager
    def running(self, migration: Migration) -> Iterator[None]:
        """Holds a migration for this process, and `migration` as it is now; others get it once the process is dead.

        All that the process does meanwhile is fenced: if it is stopped, or cut off from a shared database, for so long
        that another process takes the migration over, it acts no more. Raises InputError if another one holds it.
        """
        with self._lock(migration.id) as lock:
            # `is_running` holds it for a moment.
            deadline = time.monotonic() + _PATIENCE
            while not _take(lock):
                if time.monotonic() > deadline:
                    raise self._held(migration)
                time.sleep(0.01)
            try:
                claim = self._claims.take(migration.id, alone_here=True)
            except HeldError as error:
                raise self._held(migration) from error
            try:
                with under(claim), patient():
                    self._refresh(migration)
                    yield
            finally:
                claim.release()

    @lasting
    def is_running(self, migration_id: str) -> bool:
        """Whether a process holds this migration now."""
        with self._lock(migration_id) as lock:
            if not _take(lock):
                return True
        return self._database.shared and self._claims.holder(migration_id, elsewhere=True) is not None

    def _refresh(self, migration: Migration) -> None:
        """It may have been read while another process still worked on it."""
        now = self.get(migration.id)
        for name in Migration.model_fields:
            setattr(migration, name, getattr(now, name))

    def _held(self, migration: Migration) -> InputError:
        return InputError(
            f"another drover process is running migration {migration.id} of {migration.spec.vm}",
            remedy=f"let it finish, or stop it first: `drover pause {migration.id}`",
        )

    def _lock(self, migration_id: str) -> IO[str]:
        return (self.folder / f"{migration_id}.lock").open("a")


def advance_tokens(database: Database) -> None:
    """Leaves no claim held, and puts the fencing tokens of all migrations above any that may have been used since."""
    with database.transaction() as db:
        reset_claims(db, _LEAP)
        for row in db.execute(sa.select(_migrations.c.id, _migrations.c.facts)).all():
            facts = {**row.facts, "token": row.facts.get("token", 0) + _LEAP}
            db.execute(_migrations.update().where(_migrations.c.id == row.id).values(facts=facts))


def _take(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _row(migration: Migration) -> dict[str, object]:
    fields = migration.model_dump(mode="json")
    return {**fields, "vm": migration.spec.vm}


def _migration(row: sa.RowMapping) -> Migration:
    try:
        return Migration.model_validate({key: value for key, value in row.items() if key != "vm"})
    except ValidationError as error:
        wrong = error.errors()[0]
        raise DroverError(
            f"the record of migration {row['id']} cannot be read: {'.'.join(map(str, wrong['loc']))}: {wrong['msg']}",
            remedy="it was written by another version of Drover: use that one, or another folder in DROVER_DATA",
        ) from error


def _append(db: sa.Connection, migration_id: str, kind: str, text: str) -> None:
    if db.dialect.name == "postgresql":
        # Numbers in the order in which they can be seen: who has read up to one has missed none.
        db.execute(sa.select(sa.func.pg_advisory_xact_lock(_APPENDING)))
    db.execute(_events.insert().values(migration=migration_id, at=time.time(), kind=kind, text=text))
