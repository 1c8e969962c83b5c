"""Devices and their uses are remembered, also in a database that was made before there were any."""

import sqlite3
from pathlib import Path

import pytest

from drover.errors import InputError
from drover.model.device import Device, Use
from drover.model.migration import Facts, Spec
from drover.store import DeviceStore, MigrationStore
from drover.store.database import _made as tables_made

A, B = "a" * 32, "ab" + "b" * 30


def test_devices_and_uses_are_read_back_as_written(tmp_path: Path) -> None:
    store = DeviceStore(tmp_path)
    device = Device(id=A, label="blue", recipients=["age1x"], path="/mnt/blue")
    store.save(device)
    store.use([A], "m-1", Use.LOADING)
    store.use([A], "m-1", Use.LOADED)
    store.use([A], "m-2", Use.LOST)
    uses = {"m-1": Use.LOADED, "m-2": Use.LOST}
    assert DeviceStore(tmp_path).all() == [device.model_copy(update={"uses": uses})]
    assert store.uses("m-1") == {A: Use.LOADED}
    store.save(device)
    assert store.get(A).uses == uses


def test_seeing_a_device_keeps_what_is_known_of_it(tmp_path: Path) -> None:
    store = DeviceStore(tmp_path)
    store.save(Device(id=A, label="blue", recipients=["age1x"], created_at=7, wiped=True))
    store.saw(A, "blue", site="qemu:///system", path="/media/blue")
    store.saw(B, "red", site=None, path="/media/red")
    device = store.get("blue")
    assert (device.recipients, device.created_at, device.site, device.path) == (
        ["age1x"], 7, "qemu:///system", "/media/blue",
    )  # fmt: skip
    assert not device.wiped
    assert store.get("red").id == B


def test_a_name_must_be_one_device(tmp_path: Path) -> None:
    store = DeviceStore(tmp_path)
    store.save(Device(id=A, label="blue"))
    store.save(Device(id=B, label="blue"))
    assert store.get("aa").id == A
    assert store.get(B).id == B
    for unclear in ("blue", "a", "", "green", "%"):
        with pytest.raises(InputError, match="transport device"):
            store.get(unclear)
    assert store.find("aa") is None
    store.save(Device(id=B, label="blue", wiped=True))
    assert store.get("blue").id == A


def test_a_database_without_devices_gets_them(tmp_path: Path) -> None:
    migrations = MigrationStore(tmp_path)
    migration = migrations.add(Spec(vm="web", source="a:///", destination="b:///"), Facts())
    with sqlite3.connect(tmp_path / "drover.sqlite") as database:
        database.execute("DROP TABLE devices")
        database.execute("DROP TABLE device_uses")
    # As another process finds it.
    tables_made.clear()
    DeviceStore(tmp_path).save(Device(id=A, label="blue"))
    assert MigrationStore(tmp_path).get(migration.id) == migration
