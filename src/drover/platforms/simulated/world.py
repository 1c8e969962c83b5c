"""What outlives every process of Drover in a simulation: where VMs run, what is captured, copied, fenced.

It is one SQLite file, which stands for the hypervisors and the disks of all simulated sites. A VM that nothing has
happened to has no row: it is as its site's seed made it. The ledger of what ran where is for whoever checks the
invariants; nothing that migrates reads it.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from drover.errors import DroverError, PlatformError
from drover.model.inventory import Power
from drover.platforms.simulated.uri import SimulatedSite
from drover.platforms.simulated.vm import BLOCKS, Profile, profile, uuid_of

FILE = "simulated.sqlite"
_TABLES = """
CREATE TABLE IF NOT EXISTS sites (name TEXT PRIMARY KEY, born REAL NOT NULL);
CREATE TABLE IF NOT EXISTS vms (site TEXT, uuid TEXT, origin TEXT, state TEXT, since REAL, written INTEGER,
  PRIMARY KEY (site, uuid));
CREATE TABLE IF NOT EXISTS captures (uuid TEXT PRIMARY KEY, since INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS replicas (uuid TEXT PRIMARY KEY, token INTEGER NOT NULL, blocks TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS ledger (number INTEGER PRIMARY KEY, at REAL, uuid TEXT, site TEXT, runs INTEGER,
  content TEXT);
CREATE INDEX IF NOT EXISTS ledger_by_vm ON ledger (uuid, number);
CREATE TABLE IF NOT EXISTS happened (number INTEGER PRIMARY KEY, site TEXT, uuid TEXT);
"""


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """A VM at a site: how many writes it has made when, and whether it makes more."""

    profile: Profile
    state: Power
    since: float
    """Unix seconds."""
    written: int
    """At that time."""

    def writes(self, now: float, speed: float) -> int:
        """How many it has made by now (Unix seconds)."""
        ran = max(0.0, now - self.since) * speed if self.state is Power.RUNNING else 0.0
        return self.written + int(ran * self.profile.rate)


class World:
    """Safe to use from several threads and processes. Raises PlatformError for what a hypervisor would refuse."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = folder / FILE
        self._clock = clock
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None, timeout=60)
            # It need not outlive the machine, only those that are killed.
            self._db.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; {_TABLES}")
        except sqlite3.Error as error:
            raise DroverError(
                f"the simulated world {self._path} cannot be used: {error}", remedy="check the folder, or remove it"
            ) from error

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def born(self, site: SimulatedSite) -> float:
        """When a site began, Unix seconds: when it was first asked for."""
        with self._lock:
            if row := self._db.execute("SELECT born FROM sites WHERE name = ?", (site.name,)).fetchone():
                return float(row[0])
        with self._change() as db:
            db.execute("INSERT OR IGNORE INTO sites VALUES (?, ?)", (site.name, self._clock()))
        return self.born(site)

    def vms(self, site: SimulatedSite) -> dict[str, Simulated]:
        """All that are defined at a site, by UUID."""
        born = self.born(site)
        found = {}
        for number in range(site.vms):
            one = profile(site.name, site.seed, number)
            found[one.uuid] = _newborn(one, born)
        with self._lock:
            rows = self._db.execute("SELECT uuid, origin, state, since, written FROM vms WHERE site = ?", (site.name,))
            found |= {row[0]: _simulated(*row[1:]) for row in rows}
        return found

    def vm(self, site: SimulatedSite, uuid: str) -> Simulated | None:
        """None if it is not defined there."""
        born = self.born(site)
        with self._lock:
            return _find(self._db, site, uuid, born)

    def find(self, site: SimulatedSite, word: str) -> Simulated | None:
        """The VM with this name or UUID; None if it is not defined there."""
        name, _, digits = word.rpartition("-")
        if name == f"sim-{site.name}" and digits.isdecimal() and int(digits) < site.vms:
            return self.vm(site, uuid_of(site.name, site.seed, int(digits)))
        # Those that came from elsewhere have names of there.
        return next((one for one in self.vms(site).values() if word in (one.profile.name, one.profile.uuid)), None)

    def written(self, site: SimulatedSite, uuid: str) -> int:
        """How many writes a VM has made. Raises PlatformError if it is not there."""
        return self._must(site, uuid).writes(self._clock(), site.speed)

    def power(self, site: SimulatedSite, uuid: str, *, on: bool) -> int:
        """Starts or stops a VM that is defined there, if that changes anything; the writes it has made then."""
        born = self.born(site)
        with self._change() as db:
            now = self._clock()
            if (one := _find(db, site, uuid, born)) is None:
                raise PlatformError(f"the simulated site {site.name} has no VM {uuid}")
            written = one.writes(now, site.speed)
            state = Power.RUNNING if on else Power.OFF
            if one.state is not state:
                _set(db, site, one.profile, _origin(site, uuid, db), state, now, written)
                _note(db, now, uuid, site, on, one.profile.content(written))
            return written

    def capture(self, site: SimulatedSite, uuid: str) -> int:
        """The write after which writes are recorded, in a bitmap of the hypervisor; begins one if there is none."""
        now = self.written(site, uuid)
        with self._change() as db:
            db.execute("INSERT OR IGNORE INTO captures VALUES (?, ?)", (uuid, now))
            return int(db.execute("SELECT since FROM captures WHERE uuid = ?", (uuid,)).fetchone()[0])

    def release(self, uuid: str, until: int) -> None:
        """An epoch is acknowledged: its bitmap goes, those that record later writes stay."""
        with self._change() as db:
            db.execute("UPDATE captures SET since = max(since, ?) WHERE uuid = ?", (until, uuid))

    def open_replica(self, uuid: str, token: int) -> dict[int, int]:
        """The copy at the destination: by block, the newest write that it holds. Older tokens write no more."""
        with self._change() as db:
            db.execute("INSERT OR IGNORE INTO replicas VALUES (?, 0, '{}')", (uuid,))
            _fence(db, uuid, token)
            db.execute("UPDATE replicas SET token = ? WHERE uuid = ?", (token, uuid))
            return _blocks(db, uuid)

    def store(self, uuid: str, token: int, blocks: Mapping[int, int]) -> None:
        """Writes blocks to the copy. Raises PlatformError for who was fenced."""
        with self._change() as db:
            _fence(db, uuid, token)
            kept = {**_blocks(db, uuid), **blocks}
            db.execute("UPDATE replicas SET blocks = ? WHERE uuid = ?", (json.dumps(kept), uuid))

    def arrive(self, source: SimulatedSite, site: SimulatedSite, uuid: str, token: int, *, starts: bool) -> None:
        """Defines the VM at the destination with the content of its copy, and starts it unless it was off.

        Raises PlatformError for who was fenced. Starting it twice is starting it once.
        """
        now = self._clock()
        one = self._must(source, uuid)
        with self._change() as db:
            _fence(db, uuid, token)
            if db.execute("SELECT 1 FROM vms WHERE site = ? AND uuid = ?", (site.name, uuid)).fetchone():
                return
            copied = _blocks(db, uuid)
            content = [copied.get(block, 0) for block in range(BLOCKS)]
            state = Power.RUNNING if starts else Power.OFF
            _set(db, site, one.profile, _origin(source, uuid, db), state, now, one.written)
            if starts:
                _note(db, now, uuid, site, True, content)

    def drop(self, uuid: str) -> None:
        """Deletes copy and capture."""
        with self._change() as db:
            db.execute("DELETE FROM replicas WHERE uuid = ?", (uuid,))
            db.execute("DELETE FROM captures WHERE uuid = ?", (uuid,))

    def newest(self) -> int:
        """The number of what happened last."""
        with self._lock:
            return int(self._db.execute("SELECT coalesce(max(number), 0) FROM happened").fetchone()[0])

    def happened(self, site: SimulatedSite, after: int) -> tuple[int, set[str]]:
        """The number of what happened last, and the VMs of this site that something happened to after that one."""
        with self._lock:
            rows = self._db.execute("SELECT number, site, uuid FROM happened WHERE number > ?", (after,)).fetchall()
        return max((row[0] for row in rows), default=after), {row[2] for row in rows if row[1] == site.name}

    def ledger(self, uuid: str) -> list[tuple[float, str, bool, list[int]]]:
        """(Unix seconds, site, whether it runs from then on, its content) of each start and stop, in their order."""
        query = "SELECT at, site, runs, content FROM ledger WHERE uuid = ? ORDER BY number"
        with self._lock:
            rows = self._db.execute(query, (uuid,)).fetchall()
        return [(at, site, bool(runs), json.loads(content)) for at, site, runs, content in rows]

    def _must(self, site: SimulatedSite, uuid: str) -> Simulated:
        if (one := self.vm(site, uuid)) is None:
            raise PlatformError(f"the simulated site {site.name} has no VM {uuid}")
        return one


def _newborn(one: Profile, born: float) -> Simulated:
    return Simulated(profile=one, state=Power.RUNNING if one.runs else Power.OFF, since=born, written=0)


def _simulated(origin: str, state: str, since: float, written: int) -> Simulated:
    site, seed, number = json.loads(origin)
    return Simulated(profile=profile(site, seed, number), state=Power(state), since=since, written=written)


def _find(db: sqlite3.Connection, site: SimulatedSite, uuid: str, born: float) -> Simulated | None:
    query = "SELECT origin, state, since, written FROM vms WHERE site = ? AND uuid = ?"
    if row := db.execute(query, (site.name, uuid)).fetchone():
        return _simulated(*row)
    number = int(uuid[-8:], 16)
    if number < site.vms and uuid == uuid_of(site.name, site.seed, number):
        return _newborn(profile(site.name, site.seed, number), born)
    return None


def _origin(site: SimulatedSite, uuid: str, db: sqlite3.Connection) -> str:
    row = db.execute("SELECT origin FROM vms WHERE site = ? AND uuid = ?", (site.name, uuid)).fetchone()
    return row[0] if row else json.dumps([site.name, site.seed, int(uuid[-8:], 16)])


def _set(
    db: sqlite3.Connection, site: SimulatedSite, one: Profile, origin: str, state: Power, now: float, written: int
) -> None:
    db.execute(
        "INSERT OR REPLACE INTO vms VALUES (?, ?, ?, ?, ?, ?)", (site.name, one.uuid, origin, state, now, written)
    )
    db.execute("INSERT INTO happened (site, uuid) VALUES (?, ?)", (site.name, one.uuid))


def _note(db: sqlite3.Connection, now: float, uuid: str, site: SimulatedSite, runs: bool, content: list[int]) -> None:
    db.execute(
        "INSERT INTO ledger (at, uuid, site, runs, content) VALUES (?, ?, ?, ?, ?)",
        (now, uuid, site.name, runs, json.dumps(content)),
    )


def _blocks(db: sqlite3.Connection, uuid: str) -> dict[int, int]:
    row = db.execute("SELECT blocks FROM replicas WHERE uuid = ?", (uuid,)).fetchone()
    return {} if row is None else {int(block): int(number) for block, number in json.loads(row[0]).items()}


def _fence(db: sqlite3.Connection, uuid: str, token: int) -> None:
    row = db.execute("SELECT token FROM replicas WHERE uuid = ?", (uuid,)).fetchone()
    if row is None or row[0] > token:
        raise PlatformError(f"the simulated copy of {uuid} takes no writes with the token {token}: a newer run has it")
