"""Devices and their uses are remembered."""

from pathlib import Path

import pytest

from drover.errors import InputError
from drover.model.device import Device, Use
from drover.store import DeviceStore

A, B = "a" * 32, "ab" + "b" * 30


def test_devices_and_uses_are_read_back_as_written(data: Path) -> None:
    store = DeviceStore(data)
    device = Device(id=A, label="blue", recipients=["age1x"], path="/mnt/blue")
    store.save(device)
    store.use([A], "m-1", Use.LOADING)
    store.use([A], "m-1", Use.LOADED)
    store.use([A], "m-2", Use.LOST)
    uses = {"m-1": Use.LOADED, "m-2": Use.LOST}
    assert DeviceStore(data).all() == [device.model_copy(update={"uses": uses})]
    assert store.uses("m-1") == {A: Use.LOADED}
    store.save(device)
    assert store.get(A).uses == uses


def test_seeing_a_device_keeps_what_is_known_of_it(data: Path) -> None:
    store = DeviceStore(data)
    store.save(Device(id=A, label="blue", recipients=["age1x"], created_at=7, wiped=True))
    store.saw(A, "blue", site="qemu:///system", path="/media/blue")
    store.saw(B, "red", site=None, path="/media/red")
    device = store.get("blue")
    assert (device.recipients, device.created_at, device.site, device.path) == (
        ["age1x"], 7, "qemu:///system", "/media/blue",
    )  # fmt: skip
    assert not device.wiped
    assert store.get("red").id == B


def test_a_name_must_be_one_device(data: Path) -> None:
    store = DeviceStore(data)
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
