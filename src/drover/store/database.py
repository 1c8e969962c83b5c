"""The database in the administrator's data folder: where it is, its tables, what it says when it fails."""

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from drover.errors import DroverError

metadata = sa.MetaData()
"""Every table; those that a database of an older Drover lacks are made when it is opened."""

_ELSEWHERE = "check that the folder is writable and has room, or name another one in DROVER_DATA"


def data_folder() -> Path:
    """The administrator's data folder: `DROVER_DATA`, else the XDG data folder."""
    if given := os.environ.get("DROVER_DATA"):
        return Path(given).absolute()
    share = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(share) / "drover"


_made: WeakKeyDictionary[sa.Engine, int] = WeakKeyDictionary()
"""How many tables each engine has been told of."""


class Database:
    """`drover.sqlite` in `folder`, or in the administrator's data folder. Raises DroverError if it cannot be used."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or data_folder()
        self._engine = _engine(self.folder / "drover.sqlite")
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise DroverError(
                f"cannot make Drover's data folder {self.folder}: {error.strerror}", remedy=_ELSEWHERE
            ) from error
        if _made.get(self._engine) != len(metadata.tables) or not (self.folder / "drover.sqlite").exists():
            with self.transaction() as db:
                if metadata.tables.keys() - set(sa.inspect(db).get_table_names()):
                    # Another Drover may be making them at this moment; a table comes with its triggers or not at all.
                    db.exec_driver_sql("BEGIN IMMEDIATE")
                    metadata.create_all(db)
            _made[self._engine] = len(metadata.tables)

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Durable when it ends without an error. What SQLite says becomes a DroverError.

        Raises sqlalchemy.exc.IntegrityError if there is a row already where one may be once.
        """
        try:
            with self._engine.begin() as db:
                yield db
        except sa.exc.IntegrityError:
            raise
        except sa.exc.DBAPIError as error:
            raise DroverError(
                f"Drover's database {self.folder / 'drover.sqlite'} cannot be used: {error.orig}", remedy=_ELSEWHERE
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
def _engine(path: Path) -> sa.Engine:
    # One for all stores of this process: a server opens them at every request.
    engine = sa.create_engine(f"sqlite:///{path}", hide_parameters=True)
    sa.event.listen(engine, "connect", _make_durable)
    return engine


def _make_durable(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout=10000")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()
