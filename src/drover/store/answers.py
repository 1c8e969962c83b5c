"""What was answered to requests that carry an idempotency key, so that one that is sent again changes nothing again."""

import hashlib
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from drover.store.database import Database, metadata

_KEPT = 86400.0
_SLOW = 120.0
"""Seconds: for how long an answer is kept, and after which one that was begun is taken for given up by a death."""
_answers = sa.Table(
    "answers",
    metadata,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("asked", sa.String, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("done", sa.Boolean, nullable=False),
    sa.Column("answer", sa.JSON),
)


class AnswerStore:
    """Keys are somebody's own: the same key of two users is two keys. Only digests of keys and requests are kept."""

    def __init__(self, folder: Path | None = None) -> None:
        self._database = Database(folder)

    def begin(self, who: str, key: str, asked: str) -> tuple[bool, bool, Any] | None:
        """None if this is the first time. Else: whether the request is the same, whether it is done, its answer."""
        now, row = time.time(), {"key": _digest(who, key), "asked": _digest(asked)}
        here = _answers.c.key == row["key"]
        stale = sa.or_(_answers.c.at < now - _KEPT, sa.and_(~_answers.c.done, _answers.c.at < now - _SLOW))
        with self._database.transaction() as db:
            db.execute(_answers.delete().where(stale))
        try:
            with self._database.transaction() as db:
                db.execute(_answers.insert().values(**row, at=now, done=False, answer=sa.null()))
        except sa.exc.IntegrityError:
            with self._database.transaction() as db:
                found = db.execute(sa.select(_answers).where(here)).mappings().first()
            if found is None:
                # It was given up meanwhile.
                return self.begin(who, key, asked)
            return found["asked"] == row["asked"], found["done"], found["answer"]
        return None

    def finish(self, who: str, key: str, answer: Any) -> None:
        """Keeps the answer, JSON; None for one that is shown once."""
        here = _answers.c.key == _digest(who, key)
        value = sa.null() if answer is None else answer
        with self._database.transaction() as db:
            db.execute(_answers.update().where(here).values(done=True, answer=value))

    def give_up(self, who: str, key: str) -> None:
        """It was refused, and may be sent again with the same key."""
        with self._database.transaction() as db:
            db.execute(_answers.delete().where(_answers.c.key == _digest(who, key)))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
