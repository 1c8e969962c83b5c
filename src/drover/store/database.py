"""The database: its tables, how it is opened, what it says when it fails, and when it is asked again."""

import functools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import ParamSpec, TypeVar
from weakref import WeakSet

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from drover import fence
from drover.errors import DroverError, InputError
from drover.store import schema
from drover.store.location import data_folder, location, shown

__all__ = ["WHOLE", "Database", "DatabaseGoneError", "data_folder", "insert", "lasting", "metadata", "patient"]

metadata = sa.MetaData()
"""Every table as the code knows it. What a database has is in `schema/versions`: a new table needs a revision there."""
WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""Bytes, and numbers of rows: 64 bits on both."""

_REMEDY = {
    "sqlite": "check that the folder is writable and has room, or name another one in DROVER_DATA",
    "postgresql": "check that PostgreSQL runs, and what DROVER_DATABASE_URL or the file database-url says",
}
_PATIENCE = 10.0
"""Seconds that a database may be away before a new transaction fails: it is restarted in less."""
_LASTING = 600.0
"""Seconds for which those wait that carry work out."""
_IDLE = "25P03"
"""What PostgreSQL says when it ended a transaction that stood still."""
_waits: ContextVar[float] = ContextVar("_waits", default=0.0)
_opening = threading.Lock()
_opened: WeakSet[sa.Engine] = WeakSet()
_P = ParamSpec("_P")
_T = TypeVar("_T")


class DatabaseGoneError(DroverError):
    """PostgreSQL does not answer, or ended the connection: what was asked may be asked again."""


class Database:
    """The database of `folder`, or of the administrator's data folder. Raises DroverError if it cannot be used.

    Opening it brings its schema up to this Drover, unless `bring_up` is false.
    """

    def __init__(self, folder: Path | None = None, *, bring_up: bool = True) -> None:
        self.folder = folder or data_folder()
        make_folder(self.folder)
        self.url = location(self.folder)
        self.engine = engine_of(self.url)
        if not bring_up:
            return
        with _opening:
            if self.engine not in _opened or not self._is_there():
                with self.told():
                    schema.open(self._connect, shown(self.url))
                _opened.add(self.engine)

    @property
    def shared(self) -> bool:
        """Whether servers on other hosts may work with it too."""
        return self.url.drivername != "sqlite"

    @contextmanager
    def transaction(self, *, fenced: bool = True) -> Iterator[sa.Connection]:
        """Durable when it ends without an error. What the database says becomes a DroverError.

        Waits some seconds for a PostgreSQL that is being restarted. Raises DatabaseGoneError if it stays away, or goes
        within the transaction; InputError for values that it cannot hold; FencedError if `fenced` and another process
        was given what this one does; sqlalchemy.exc.IntegrityError if there is a row already where one may be once.
        """
        with self.told(), self._connect() as db, db.begin():
            for permit in fence.held() if fenced else ():
                permit.require_in(db)
            yield db

    def forget(self) -> None:
        """What is there now is replaced by something else: it is opened anew."""
        with _opening:
            _opened.discard(self.engine)
            self.engine.dispose()

    def ping(self) -> None:
        """Asks it once, and waits for nothing. Raises DroverError."""
        with self.told(), self.engine.connect() as db:
            db.execute(sa.text("SELECT 1"))

    def revision(self) -> str | None:
        """What its schema is at; None if it has none, or one from before versions."""
        with self.told(), self._connect() as db:
            return schema.revision_of(db)

    def change(self, revision: str) -> tuple[str | None, str]:
        """Takes its schema up or down: from which revision, to which. Raises DroverError; nothing has changed then."""
        with self.told():
            return schema.change(self._connect, shown(self.url), revision)

    @contextmanager
    def told(self) -> Iterator[None]:
        """Turns what the driver raises into what `transaction` does."""
        remedy = _REMEDY[self.engine.dialect.name]
        try:
            yield
        except sa.exc.IntegrityError:
            raise
        except sa.exc.DataError as error:
            raise InputError(
                f"the database cannot hold what was given: {_words(error)}", remedy="give other text"
            ) from error
        except sa.exc.DBAPIError as error:
            kind = DatabaseGoneError if self.shared and _is_gone(error) else DroverError
            raise kind(f"Drover's database {shown(self.url)} cannot be used: {_words(error)}", remedy=remedy) from error
        except sa.exc.TimeoutError as error:
            raise DatabaseGoneError("too much is asked of the database at once", remedy="try again") from error

    def _connect(self) -> sa.Connection:
        deadline = time.monotonic() + (_PATIENCE if self.shared else 0.0)
        while True:
            try:
                return self.engine.connect()
            except sa.exc.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def _is_there(self) -> bool:
        return self.shared or Path(str(self.url.database)).exists()


@contextmanager
def patient() -> Iterator[None]:
    """Meanwhile, in this thread, what is `lasting` waits for a database that is away: for who carries work out."""
    token = _waits.set(_LASTING)
    try:
        yield
    finally:
        _waits.reset(token)


def lasting(method: Callable[_P, _T]) -> Callable[_P, _T]:
    """Under `patient`, does it again until the database is back: what it does may be done twice."""

    @functools.wraps(method)
    def again(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        deadline = time.monotonic() + _waits.get()
        while True:
            try:
                return method(*args, **kwargs)
            except DatabaseGoneError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    return again


def insert(db: sa.Connection, table: sa.Table) -> "postgresql.Insert | sqlite.Insert":
    """An INSERT that can say what happens if the row is there."""
    return postgresql.insert(table) if db.dialect.name == "postgresql" else sqlite.insert(table)


def make_folder(folder: Path) -> None:
    """The data folder, for this user only. Raises DroverError."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise DroverError(
            f"cannot make Drover's data folder {folder}: {error.strerror}", remedy=_REMEDY["sqlite"]
        ) from error


def exclusive(db: sa.Connection, table: sa.Table) -> None:
    """Keeps all other writers of the table waiting until the transaction ends; to be its first statement.

    Whoever takes more than one table does so in one order everywhere, so that nobody waits in a circle.
    """
    if db.dialect.name == "postgresql":
        name = db.dialect.identifier_preparer.format_table(table)
        db.execute(sa.text(f"LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE"))
    else:
        # SQLite takes its one write lock before it looks for rows.
        nothing = {column: column for column in table.primary_key}
        db.execute(table.update().where(sa.false()).values(nothing))


@functools.cache
def engine_of(url: sa.URL) -> sa.Engine:
    """One for all stores of this process: a server opens them at every request."""
    if url.drivername == "sqlite":
        engine = sa.create_engine(url, hide_parameters=True)
        sa.event.listen(engine, "connect", _make_durable)
        return engine
    # A host that vanished is noticed within seconds, whichever side waits for the other.
    alive = {"keepalives_idle": 3, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 9000}
    return sa.create_engine(
        url,
        hide_parameters=True,
        pool_pre_ping=True,
        # Each migration is a process: what it keeps open, PostgreSQL keeps open for each.
        pool_size=2,
        max_overflow=30,
        connect_args={"connect_timeout": 5, "application_name": "drover", **alive},
    )


def _make_durable(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout=10000")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _is_gone(error: sa.exc.DBAPIError) -> bool:
    ended = error.connection_invalidated or getattr(error.orig, "sqlstate", None) == _IDLE
    return ended or isinstance(error, sa.exc.OperationalError)


def _words(error: sa.exc.DBAPIError) -> str:
    return " ".join(str(error.orig).split())
