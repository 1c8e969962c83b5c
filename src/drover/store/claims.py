"""Claims: what one process at a time may do, of all that share a database, with fencing tokens that only grow.

On PostgreSQL who holds a claim renews it each second. Who has not for some seconds is taken for dead: another takes
the claim, with a higher token, whether the first is dead, stopped, or cut off. That one trusts a renewal for a shorter
time than others wait, and then asks before it acts; and each of its transactions asks for its token in the database
itself. No session lock: a stopped process would keep it, and all would lose theirs when the database restarts.

On SQLite all processes are on one host, and a lock of the kernel says who lives: claims count tokens only.
"""

import os
import socket
import sys
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from drover import fence
from drover.errors import InputError
from drover.fence import FencedError
from drover.store.database import WHOLE, Database, DatabaseGoneError, insert, lasting, metadata, patient

_EVERY = 1.0
"""Seconds between renewals."""
_TRUSTED = 3.0
"""Seconds for which a renewal is believed without asking."""
_SILENT = 6.0
"""Seconds without a renewal after which another may take the claim."""
_STUCK = 3000
"""Milliseconds after which PostgreSQL ends a transaction that its process left standing: it keeps others waiting."""
_claims = sa.Table(
    "claims",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("token", WHOLE, nullable=False),
    sa.Column("holder", sa.String),
    sa.Column("place", sa.String),
    # Seconds of the database's own clock.
    sa.Column("beat", sa.Float, nullable=False),
)


class HeldError(InputError):
    """Another process has the claim, and lives."""


class Claim:
    """A claim that this process took. It renews itself until it is released or lost."""

    def __init__(self, database: Database, name: str, token: int, taken: float, on_lost: Callable[[], None]) -> None:
        self.database, self.name, self.token = database, name, token
        self._renewed = taken
        self._on_lost = on_lost
        self._lost = False
        self._ended = threading.Event()
        if database.shared:
            threading.Thread(target=self._keep, name=f"claim {name}", daemon=True).start()

    def require(self) -> None:
        """Raises FencedError if another has it; waits while the database cannot say."""
        if self.database.shared and (self._lost or _now() - self._renewed > _TRUSTED):
            with patient():
                lasting(self._renew)()
        if self._lost:
            raise self._fenced()

    def require_in(self, db: sa.Connection) -> None:
        """The same for a transaction on its database; nobody else takes the claim before that has ended."""
        if not self.database.shared or db.engine is not self.database.engine:
            return
        held = sa.func.pg_advisory_xact_lock_shared(_key(self.name))
        db.execute(sa.select(sa.func.set_config("idle_in_transaction_session_timeout", str(_STUCK), True), held))
        # After the lock, or it would be the token of before.
        if db.execute(sa.select(_claims.c.token).where(_claims.c.name == self.name)).scalar() != self.token:
            self._lose()
            raise self._fenced()

    def release(self) -> None:
        """Lets others have it at once."""
        self._ended.set()
        free = {"holder": None, "place": None, "beat": 0.0}
        try:
            with self.database.transaction(fenced=False) as db:
                db.execute(_claims.update().where(self._mine()).values(**free))
        except DatabaseGoneError:
            # They wait until it is silent.
            return

    def _keep(self) -> None:
        while not self._ended.wait(_EVERY):
            try:
                self._renew()
            except DatabaseGoneError:
                continue
            if self._lost:
                return

    def _renew(self) -> None:
        began = _now()
        with self.database.told(), self.database.engine.begin() as db:
            renewed = db.execute(_claims.update().where(self._mine()).values(beat=_clock(db))).rowcount
        if renewed:
            self._renewed = max(self._renewed, began)
        elif not self._ended.is_set():
            self._lose()

    def _lose(self) -> None:
        self._lost = True
        self._on_lost()

    def _mine(self) -> sa.ColumnElement[bool]:
        return sa.and_(_claims.c.name == self.name, _claims.c.token == self.token)

    def _fenced(self) -> FencedError:
        return FencedError(
            f"another process took over {self.name} from this one, which did not answer for {_SILENT:.0f} s or more",
            remedy="nothing: the other goes on with it",
        )


