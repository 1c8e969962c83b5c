"""The VMs at the sites, as whoever watches a site last heard of them; and who watches it."""

import hashlib
import json
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from drover.model.inventory import ListedVdisk, ListedVm, Power
from drover.store.database import Database, metadata

_watched = sa.Table(
    "inventory_sites",
    metadata,
    sa.Column("site", sa.String, primary_key=True),
    sa.Column("uri", sa.String, nullable=False),
    sa.Column("holder", sa.String, nullable=False),
    sa.Column("expires_at", sa.Float, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("synced_at", sa.Float),
    sa.Column("gone_since", sa.Float),
    sa.Column("reason", sa.String),
)
_vms = sa.Table(
    "inventory_vms",
    metadata,
    sa.Column("site", sa.String, nullable=False),
    sa.Column("uuid", sa.String, nullable=False),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("host", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("folder", sa.String, nullable=False),
    sa.Column("body", sa.JSON, nullable=False),
    sa.Column("changed_at", sa.Float, nullable=False),
    sa.PrimaryKeyConstraint("site", "uuid"),
    # The order in which they are listed.
    sa.Index("inventory_vms_by_name", "name", "site", "uuid"),
    sa.Index("inventory_vms_by_state", "state", "name"),
)
_AT_ONCE = 500
"""Parameters of one statement: databases have a limit."""
_FLAT = ("uuid", "name", "host", "state", "folder")


@dataclass(frozen=True, kw_only=True)
class WatchedSite:
    """How fresh a site's inventory is. Times are Unix seconds."""

    site: str
    holder: str
    expires_at: float
    """The watcher's lease: who is past it watches no more."""
    revision: int
    """Grows with each change."""
    synced_at: float | None
    """When everything was listed last; only events changed it since."""
    gone_since: float | None
    """Since when the site does not answer: its VMs are those of that moment. None while it does."""
    reason: str | None

    def is_fresh(self, now: float) -> bool:
        """Whether at that time (Unix seconds) somebody watches it, and it answers."""
        return self.expires_at >= now and self.gone_since is None and self.synced_at is not None


@dataclass(frozen=True, kw_only=True)
class KeptVm:
    """A VM, where it is, and when it changed last (Unix seconds)."""

    site: str
    vm: ListedVm
    changed_at: float


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which VMs: every criterion that is given holds."""

    sites: Sequence[str] | None = None
    """None for all."""
    states: Sequence[Power] = ()
    name: str | None = None
    """`*` and `?` stand for anything and for one character; upper and lower case are the same."""
    folder: str | None = None
    """It, and what is within it."""


class InventoryStore:
    """What the watcher of a site writes counts only while it holds the site's lease; everybody reads."""

    def __init__(self, folder: Path | None = None) -> None:
        self._database = Database(folder)

    def take(self, site: str, uri: str, holder: str, seconds: float) -> bool:
        """Takes or keeps the lease of a site for so many seconds; False if another holds it."""
        now = time.time()
        lease = {"holder": holder, "expires_at": now + seconds, "uri": uri}
        free = sa.or_(_watched.c.holder == holder, _watched.c.expires_at < now)
        try:
            with self._database.transaction() as db:
                if db.execute(_watched.update().where(_watched.c.site == site, free).values(**lease)).rowcount:
                    return True
                if db.execute(sa.select(_watched.c.site).where(_watched.c.site == site)).first():
                    return False
                db.execute(_watched.insert().values(site=site, revision=0, **lease))
                return True
        except sa.exc.IntegrityError:
            # Another took it first at this moment.
            return False

    def let_go(self, site: str, holder: str) -> None:
        """Ends a lease: another may take it at once."""
        own = sa.and_(_watched.c.site == site, _watched.c.holder == holder)
        with self._database.transaction() as db:
            db.execute(_watched.update().where(own).values(expires_at=0.0))

    def replace(self, site: str, holder: str, vms: Iterable[ListedVm]) -> bool:
        """All VMs of a site: what is not among them is forgotten. False if the lease is lost."""
        now = time.time()
        new = {vm.uuid: _row(site, vm, now) for vm in vms}
        with self._database.transaction() as db:
            if not _write(db, site, holder, synced_at=now, gone_since=None, reason=None):
                return False
            rows = db.execute(sa.select(_vms).where(_vms.c.site == site)).mappings()
            old = {row["uuid"]: _same(new.get(row["uuid"]), row) for row in rows}
            # What did not change keeps the time of its last change.
            _delete(db, site, [uuid for uuid, same in old.items() if not same])
            if fresh := [row for uuid, row in new.items() if not old.get(uuid)]:
                db.execute(_vms.insert(), fresh)
        return True

    def put(self, site: str, holder: str, vms: Sequence[ListedVm], gone: Collection[str] = ()) -> bool:
        """VMs that are new or changed, and UUIDs of those that are no more. False if the lease is lost."""
        now = time.time()
        with self._database.transaction() as db:
            if not _write(db, site, holder):
                return False
            _delete(db, site, [*gone, *(vm.uuid for vm in vms)])
            if vms:
                db.execute(_vms.insert(), [_row(site, vm, now) for vm in vms])
        return True

    def lost(self, site: str, holder: str, since: float, reason: str) -> bool:
        """The site does not answer since then (Unix seconds); its VMs stay as they were. False if the lease is lost."""
        with self._database.transaction() as db:
            return _write(db, site, holder, gone_since=since, reason=reason)

    def forget(self, keep: Collection[str]) -> None:
        """Drops the inventory of all sites but these and those that somebody watches."""
        with self._database.transaction() as db:
            dropped = sa.and_(_watched.c.site.not_in(keep), _watched.c.expires_at < time.time())
            sites = list(db.execute(sa.select(_watched.c.site).where(dropped)).scalars())
            if sites:
                for table in (_vms, _watched):
                    db.execute(table.delete().where(table.c.site.in_(sites)))

    def sites(self) -> dict[str, WatchedSite]:
        """By name; a site that nobody has watched yet is not among them."""
        columns = [column for column in _watched.c if column.name != "uri"]
        with self._database.transaction() as db:
            return {row["site"]: WatchedSite(**row) for row in db.execute(sa.select(*columns)).mappings()}

    def page(self, wanted: Wanted, *, limit: int, after: tuple[str, str, str] | None = None) -> list[KeptVm]:
        """By name, site and UUID, those that come after these three."""
        order = (_vms.c.name, _vms.c.site, _vms.c.uuid)
        query = _where(sa.select(_vms), wanted).order_by(*order).limit(limit)
        if after is not None:
            query = query.where(sa.tuple_(*order) > sa.tuple_(*map(sa.literal, after)))
        with self._database.transaction() as db:
            return [_kept(row) for row in db.execute(query).mappings()]

    def count(self, wanted: Wanted) -> int:
        """How many there are."""
        with self._database.transaction() as db:
            return int(db.execute(_where(sa.select(sa.func.count()).select_from(_vms), wanted)).scalar_one())

    def revision(self) -> str:
        """A word that changes with anything that this store says of VMs, and of sites but for who watches them."""
        now = time.time()
        sites = sorted(self.sites().values(), key=lambda one: one.site)
        told = [(one.site, one.revision, one.is_fresh(now)) for one in sites]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def _write(db: sa.Connection, site: str, holder: str, **values: Any) -> bool:
    own = sa.and_(_watched.c.site == site, _watched.c.holder == holder, _watched.c.expires_at >= time.time())
    grown = {"revision": _watched.c.revision + 1, **values}
    return bool(db.execute(_watched.update().where(own).values(**grown)).rowcount)


def _delete(db: sa.Connection, site: str, uuids: Sequence[str]) -> None:
    for first in range(0, len(uuids), _AT_ONCE):
        some = uuids[first : first + _AT_ONCE]
        db.execute(_vms.delete().where(_vms.c.site == site, _vms.c.uuid.in_(some)))


def _where(query: "sa.Select[Any]", wanted: Wanted) -> "sa.Select[Any]":
    if wanted.sites is not None:
        query = query.where(_vms.c.site.in_(wanted.sites))
    if wanted.states:
        query = query.where(_vms.c.state.in_(wanted.states))
    if wanted.name is not None:
        query = query.where(_vms.c.name.ilike(_like(wanted.name), escape="\\"))
    if wanted.folder is not None:
        within = _vms.c.folder.startswith(wanted.folder + "/", autoescape=True)
        query = query.where(sa.or_(_vms.c.folder == wanted.folder, within))
    return query


def _like(pattern: str) -> str:
    plain = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return plain.replace("*", "%").replace("?", "_")


def _row(site: str, vm: ListedVm, now: float) -> dict[str, Any]:
    fields = asdict(vm)
    flat = {name: fields.pop(name) for name in _FLAT}
    # As it comes out of the database: without tuples.
    return {"site": site, **flat, "state": str(vm.state), "body": json.loads(json.dumps(fields)), "changed_at": now}


def _same(new: dict[str, Any] | None, old: sa.RowMapping) -> bool:
    return new is not None and all(new[name] == old[name] for name in (*_FLAT, "body"))


def _kept(row: sa.RowMapping) -> KeptVm:
    body = dict(row["body"])
    vm = ListedVm(
        uuid=row["uuid"],
        name=row["name"],
        host=row["host"],
        state=Power(row["state"]),
        folder=row["folder"],
        vdisks=tuple(ListedVdisk(**vdisk) for vdisk in body.pop("vdisks")),
        networks=tuple(body.pop("networks")),
        tags=tuple(body.pop("tags")),
        **body,
    )
    return KeptVm(site=row["site"], vm=vm, changed_at=row["changed_at"])
