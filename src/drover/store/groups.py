"""Migration groups in the database, where their members, each a process of its own, meet.

Every step of a group is one conditional statement, so that it is taken once whoever asks, and survives all of them.
"""

import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from drover.model.group import Group, Mark, Member, Phase
from drover.store.database import Database, lasting, metadata

_groups = sa.Table(
    "groups",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("name", sa.String, nullable=False, index=True),
    sa.Column("plan", sa.String, nullable=False),
    sa.Column("phase", sa.String, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("reason", sa.String),
    sa.Column("created_at", sa.Float, nullable=False),
)
_members = sa.Table(
    "members",
    metadata,
    sa.Column("migration", sa.String, sa.ForeignKey("migrations.id"), primary_key=True),
    sa.Column("group", sa.String, sa.ForeignKey("groups.id"), nullable=False, index=True),
    sa.Column("vm", sa.String, nullable=False),
    sa.Column("turn", sa.Integer, nullable=False),
    sa.Column("delay", sa.Float, nullable=False),
    sa.Column("mark", sa.Integer, nullable=False),
    sa.Column("marked_at", sa.Float, nullable=False),
)
_approvals = sa.Table(
    "approvals",
    metadata,
    sa.Column("group", sa.String, sa.ForeignKey("groups.id"), primary_key=True),
    sa.Column("wanted_at", sa.Float, nullable=False),
    sa.Column("by", sa.String),
    sa.Column("at", sa.Float),
)
"""Of groups that cut over only when somebody has said so; `by` and `at` are who and when."""
_ORDER = (_members.c.turn, _members.c.vm)
_NEXT = {
    Phase.GATHERING: (Phase.STOPPING, Mark.READY),
    Phase.STOPPING: (Phase.LEAVING, Mark.VERIFIED),
    Phase.LEAVING: (Phase.STARTING, Mark.ARRIVED),
}
_FRESH = 5.0
"""Seconds for which a member that said it is ready is believed: it says so at every look."""


class GroupStore:
    """The groups that this Drover knows. Each change is durable when the call returns."""

    def __init__(self, folder: Path | None = None) -> None:
        self._database = Database(folder)

    def add(self, plan: str, name: str, members: Sequence[Member], *, approval: bool = False) -> Group:
        """A group of migrations that are stored already and in no other group.

        With `approval` it cuts over only when somebody approves of it.
        """
        group = f"g-{secrets.token_hex(4)}"
        row = {"id": group, "name": name, "plan": plan, "phase": Phase.GATHERING, "attempt": 0}
        with self._database.transaction() as db:
            db.execute(_groups.insert().values(**row, created_at=time.time()))
            for member in members:
                db.execute(_members.insert().values(group=group, **vars(member)))
            if approval:
                db.execute(_approvals.insert().values(group=group, wanted_at=time.time()))
        return self.get(group)

    @lasting
    def get(self, group: str) -> Group:
        """The group with this id."""
        with self._database.transaction() as db:
            return _group(db, db.execute(sa.select(_groups).where(_groups.c.id == group)).mappings().one())

    def newest(self, plan: str, name: str) -> Group | None:
        """The newest group of a plan with this name."""
        named = sa.and_(_groups.c.plan == plan, _groups.c.name == name)
        with self._database.transaction() as db:
            row = db.execute(sa.select(_groups).where(named).order_by(_groups.c.created_at.desc())).mappings().first()
            return None if row is None else _group(db, row)

    def all(self) -> list[Group]:
        """Newest first."""
        with self._database.transaction() as db:
            return _with_members(db, sa.select(_groups).order_by(_groups.c.created_at.desc()))

    def of_all(self, migrations: Sequence[str]) -> dict[str, Group]:
        """The groups of these migrations, by migration; those that are in none are left out."""
        theirs = sa.select(_members.c.group).where(_members.c.migration.in_(migrations))
        with self._database.transaction() as db:
            found = _with_members(db, sa.select(_groups).where(_groups.c.id.in_(theirs)))
        return {member.migration: group for group in found for member in group.members}

    @lasting
    def of(self, migration: str) -> Group | None:
        """The group that a migration is in, as it stands now."""
        query = sa.select(_groups).join(_members).where(_members.c.migration == migration)
        with self._database.transaction() as db:
            row = db.execute(query).mappings().first()
            return None if row is None else _group(db, row)

    @lasting
    def waits_for_approval(self, group: str) -> bool:
        """Whether its cutover needs somebody's leave and has not got it."""
        waiting = sa.exists().where(_approvals.c.group == group, _approvals.c.at.is_(None))
        with self._database.transaction() as db:
            return bool(db.execute(sa.select(waiting)).scalar_one())

    def waiting_for_approval(self) -> list[tuple[Group, float]]:
        """Groups that have not got it while all that are left of them could go, and since when (Unix seconds)."""
        pending = _approvals.c.at.is_(None)
        of_group = _members.c.group == _groups.c.id
        stuck = sa.exists().where(of_group, _members.c.mark == Mark.REPLICATING)
        # Who waits for a window is told early: nobody wants to be asked when it opens at night.
        ready = sa.exists().where(of_group, _members.c.mark.in_([Mark.READY, Mark.WAITING]))
        query = sa.select(_groups, _approvals.c.wanted_at).join(_approvals).where(pending, ready, ~stuck)
        with self._database.transaction() as db:
            return [(_group(db, row._mapping), row._mapping["wanted_at"]) for row in db.execute(query)]

    @lasting
    def approve(self, group: str, by: str) -> bool:
        """Lets a group cut over; False if it waited for nobody's leave."""
        here = sa.and_(_approvals.c.group == group, _approvals.c.at.is_(None))
        with self._database.transaction() as db:
            return bool(db.execute(_approvals.update().where(here).values(by=by, at=time.time())).rowcount)

    @lasting
    def mark(self, group: str, migration: str, mark: Mark, *, attempt: int) -> None:
        """Notes how far a member is, now; nothing if that attempt has been taken back meanwhile."""
        valid = sa.exists().where(_groups.c.id == group, _groups.c.attempt == attempt)
        here = sa.and_(_members.c.group == group, _members.c.migration == migration)
        with self._database.transaction() as db:
            _take(db, group)
            db.execute(_members.update().where(here, valid).values(mark=mark, marked_at=time.time()))

    @lasting
    def advance(self, group: str, *, attempt: int, phase: Phase) -> None:
        """Takes the group from `phase` to the next if it is there in this attempt, and every member so far."""
        following, needed = _NEXT[phase]
        late = _members.c.mark < needed
        if phase is Phase.GATHERING:
            # A process that died a minute ago was ready, and is not.
            stale = sa.and_(_members.c.mark != Mark.OUT, _members.c.marked_at < time.time() - _FRESH)
            late = sa.or_(late, stale)
        missing: sa.ColumnElement[bool] = sa.exists().where(_members.c.group == group, late)
        if phase is Phase.GATHERING:
            missing = sa.or_(missing, sa.exists().where(_approvals.c.group == group, _approvals.c.at.is_(None)))
        here = sa.and_(_groups.c.id == group, _groups.c.phase == phase, _groups.c.attempt == attempt)
        with self._database.transaction() as db:
            _take(db, group)
            db.execute(_groups.update().where(here, ~missing).values(phase=following, reason=None))

    @lasting
    def take_back(self, group: str, *, attempt: int, reason: str) -> None:
        """Ends this attempt: whoever stopped runs on at the source. Nothing if it has been decided already."""
        under_way = _groups.c.phase.in_([Phase.STOPPING, Phase.LEAVING])
        here = sa.and_(_groups.c.id == group, under_way, _groups.c.attempt == attempt)
        values = {"phase": Phase.GATHERING, "attempt": attempt + 1, "reason": reason}
        with self._database.transaction() as db:
            if not db.execute(_groups.update().where(here).values(**values)).rowcount:
                return
            staying = sa.and_(_members.c.group == group, _members.c.mark != Mark.OUT)
            db.execute(_members.update().where(staying).values(mark=Mark.REPLICATING, marked_at=time.time()))


def members_of(plan: str | None, group: str | None) -> sa.Select[str]:
    """The migrations of the groups of a plan, or of the group with this id."""
    query = sa.select(_members.c.migration).join(_groups)
    if plan is not None:
        query = query.where(_groups.c.plan == plan)
    return query if group is None else query.where(_groups.c.id == group)


def _with_members(db: sa.Connection, query: "sa.Select[Any]") -> list[Group]:
    """Two queries, however many groups there are."""
    rows = db.execute(query).mappings().all()
    ids = query.with_only_columns(_groups.c.id).order_by(None)
    members: dict[str, list[sa.RowMapping]] = {}
    for member in db.execute(sa.select(_members).where(_members.c.group.in_(ids)).order_by(*_ORDER)).mappings():
        members.setdefault(member["group"], []).append(member)
    return [_made(row, members.get(row["id"], [])) for row in rows]


def _take(db: sa.Connection, group: str) -> None:
    """Has others who change this group wait: PostgreSQL judges by rows as they were before a change it waited for."""
    db.execute(_groups.update().where(_groups.c.id == group).values(id=_groups.c.id))


def _group(db: sa.Connection, row: sa.RowMapping) -> Group:
    query = sa.select(_members).where(_members.c.group == row["id"]).order_by(*_ORDER)
    return _made(row, db.execute(query).mappings().all())


def _made(row: sa.RowMapping, rows: Sequence[sa.RowMapping]) -> Group:
    members = [
        Member(**{key: value for key, value in member.items() if key != "group"} | {"mark": Mark(member["mark"])})
        for member in rows
    ]
    return Group(
        id=row["id"],
        name=row["name"],
        plan=row["plan"],
        phase=Phase(row["phase"]),
        attempt=row["attempt"],
        reason=row["reason"],
        members=tuple(members),
    )
