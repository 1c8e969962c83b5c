"""A device's folder is made once, read by anybody, and wiped of nothing but what is its own."""

import json
from pathlib import Path

import pytest

from drover.devices.folder import MANIFEST_LIMIT, DeviceFolder
from drover.errors import HostError, InputError
from drover.platforms.libvirt.host import LocalHost

HOST = LocalHost("here", None)


def folder(path: Path) -> DeviceFolder:
    return DeviceFolder(HOST, str(path))


def test_a_device_reads_back_as_it_was_made(tmp_path: Path) -> None:
    device = folder(tmp_path)
    assert device.read() is None
    made = device.initialise("blue stick", b"sealed")
    assert device.read() == device.require() == made
    assert device.sealed_key() == b"sealed"
    assert sorted(path.name for path in (tmp_path / "drover").iterdir()) == ["device.json", "key.age", "packs"]
    written = json.loads((tmp_path / "drover/device.json").read_text())
    assert {key: written[key] for key in ("format", "id", "label")} == {
        "format": 1,
        "id": made.id,
        "label": "blue stick",
    }
    room = device.room()
    assert 0 < room.free <= room.total
    device.sync()


def test_a_device_is_not_made_twice(tmp_path: Path) -> None:
    made = folder(tmp_path).initialise("blue", b"sealed")
    with pytest.raises(InputError, match=made.id) as refused:
        folder(tmp_path).initialise("red", b"other")
    assert "wipe" in str(refused.value)
    assert folder(tmp_path).read() == made


def test_what_can_be_no_device_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/drover").write_text("mine")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/drover").symlink_to(tmp_path)
    for name, why in {
        "file": "not a folder",
        "gone": "not a folder",
        "taken": "no folder",
        "linked": "no folder",
    }.items():
        with pytest.raises(InputError, match=why):
            folder(tmp_path / name).initialise("x", b"k")
    for path in ("relative", "", "/", "//"):
        with pytest.raises(InputError):
            DeviceFolder(HOST, path)
    assert (tmp_path / "taken/drover").read_text() == "mine"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "damaged"),
        (b"\xff\x00", "damaged"),
        (b"[]", "damaged"),
        (b'{"format": 1, "id": "../../etc", "label": "x", "created": ""}', "damaged: id"),
        (b'{"format": 2, "id": "%s", "label": "x", "created": ""}' % (b"a" * 32), "format 2"),
    ],
)
def test_a_label_that_is_none_is_named(tmp_path: Path, content: bytes, why: str) -> None:
    folder(tmp_path).initialise("blue", b"sealed")
    (tmp_path / "drover/device.json").write_bytes(content)
    with pytest.raises(InputError, match=why):
        folder(tmp_path).read()


def test_what_cannot_be_read_is_not_taken_for_missing(tmp_path: Path) -> None:
    (tmp_path / "drover/device.json").mkdir(parents=True)
    with pytest.raises(HostError, match=r"device\.json"):
        folder(tmp_path).read()
    with pytest.raises(InputError, match="no transport device"):
        folder(tmp_path / "elsewhere").require()


@pytest.mark.parametrize("overwrite", [False, True])
def test_wiping_takes_what_the_format_names_and_leaves_the_rest(tmp_path: Path, overwrite: bool) -> None:
    device = folder(tmp_path)
    device.initialise("blue", b"sealed")
    packs = tmp_path / "drover/packs"
    (packs / "00000000.pack").write_bytes(b"x" * 1000)
    (packs / "00000001.pack").write_bytes(b"y" * 24)
    (packs / "0000000a.pack").write_text("not a pack")
    (packs / "00000002.pack").symlink_to(tmp_path / "photo")
    (tmp_path / "photo").write_text("mine")
    assert (device.packs().number, device.packs().bytes) == (2, 1024)
    assert sum(device.wipe(overwrite=overwrite)) == 1024
    assert device.read() is None
    assert sorted(path.name for path in packs.iterdir()) == ["00000002.pack", "0000000a.pack"]
    assert (tmp_path / "photo").read_text() == "mine"


def test_manifests_are_replaced_read_and_wiped(tmp_path: Path) -> None:
    device = folder(tmp_path)
    device.initialise("blue", b"sealed")
    assert device.manifests() == {}
    device.write_manifest("m-1", b"old")
    device.write_manifest("m-1", b"new")
    device.write_manifest("m-2", b"x" * (MANIFEST_LIMIT + 7))
    manifests = tmp_path / "drover/manifests"
    (manifests / "m-3.age.part").write_bytes(b"half")
    (manifests / "m-4.age").symlink_to(tmp_path / "photo")
    (tmp_path / "photo").write_text("mine")
    assert device.manifests() == {"m-1": b"new", "m-2": b"x" * (MANIFEST_LIMIT + 1)}
    (manifests / "m-4.age").unlink()
    list(device.wipe(overwrite=False))
    assert [path.name for path in tmp_path.iterdir()] == ["photo"]


def test_what_lies_behind_a_link_is_neither_written_nor_wiped(tmp_path: Path) -> None:
    device = folder(tmp_path / "stick")
    (tmp_path / "stick").mkdir()
    device.initialise("blue", b"sealed")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/m-1.age").write_text("mine")
    (tmp_path / "stick/drover/manifests").symlink_to(tmp_path / "mine")
    with pytest.raises(HostError, match="is a link"):
        device.write_manifest("m-1", b"x")
    assert device.manifests() == {}
    list(device.wipe(overwrite=False))
    assert (tmp_path / "mine/m-1.age").read_text() == "mine"


def test_a_wiped_device_leaves_nothing_and_can_be_made_anew(tmp_path: Path) -> None:
    device = folder(tmp_path)
    device.initialise("blue", b"sealed")
    (tmp_path / "drover/packs/00000000.pack").write_bytes(b"x")
    list(device.wipe(overwrite=False))
    assert list(tmp_path.iterdir()) == []
    list(device.wipe(overwrite=False))
    device.initialise("blue", b"other")


def test_a_wipe_that_was_interrupted_leaves_no_key_and_goes_on(tmp_path: Path) -> None:
    device = folder(tmp_path)
    device.initialise("blue", b"sealed")
    for number in range(2):
        (tmp_path / f"drover/packs/0000000{number}.pack").write_bytes(b"x")
    next(device.wipe(overwrite=False))
    with pytest.raises(InputError, match="wiped"):
        device.sealed_key()
    assert device.require().label == "blue"
    list(device.wipe(overwrite=False))
    assert list(tmp_path.iterdir()) == []


def test_packs_without_a_label_are_no_place_for_a_new_device(tmp_path: Path) -> None:
    (tmp_path / "drover/packs").mkdir(parents=True)
    (tmp_path / "drover/packs/00000000.pack").write_bytes(b"x")
    with pytest.raises(InputError, match="packs"):
        folder(tmp_path).initialise("blue", b"sealed")
