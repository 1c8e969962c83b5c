"""Who needs a transport device; giving up one that is lost: what is on it alone is copied over the network."""

from dataclasses import dataclass

from drover.devices.folder import open_host
from drover.engine.client import UNKNOWN_DEVICE, EngineClient
from drover.engine.launcher import EngineHome
from drover.errors import DroverError, EngineError
from drover.model.device import Device, Use
from drover.model.migration import Migration
from drover.store import DeviceStore, MigrationStore


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """What giving up a device means for one migration."""

    migration: str
    vm: str
    bytes: int | None
    """To be copied again; None if the source's engine does not run: the next `drover resume` sees to it."""


def forget(device: Device, *, migrations: MigrationStore, devices: DeviceStore) -> list[Forgotten]:
    """Marks the device as lost for each migration that still needs it, and tells the sources' engines."""
    found = needed_by(device, migrations)
    forgotten = []
    for migration in found:
        devices.use([device.id], migration.id, Use.LOST)
        forgotten.append(
            Forgotten(migration=migration.id, vm=migration.spec.vm, bytes=_tell_source(migration, device.id))
        )
    return forgotten


def needed_by(device: Device, migrations: MigrationStore) -> list[Migration]:
    """The migrations that have not ended and still expect something of the device."""
    return [
        migration
        for migration in migrations.all(include_ended=False)
        if device.id in migration.spec.devices and not device.uses.get(migration.id, Use.PLANNED).ended
    ]


def loading_too(device: Device, migrations: MigrationStore, *, but_for: str) -> list[Migration]:
    """Other migrations that still load the device: several may, each writes packs of its own."""
    return [
        migration
        for migration in needed_by(device, migrations)
        if migration.id != but_for and device.uses.get(migration.id, Use.PLANNED) in (Use.PLANNED, Use.LOADING)
    ]


def _tell_source(migration: Migration, device: str) -> int | None:
    """Whoever runs the migration does the same at its next look, so that nothing is lost if this fails."""
    host = open_host(migration.spec.source)
    try:
        engine = EngineHome(host, migration.id, "source").client()
        try:
            return _forget(engine, device)
        finally:
            engine.close()
    except DroverError:
        return None
    finally:
        host.close()


def _forget(engine: EngineClient, device: str) -> int:
    left = engine.status().on_device(device)
    try:
        engine.remove_device(device)
    except EngineError as error:
        if error.code != UNKNOWN_DEVICE:
            raise
    engine.forget_device(device)
    return left
