"""What the estimator saw of VMs, as time series in the database; nothing is forgotten unless it is asked for."""

import fcntl
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from drover.errors import InputError
from drover.fence import under
from drover.model.observation import Chunk, Content, DirtySample, IoSample, VdiskSample, VmObservation
from drover.model.vm import Vm
from drover.store.claims import Claims, HeldError
from drover.store.database import WHOLE, Database, metadata

_observations = sa.Table(
    "observations",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("vm", sa.String, nullable=False),
    sa.Column("uuid", sa.String, nullable=False, index=True),
    sa.Column("site", sa.String, nullable=False),
    sa.Column("began_at", sa.Float, nullable=False),
    sa.Column("ended_at", sa.Float),
    sa.Column("ended_because", sa.String, nullable=False),
    sa.Column("memory", WHOLE, nullable=False),
    sa.Column("resident", WHOLE),
    sa.Column("sizes", sa.JSON, nullable=False),
)


def _series(name: str, *columns: sa.Column[Any]) -> sa.Table:
    """A table of samples, in the order in which they were added."""
    return sa.Table(
        name,
        metadata,
        sa.Column("number", WHOLE, primary_key=True),
        sa.Column("observation", sa.String, sa.ForeignKey("observations.id"), nullable=False, index=True),
        sa.Column("vdisk", sa.String, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        *columns,
    )


_io = _series(
    "io_samples",
    sa.Column("read_bytes", WHOLE, nullable=False),
    sa.Column("write_bytes", WHOLE, nullable=False),
    sa.Column("read_requests", WHOLE, nullable=False),
    sa.Column("write_requests", WHOLE, nullable=False),
    sa.Column("read_seconds", sa.Float, nullable=False),
    sa.Column("write_seconds", sa.Float, nullable=False),
)
_dirty = _series(
    "dirty_samples",
    sa.Column("window", sa.Float, nullable=False),
    sa.Column("bytes", WHOLE, nullable=False),
)
_contents = _series("contents", sa.Column("content", sa.JSON, nullable=False))
_vdisks = _series("vdisk_samples", sa.Column("sample", sa.JSON, nullable=False))
_chunks = _series(
    "chunk_samples",
    sa.Column("offset", WHOLE, nullable=False),
    sa.Column("length", WHOLE, nullable=False),
    sa.Column("zero_bytes", WHOLE, nullable=False),
    sa.Column("lz4_bytes", WHOLE, nullable=False),
    sa.Column("zstd_bytes", WHOLE, nullable=False),
    sa.Column("hash", sa.String, nullable=False),
)

TABLES = ("observations", "io_samples", "dirty_samples", "contents", "chunk_samples")
Sample = IoSample | DirtySample | Content | VdiskSample
_Seen = TypeVar("_Seen", IoSample, DirtySample)


@dataclass(frozen=True)
class Sampled:
    """An observation whose content was sampled, and the URI of the site where that was."""

    id: str
    site: str


class ObservationStore:
    """Every observation that this Drover made. Each write is durable when the call returns."""

    def __init__(self, folder: Path | None = None) -> None:
        self._database = Database(folder)
        self.folder = self._database.folder

    def begin(self, vm: Vm, site: str) -> str:
        """A new observation of a VM at the site with this URI; its id."""
        row = {
            "id": f"o-{secrets.token_hex(4)}", "vm": vm.name, "uuid": vm.uuid, "site": site, "began_at": time.time(),
            "ended_at": None, "ended_because": "", "memory": vm.memory, "resident": vm.resident,
            "sizes": {vdisk.name: vdisk.size for vdisk in vm.vdisks if vdisk.replicable},
        }  # fmt: skip
        with self._database.transaction() as db:
            db.execute(_observations.insert().values(**row))
        return str(row["id"])

    def add(self, samples: Iterable[tuple[str, Sample]]) -> None:
        """Samples with the ids of their observations, all or none of them; those of one VDISK in the order of time."""
        rows: dict[sa.Table, list[dict[str, Any]]] = {}
        for observation, sample in samples:
            for table, row in _rows(sample):
                rows.setdefault(table, []).append({"observation": observation, **row})
        with self._database.transaction() as db:
            for table, batch in rows.items():
                db.execute(table.insert(), batch)

    def end(self, observation: str, *, because: str = "") -> None:
        """It was looked at for the last time; `because` says why before its time, if so."""
        changed = {"ended_at": time.time(), "ended_because": because}
        with self._database.transaction() as db:
            db.execute(_observations.update().where(_observations.c.id == observation).values(**changed))

    def get(self, observation: str) -> VmObservation:
        """The one with this id, or the only one whose id begins so. Raises InputError."""
        query = sa.select(_observations).where(_observations.c.id.startswith(observation, autoescape=True))
        with self._database.transaction() as db:
            rows = db.execute(query).mappings().all()
            if len(rows) == 1 and observation:
                return _load(db, rows[0])
        raise InputError(
            f"{observation!r} is more than one observation" if rows else f"there is no observation {observation!r}",
            remedy="give the whole id, as `drover estimate --json` prints it",
        )

    def latest(self, uuid: str) -> VmObservation | None:
        """The newest of a VM, whatever it saw."""
        query = sa.select(_observations).where(_observations.c.uuid == uuid).order_by(_observations.c.began_at.desc())
        with self._database.transaction() as db:
            row = db.execute(query.limit(1)).mappings().first()
            return None if row is None else _load(db, row)

    def all(self, uuid: str | None = None, *, since: float = 0.0) -> list[VmObservation]:
        """Those of a VM, or of every VM, that began at `since` or later (Unix seconds), oldest first."""
        query = sa.select(_observations).where(_observations.c.began_at >= since).order_by(_observations.c.began_at)
        if uuid is not None:
            query = query.where(_observations.c.uuid == uuid)
        with self._database.transaction() as db:
            return [_load(db, row) for row in db.execute(query).mappings().all()]

    def sampled(self, *, since: float = 0.0) -> dict[str, Sampled]:
        """By VM (UUID): its newest observation with a sample of content, of those begun since; newest first."""
        with_sample = sa.exists().where(_vdisks.c.observation == _observations.c.id)
        columns = (_observations.c.uuid, _observations.c.id, _observations.c.site)
        query = sa.select(*columns).where(_observations.c.began_at >= since, with_sample)
        found: dict[str, Sampled] = {}
        with self._database.transaction() as db:
            for row in db.execute(query.order_by(_observations.c.began_at.desc())):
                found.setdefault(row.uuid, Sampled(row.id, row.site))
        return found

    def samples(self, observation: str) -> list[VdiskSample]:
        """What was read of the VM's VDISKs, chunk by chunk, the latest of each VDISK: to compare VMs by it."""
        with self._database.transaction() as db:
            latest = {row["vdisk"]: row for row in _select(db, _vdisks, observation)}
            chunks: dict[tuple[str, float], list[Chunk]] = {}
            for row in _select(db, _chunks, observation):
                fields = {name: row[name] for name in Chunk.model_fields}
                chunks.setdefault((row["vdisk"], row["at"]), []).append(Chunk(**fields))
        return [
            VdiskSample.model_validate({**row["sample"], "chunks": chunks.get((vdisk, row["at"]), [])})
            for vdisk, row in latest.items()
        ]

    def rows(self, table: str) -> Iterator[dict[str, Any]]:
        """Every row of a series (`TABLES`), in the order in which they were added."""
        found = metadata.tables[table]
        query = sa.select(found).order_by(found.c.began_at if found is _observations else found.c.number)
        with self._database.transaction() as db:
            for row in db.execute(query).mappings():
                yield dict(row)

    def prune(self, before: float) -> int:
        """Forgets the observations that ended before that time (Unix seconds), samples included; how many."""
        old = sa.select(_observations.c.id).where(_observations.c.ended_at < before)
        with self._database.transaction() as db:
            for table in (_io, _dirty, _contents, _vdisks, _chunks):
                db.execute(table.delete().where(table.c.observation.in_(old)))
            return db.execute(_observations.delete().where(_observations.c.ended_at < before)).rowcount

    @contextmanager
    def observing(self, uuid: str) -> Iterator[list[str]]:
        """Holds a VM for this process; others get it once the process is dead. Raises InputError.

        Yields the ids of those whose process died; they are ended at their last samples.
        """
        busy = InputError(
            f"another drover process is observing the VM {uuid}", remedy="let it finish, or stop it first"
        )
        path = self.folder / f"observe-{uuid}.lock"
        with path.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise busy from None
            try:
                claim = Claims(self._database).take(f"observation of {uuid}", alone_here=True)
            except HeldError:
                raise busy from None
            try:
                with under(claim):
                    yield self._end_orphans(uuid)
            finally:
                claim.release()

    def _end_orphans(self, uuid: str) -> list[str]:
        last = sa.select(sa.func.max(_io.c.at)).where(_io.c.observation == _observations.c.id).scalar_subquery()
        mine = (_observations.c.uuid == uuid) & _observations.c.ended_at.is_(None)
        ended = {
            "ended_at": sa.func.coalesce(last, _observations.c.began_at),
            "ended_because": "the process that observed it was killed",
        }
        with self._database.transaction() as db:
            found = [str(name) for name in db.execute(sa.select(_observations.c.id).where(mine)).scalars()]
            db.execute(_observations.update().where(mine).values(**ended))
        return found


def _rows(sample: Sample) -> Iterator[tuple[sa.Table, dict[str, Any]]]:
    where = {"vdisk": sample.vdisk, "at": sample.at}
    if isinstance(sample, IoSample):
        yield _io, sample.model_dump()
    elif isinstance(sample, DirtySample):
        yield _dirty, sample.model_dump()
    elif isinstance(sample, Content):
        yield _contents, {**where, "content": sample.model_dump(mode="json")}
    else:
        yield _vdisks, {**where, "sample": sample.model_dump(mode="json", exclude={"chunks"})}
        for chunk in sample.chunks:
            yield _chunks, {**where, **chunk.model_dump()}


def _load(db: sa.Connection, row: sa.RowMapping) -> VmObservation:
    return VmObservation.model_validate({
        **row,
        "io": _samples(db, _io, row["id"], IoSample),
        "dirty": _samples(db, _dirty, row["id"], DirtySample),
        "content": [one["content"] for one in _select(db, _contents, row["id"])],
    })  # fmt: skip


def _samples(db: sa.Connection, table: sa.Table, observation: str, kind: type[_Seen]) -> list[_Seen]:
    # Rows of our own tables: to validate a day of them again would take seconds.
    names = list(kind.model_fields)
    rows = db.execute(
        sa.select(*(table.c[name] for name in names)).where(table.c.observation == observation).order_by(table.c.number)
    )
    return [kind.model_construct(**dict(zip(names, row, strict=True))) for row in rows]


def _select(db: sa.Connection, table: sa.Table, observation: str) -> list[sa.RowMapping]:
    query = sa.select(table).where(table.c.observation == observation).order_by(table.c.number)
    return list(db.execute(query).mappings().all())
