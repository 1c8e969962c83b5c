"""Transport devices in the database, and what became of each in the migrations that it was given to."""

import time
from collections.abc import Iterable
from pathlib import Path

import sqlalchemy as sa

from drover.errors import InputError
from drover.model.device import Device, Use
from drover.store.database import Database, insert, lasting, metadata

_devices = sa.Table(
    "devices",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("label", sa.String, nullable=False),
    sa.Column("recipients", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("site", sa.String),
    sa.Column("path", sa.String),
    sa.Column("seen_at", sa.Float),
    sa.Column("wiped", sa.Boolean, nullable=False),
)
_uses = sa.Table(
    "device_uses",
    metadata,
    sa.Column("device", sa.String, primary_key=True),
    sa.Column("migration", sa.String, primary_key=True),
    sa.Column("use", sa.String, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)


class DeviceStore:
    """Every transport device that this Drover knows. Each write is durable when the call returns.

    Uses are in a table of their own, not in a migration's facts: `drover device unload` changes them while another
    process runs the migration.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._database = Database(folder)
        self.folder = self._database.folder

    @lasting
    def save(self, device: Device) -> None:
        """Stores the device as it is; its uses stay what they were."""
        row = device.model_dump(exclude={"uses"})
        with self._database.transaction() as db:
            db.execute(insert(db, _devices).values(**row).on_conflict_do_update(index_elements=["id"], set_=row))

    def saw(self, device_id: str, label: str, *, site: str | None, path: str) -> None:
        """Remembers where a device is now; makes it known if another Drover made it."""
        seen = {"label": label, "site": site, "path": path, "seen_at": time.time(), "wiped": False}
        row = {**Device(id=device_id, label=label).model_dump(exclude={"uses"}), **seen}
        with self._database.transaction() as db:
            db.execute(insert(db, _devices).values(**row).on_conflict_do_update(index_elements=["id"], set_=seen))

    def find(self, device_id: str) -> Device | None:
        """The device with exactly this id, if it is known."""
        return next((device for device in self.all() if device.id == device_id), None)

    def get(self, name: str) -> Device:
        """The device with this label or id, or the only one whose id begins so. Raises InputError.

        A wiped device makes way for another that was given its label.
        """
        devices = self.all()
        exact = [device for device in devices if name in (device.id, device.label)]
        kept = [device for device in exact if not device.wiped]
        found = kept or exact or [device for device in devices if name and device.id.startswith(name)]
        if len(found) != 1:
            raise InputError(
                f"{name!r} is more than one transport device" if found else f"there is no transport device {name!r}",
                remedy="`drover device list` lists them; give the id",
            )
        return found[0]

    @lasting
    def all(self) -> list[Device]:
        """Newest first."""
        with self._database.transaction() as db:
            rows = db.execute(sa.select(_devices).order_by(_devices.c.created_at.desc())).mappings().all()
            uses = db.execute(sa.select(_uses).order_by(_uses.c.at)).mappings().all()
        by_device: dict[str, dict[str, Use]] = {}
        for use in uses:
            by_device.setdefault(use["device"], {})[use["migration"]] = Use(use["use"])
        return [Device.model_validate({**row, "uses": by_device.get(row["id"], {})}) for row in rows]

    @lasting
    def uses(self, migration: str) -> dict[str, Use]:
        """What became of each device that was given to a migration, by device."""
        query = sa.select(_uses.c.device, _uses.c.use).where(_uses.c.migration == migration)
        with self._database.transaction() as db:
            return {row.device: Use(row.use) for row in db.execute(query)}

    @lasting
    def use(self, devices: Iterable[str], migration: str, use: Use) -> None:
        """Remembers what became of devices in a migration."""
        rows = [{"device": device, "migration": migration, "use": use, "at": time.time()} for device in devices]
        with self._database.transaction() as db:
            for row in rows:
                db.execute(
                    insert(db, _uses)
                    .values(**row)
                    .on_conflict_do_update(index_elements=["device", "migration"], set_=row)
                )
