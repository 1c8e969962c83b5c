"""Unloading a transport device: the destination's engine takes what it lacks, the rest goes over the network."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from drover.devices.folder import DeviceFolder, Label, open_host
from drover.devices.reading import Observer, Reader
from drover.engine.client import GONE, UNKNOWN_DEVICE, EngineClient
from drover.engine.launcher import EngineHome
from drover.engine.status import DeviceStatus, EngineStatus
from drover.errors import EngineError, HostError, InputError, MigrationError
from drover.model.device import Use
from drover.model.migration import Migration
from drover.platforms.libvirt.host import Host
from drover.store import DeviceStore, MigrationStore

_TICK = 0.5
_PATIENCE = 300.0
"""Seconds that an engine may be away: whoever runs the migration starts it again."""
_SETTLED = 5.0
"""Seconds in which nothing more was acknowledged: then what the source still counts was not on the device."""
_NOT_YET = {"no_role", "wrong_role", "unknown_vdisk"}
"""Codes of an engine that was only just started again."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Unloaded:
    """What came of one device for one migration."""

    migration: str
    vm: str
    status: DeviceStatus
    by_network: int
    """Bytes that should have been on the device and were not to be had from it."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A device at a destination, and the migrations that expect it there."""

    folder: DeviceFolder
    label: Label
    site: str
    migrations: list[Migration]


def find(path: str, migrations: MigrationStore, devices: DeviceStore) -> Found:
    """The device at `path` on the host of one of the destinations. Raises InputError if none expects it."""
    waiting = [migration for migration in migrations.all(include_ended=False) if migration.spec.devices]
    hosts: dict[str, Host] = {}
    if not waiting:
        raise InputError("no migration expects a transport device", remedy="`drover status` lists the migrations")
    strange: Label | None = None
    try:
        for site in dict.fromkeys(migration.spec.destination for migration in waiting):
            hosts[site] = open_host(site)
            folder = DeviceFolder(hosts[site], path)
            label = folder.read()
            if label is None:
                continue
            wanted = [m for m in waiting if m.spec.destination == site and label.id in m.spec.devices]
            if wanted:
                devices.saw(label.id, label.label, site=site, path=folder.path)
                del hosts[site]
                return Found(folder=folder, label=label, site=site, migrations=wanted)
            strange = label
    finally:
        for host in hosts.values():
            host.close()
    if strange is not None:
        raise InputError(
            f"no migration that goes to where {path} is expects the device {strange.label} ({strange.id})",
            remedy="`drover device list` says which migrations use it",
        )
    raise InputError(
        f"there is no transport device at {path} on the host of {' or '.join(hosts)}",
        remedy="plug it in there, mount it, and give the path as that host knows it",
    )


def unload(
    migration: Migration,
    folder: DeviceFolder,
    label: Label,
    key: bytes,
    *,
    devices: DeviceStore,
    observe: Observer,
) -> Unloaded:
    """Unloads a device for one migration that runs.

    What it did not bring is copied over the network. A device that cannot be read to its end keeps what it has: plugged
    in again it is unloaded from there. Raises DroverError.
    """
    destination = _Engine(folder.host, migration, "destination")
    source_host = open_host(migration.spec.source)
    source = _Engine(source_host, migration, "source")
    try:
        destination.require()
        source.require()
        status = _read(destination, migration, folder, label, key, observe)
        left = _what_is_left(source, label)
        if left:
            source.insist(lambda engine: engine.forget_device(label.id))
        devices.use([label.id], migration.id, Use.UNLOADED)
        destination.insist(lambda engine: _let_go(engine, label.id))
        return Unloaded(migration=migration.id, vm=migration.spec.vm, status=status, by_network=left)
    finally:
        destination.close()
        source.close()
        source_host.close()


class _Engine:
    """An engine that somebody else starts, and starts again if it dies."""

    def __init__(self, host: Host, migration: Migration, role: str) -> None:
        self._home = EngineHome(host, migration.id, role)
        self._migration = migration.id
        self._client: EngineClient | None = None

    def require(self) -> None:
        """Raises MigrationError if it does not run."""
        try:
            self._connected().info()
        except (EngineError, HostError) as error:
            raise MigrationError(
                f"the {self._home.role}'s engine of {self._migration} does not run: {error.message}",
                remedy=f"run `drover resume {self._migration}` first, and unload while it runs",
            ) from error

    def insist(self, ask: Callable[[EngineClient], T]) -> T:
        """The engine's answer; one that is away is waited for. Raises EngineError."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return ask(self._connected())
            except EngineError as error:
                if error.code != GONE and error.code not in _NOT_YET:
                    raise
                if time.monotonic() > deadline:
                    raise EngineError(
                        error.message,
                        code=error.code,
                        remedy=f"`drover resume {self._migration}` starts it, then unload again: it goes on from there",
                    ) from error
            self.close()
            time.sleep(_TICK)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _connected(self) -> EngineClient:
        if self._client is None:
            self._client = self._home.client()
        return self._client


def _read(
    destination: _Engine, migration: Migration, folder: DeviceFolder, label: Label, key: bytes, observe: Observer
) -> DeviceStatus:
    """Until the device was read to its end. An engine that was started again is told again."""
    reader = Reader(label.label, migration.id, observe)
    vdisks = {vdisk.name for vdisk in migration.facts.vdisks}
    begun = False
    deadline = time.monotonic() + _PATIENCE
    while True:
        engine = destination.insist(lambda client: client.status())
        if vdisks <= engine.vdisks.keys():
            deadline = time.monotonic() + _PATIENCE
        elif time.monotonic() > deadline:
            raise MigrationError(
                f"the destination's engine of {migration.id} does not know its VDISKs",
                remedy=f"run `drover resume {migration.id}`, and unload while it runs",
            )
        status = engine.devices.get(label.id)
        retry = status is not None and status.state == "failed" and not begun
        if vdisks <= engine.vdisks.keys() and (status is None or status.purpose != "unload" or retry):
            destination.insist(lambda e: e.put_device(label.id, path=folder.packs_path, key=key, purpose="unload"))
            begun = True
        elif status is not None and status.purpose == "unload":
            reader.look(status)
            if status.state == "done":
                return status
            if status.state == "failed":
                raise HostError(
                    f"the device {label.label} at {folder.path} on {folder.host.name} cannot be read to its end: "
                    f"{status.error or 'no reason given'}",
                    remedy="plug it in again and unload again: it goes on from there; "
                    f"`drover device forget {label.label}` gives it up",
                )
        time.sleep(_TICK)


def _let_go(engine: EngineClient, device: str) -> None:
    try:
        engine.remove_device(device)
    except EngineError as error:
        if error.code != UNKNOWN_DEVICE:
            raise


def _what_is_left(source: _Engine, label: Label) -> int:
    """Bytes that are on the device alone, as the source counts them when all that was unloaded is acknowledged."""
    deadline = time.monotonic() + _PATIENCE
    left, since = -1, time.monotonic()
    while True:
        status: EngineStatus = source.insist(lambda client: client.status())
        now = time.monotonic()
        if status.link.state != "up":
            if now > deadline:
                raise MigrationError(
                    f"the link between the sites is {status.link.state}, so that the source does not know yet what "
                    f"the device {label.label} brought",
                    remedy="repair the network, then unload again",
                )
            left, since = -1, now
        elif (count := status.on_device(label.id)) != left:
            left, since = count, now
        elif left == 0 or now - since >= _SETTLED:
            return left
        time.sleep(_TICK)
