"""Log-ins that fail in a row, by name and by source address, counted in the database for all servers together."""

import hashlib

import sqlalchemy as sa

from drover.accounts.errors import LockedError
from drover.accounts.tables import attempts
from drover.store.database import exclusive

LOCKED_FOR = 15 * 60.0
"""Seconds; failures that are older are forgotten."""
FAILURES_OF_NAME = 5
FAILURES_OF_SOURCE = 20


def begin(db: sa.Connection, now: float, *, name: str, source: str | None = None) -> None:
    """Counts a log-in as failed until it `succeeded`: of many at once, none gets a guess more. Raises LockedError."""
    exclusive(db, attempts)
    db.execute(attempts.delete().where(attempts.c.at <= now - LOCKED_FOR))
    _count(db, now, _key("name", name), FAILURES_OF_NAME, "with this name")
    if source is not None:
        _count(db, now, _key("source", source), FAILURES_OF_SOURCE, "from this address")


def succeeded(db: sa.Connection, *, name: str, source: str | None = None) -> None:
    """Forgets the failures of the name. Those of the source stay: whoever guesses may have a password of their own."""
    forget(db, name)
    if source is not None:
        here = sa.and_(attempts.c.key == _key("source", source), attempts.c.failures > 0)
        db.execute(attempts.update().where(here).values(failures=attempts.c.failures - 1))


def forget(db: sa.Connection, name: str) -> None:
    """Unlocks the name."""
    db.execute(attempts.delete().where(attempts.c.key == _key("name", name)))


def _count(db: sa.Connection, now: float, key: str, most: int, what: str) -> None:
    row = db.execute(sa.select(attempts).where(attempts.c.key == key)).mappings().first()
    if row is None:
        db.execute(attempts.insert().values(key=key, failures=1, at=now))
    elif row["failures"] >= most:
        raise LockedError(what, seconds=row["at"] + LOCKED_FOR - now)
    else:
        db.execute(attempts.update().where(attempts.c.key == key).values(failures=row["failures"] + 1, at=now))


def _key(kind: str, text: str) -> str:
    # Hashed, because people type their password where their name belongs.
    return hashlib.sha256(f"{kind}:{text}".encode("utf-8", "surrogatepass")).hexdigest()
