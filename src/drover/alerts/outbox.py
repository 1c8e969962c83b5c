"""The conditions that hold and the messages that must arrive, in the database, where several servers may work on them.

A condition that begins is an *opening* with an id of its own, made by whoever sees it first. A unique column says which
message tells whom of which opening, so that of two servers that make the same one the second finds it there. Every
step is a conditional statement, and each transaction that writes begins with one: that orders them on SQLite and on
PostgreSQL alike.
"""

import json
import secrets
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from drover.alerts.conditions import Condition
from drover.alerts.config import Event
from drover.alerts.message import DeliveryError, Message, MessageKind, Receipt, new_id
from drover.store.database import Database, insert, metadata

GIVEN_UP = 86400.0
"""Seconds after which a message that could not be delivered is not tried again."""
LEASE = 180.0
"""Seconds that who claimed a message has for it; then another may try."""
_FIRST, _LONGEST = 30.0, 3600.0
_conditions = sa.Table(
    "alert_conditions",
    metadata,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("opening", sa.String, nullable=False),
    sa.Column("event", sa.String, nullable=False),
    sa.Column("subject", sa.String, nullable=False),
    sa.Column("severity", sa.String, nullable=False),
    sa.Column("title", sa.String, nullable=False),
    sa.Column("text", sa.String, nullable=False),
    sa.Column("remedy", sa.String),
    sa.Column("since", sa.Float, nullable=False),
    sa.Column("news", sa.Boolean, nullable=False),
    sa.Column("notified_at", sa.Float),
)
_outbox = sa.Table(
    "alert_outbox",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("once", sa.String, nullable=False, unique=True),
    sa.Column("opening", sa.String, index=True),
    sa.Column("receiver", sa.String, nullable=False),
    sa.Column("rule", sa.String, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("body", sa.JSON, nullable=False),
    sa.Column("after", sa.String),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_attempt_at", sa.Float, nullable=False, index=True),
    sa.Column("sent_at", sa.Float),
    sa.Column("given_up_at", sa.Float),
    sa.Column("last_error", sa.String),
)
_WAITING = sa.and_(_outbox.c.sent_at.is_(None), _outbox.c.given_up_at.is_(None))
_TOLD = ("title", "text", "remedy", "severity", "key", "since")


@dataclass(frozen=True, kw_only=True)
class Open(Condition):
    """A condition that holds, as the database knows it: `since` is never None."""

    since: float
    opening: str
    notified_at: float | None
    """When its latest message was put into the outbox, Unix seconds."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A message in the outbox. Times are Unix seconds."""

    message: Message
    attempts: int
    next_attempt_at: float
    sent_at: float | None
    given_up_at: float | None
    last_error: str | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Outbox:
    """Conditions and messages. Each change is durable when the call returns."""

    def __init__(self, folder: Path | None = None) -> None:
        self._database = Database(folder)

    def holding(self) -> list[Open]:
        """The conditions that were last seen to hold, the oldest first."""
        with self._database.transaction() as db:
            rows = db.execute(sa.select(_conditions).order_by(_conditions.c.since, _conditions.c.key)).mappings()
            return [Open(**{**row, "event": Event(row["event"])}) for row in rows]

    def open(self, condition: Condition, now: float) -> None:
        """Notes that a condition holds, or how it reads now."""
        values = {**asdict(condition), "since": now if condition.since is None else condition.since}
        with self._database.transaction() as db:
            fresh = {**values, "opening": secrets.token_hex(8), "notified_at": None}
            if _insert_absent(db, _conditions, fresh):
                return
            told = {name: values[name] for name in ("severity", "title", "text", "remedy", "news")}
            db.execute(_conditions.update().where(_conditions.c.key == condition.key).values(**told))

    def raise_(self, condition: Open, rule: str, receivers: Iterable[str], now: float) -> None:
        """Puts a message for each receiver into the outbox, unless it is there, or the condition is over."""
        body = {name: getattr(condition, name) for name in _TOLD}
        with self._database.transaction() as db:
            # Waits for whoever ends this opening, and makes that one wait: no message slips in behind the recovery.
            still = _is(condition)
            if not db.execute(_conditions.update().where(still).values(notified_at=now)).rowcount:
                return
            for receiver in receivers:
                row = _row(MessageKind.RAISED, (condition.opening, rule, receiver), receiver, rule, body, now)
                _insert_absent(db, _outbox, {**row, "opening": condition.opening})

    def end(self, condition: Open, now: float, *, told: str | None) -> None:
        """Notes that a condition is over; with `told`, whoever was told of it hears so in these words."""
        with self._database.transaction() as db:
            if not db.execute(_conditions.delete().where(_is(condition))).rowcount or told is None:
                return
            raised = sa.and_(_outbox.c.opening == condition.opening, _outbox.c.kind == MessageKind.RAISED)
            body = {name: getattr(condition, name) for name in _TOLD}
            body |= {"title": f"over: {condition.title}", "text": told, "remedy": None, "severity": "info"}
            for row in db.execute(sa.select(_outbox).where(raised)).mappings().all():
                names = (condition.opening, row["rule"], row["receiver"])
                ended = _row(MessageKind.RECOVERED, names, row["receiver"], row["rule"], body, now)
                _insert_absent(db, _outbox, {**ended, "opening": condition.opening, "after": row["id"]})

    def raised(self, openings: Collection[str]) -> set[tuple[str, str, str]]:
        """(opening, rule, receiver) of the messages that were made of these openings."""
        query = sa.select(_outbox.c.opening, _outbox.c.rule, _outbox.c.receiver).where(
            _outbox.c.opening.in_(openings), _outbox.c.kind == MessageKind.RAISED
        )
        with self._database.transaction() as db:
            return {(row.opening, row.rule, row.receiver) for row in db.execute(query)}

    def summarised(self, rule: str, day: str, receiver: str) -> bool:
        """Whether the summary of this day is in the outbox."""
        there = _outbox.c.once == _once(MessageKind.SUMMARY, (rule, day, receiver))
        with self._database.transaction() as db:
            return db.execute(sa.select(_outbox.c.id).where(there)).first() is not None

    def summarise(self, rule: str, day: str, receiver: str, words: tuple[str, str], now: float) -> None:
        """Puts the summary of this day, title and text, into the outbox unless it is there."""
        body = {"title": words[0], "text": words[1]}
        with self._database.transaction() as db:
            _insert_absent(db, _outbox, _row(MessageKind.SUMMARY, (rule, day, receiver), receiver, rule, body, now))

    def due(self, receiver: str, now: float) -> list[Entry]:
        """What may be sent to a receiver now, the oldest first; what ends a message comes when that has gone."""
        before = _outbox.alias()
        first = sa.exists().where(
            before.c.id == _outbox.c.after, before.c.sent_at.is_(None), before.c.given_up_at.is_(None)
        )
        query = sa.select(_outbox).where(
            _WAITING, _outbox.c.receiver == receiver, _outbox.c.next_attempt_at <= now, ~first
        )
        with self._database.transaction() as db:
            return [_entry(row) for row in db.execute(query.order_by(_outbox.c.created_at, _outbox.c.id)).mappings()]

    def claim(self, entry: Entry, now: float) -> Entry | None:
        """Takes a due message for one attempt, until the lease is over; None if another was faster."""
        mine = sa.and_(_outbox.c.attempts == entry.attempts, _outbox.c.next_attempt_at <= now)
        values = {"attempts": entry.attempts + 1, "next_attempt_at": now + LEASE}
        with self._database.transaction() as db:
            here = sa.and_(_outbox.c.id == entry.message.id, _WAITING, mine)
            if not db.execute(_outbox.update().where(here).values(**values)).rowcount:
                return None
            return _entry(db.execute(sa.select(_outbox).where(_outbox.c.id == entry.message.id)).mappings().one())

    def sent(self, entry: Entry, receipt: Receipt, now: float) -> None:
        """Notes that a message arrived."""
        self._note(entry, sent_at=now, last_error=receipt.refused)

    def failed(self, entry: Entry, error: DeliveryError, now: float) -> None:
        """Notes why a message did not arrive: it is tried again later, unless that is in vain or it is a day old."""
        wait = max(min(_FIRST * 2.0 ** min(entry.attempts - 1, 30), _LONGEST), min(error.retry_after or 0.0, GIVEN_UP))
        if error.final or now + wait > entry.message.created_at + GIVEN_UP:
            self._note(entry, given_up_at=now, last_error=str(error))
        else:
            self._note(entry, next_attempt_at=now + wait, last_error=str(error))

    def give_up(self, receivers: Collection[str], now: float) -> None:
        """Gives up what is a day old and for nobody in `receivers`, which are those there are."""
        nobody = sa.and_(_outbox.c.receiver.not_in(receivers), _outbox.c.created_at <= now - GIVEN_UP)
        values = {"given_up_at": now, "last_error": "the configuration has no such receiver any more"}
        with self._database.transaction() as db:
            db.execute(_outbox.update().where(_WAITING, nobody).values(**values))

    def undelivered(self) -> list[Entry]:
        """What has not arrived, or not at every recipient, the oldest first."""
        query = sa.select(_outbox).where(sa.or_(_outbox.c.sent_at.is_(None), _outbox.c.last_error.is_not(None)))
        with self._database.transaction() as db:
            return [_entry(row) for row in db.execute(query.order_by(_outbox.c.created_at, _outbox.c.id)).mappings()]

    def _note(self, entry: Entry, **values: Any) -> None:
        # Nothing if the lease was over and another tries.
        mine = sa.and_(_outbox.c.id == entry.message.id, _outbox.c.attempts == entry.attempts)
        with self._database.transaction() as db:
            db.execute(_outbox.update().where(mine).values(**values))


def _is(condition: Open) -> sa.ColumnElement[bool]:
    return sa.and_(_conditions.c.key == condition.key, _conditions.c.opening == condition.opening)


def _insert_absent(db: sa.Connection, table: sa.Table, values: dict[str, Any]) -> bool:
    """Whether the row was not there yet."""
    # Not by rowcount, which is not counted of an INSERT on every database.
    made = insert(db, table).values(**values).on_conflict_do_nothing().returning(*table.primary_key)
    return db.execute(made).first() is not None


def _once(kind: MessageKind, names: Sequence[str]) -> str:
    return json.dumps([kind, *names])


def _row(
    kind: MessageKind, names: Sequence[str], receiver: str, rule: str, body: dict[str, Any], now: float
) -> dict[str, Any]:
    return {
        "id": new_id(),
        "once": _once(kind, names),
        "receiver": receiver,
        "rule": rule,
        "kind": kind,
        "body": body,
        "created_at": now,
        "attempts": 0,
        "next_attempt_at": now,
    }


def _entry(row: sa.RowMapping) -> Entry:
    own = {field.name for field in fields(Message)} & row.keys()
    message = Message(**{**{name: row[name] for name in own}, "kind": MessageKind(row["kind"])}, **row["body"])
    rest = ("attempts", "next_attempt_at", "sent_at", "given_up_at", "last_error")
    return Entry(message=message, **{name: row[name] for name in rest})