class Claims:
    """The claims of a database, asked for by the processes of one data folder."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._place = f"{socket.gethostname()} {_boot()} {database.folder.resolve()}"

    def take(self, name: str, *, alone_here: bool, on_lost: Callable[[], None] = lambda: None) -> Claim:
        """Takes a claim, with a token above all before. Raises HeldError if another process has it, and lives.

        `alone_here`: this process holds what says that no other one of this data folder has it, living or dead.
        `on_lost` is called, in any thread, once another has it.
        """
        database, began = self._database, _now()
        with database.transaction(fenced=False) as db:
            if database.shared:
                # Waits for the transactions of who had it; those that stand still are ended by PostgreSQL.
                db.execute(sa.select(sa.func.pg_advisory_xact_lock(_key(name))))
            db.execute(insert(db, _claims).values(name=name, token=0, beat=0.0).on_conflict_do_nothing())
            row = db.execute(sa.select(_claims, _silence(db).label("silence")).where(_claims.c.name == name)).one()
            gone = not database.shared or row.silence > _SILENT or (alone_here and row.place == self._place)
            if row.holder is not None and not gone:
                raise HeldError(f"{name} is held by {row.holder}", remedy="let it finish, or stop it first")
            values = {"token": row.token + 1, "holder": _holder(), "place": self._place, "beat": _clock(db)}
            db.execute(_claims.update().where(_claims.c.name == name).values(**values))
        return Claim(database, name, row.token + 1, began, on_lost)

    def holder(self, name: str, *, elsewhere: bool = False) -> str | None:
        """Who holds a claim and has renewed it lately; `elsewhere`: only if that is not of this data folder."""
        with self._database.transaction() as db:
            row = db.execute(sa.select(_claims, _silence(db).label("silence")).where(_claims.c.name == name)).first()
        if row is None or row.holder is None or row.silence > _SILENT or (elsewhere and row.place == self._place):
            return None
        return str(row.holder)

    def token(self, name: str) -> int:
        """The newest that was given out; 0 if none was."""
        with self._database.transaction(fenced=False) as db:
            return db.execute(sa.select(_claims.c.token).where(_claims.c.name == name)).scalar() or 0

    def living(self, prefix: str) -> list[str]:
        """Names that begin so of claims that are held, and were renewed lately."""
        with self._database.transaction(fenced=False) as db:
            here = sa.and_(_claims.c.name.startswith(prefix, autoescape=True), _claims.c.holder.is_not(None))
            query = sa.select(_claims.c.name).where(here, _silence(db) <= _SILENT)
            return list(db.execute(query).scalars())

    def forget(self, claim: Claim) -> None:
        """Removes a claim whose name never comes again."""
        claim.release()
        with self._database.transaction(fenced=False) as db:
            db.execute(_claims.delete().where(_claims.c.name == claim.name, _claims.c.token == claim.token))


def reset_claims(db: sa.Connection, leap: int) -> None:
    """Nobody holds any, and the next tokens are that much above the last."""
    db.execute(_claims.update().values(token=_claims.c.token + leap, holder=None, place=None, beat=0.0))


def held() -> list[tuple[str, str, int]]:
    """Data folder, name and token of each claim that this process has on a database that others share."""
    mine = [permit for permit in fence.held() if isinstance(permit, Claim) and permit.database.shared]
    return [(str(claim.database.folder), claim.name, claim.token) for claim in mine]


def stands(folder: Path, name: str, token: int) -> bool:
    """Whether nobody took a claim since; waits for a database that is away."""
    with patient():
        return lasting(Claims(Database(folder)).token)(name) == token


def end_process() -> None:
    """For a server that lost its claim: whatever it was about to do, the one that took over does."""
    sys.stderr.write("drover: another server took over from this one, which did not answer for some seconds; it ends\n")
    sys.stderr.flush()
    os._exit(1)


def _clock(db: sa.Connection) -> Any:
    if db.dialect.name == "postgresql":
        return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Float)
    return sa.literal(time.time(), sa.Float)


def _silence(db: sa.Connection) -> sa.ColumnElement[float]:
    beat: Any = _claims.c.beat
    if db.dialect.name == "postgresql":
        # While the database was away nobody could renew.
        began = sa.cast(sa.extract("epoch", sa.func.pg_postmaster_start_time()), sa.Float)
        beat = sa.case((beat > 0, sa.func.greatest(beat, began)), else_=beat)
    silence: sa.ColumnElement[float] = _clock(db) - beat
    return silence


def _key(name: str) -> int:
    # Two names with one key wait for each other a little more often.
    return 0x636C61696D << 24 | zlib.crc32(name.encode()) >> 8


def _now() -> float:
    """Seconds that go on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _holder() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
