"""`drover device`: what it makes is there, what cannot be meant is named, and a device that is needed is not wiped."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from drover.cli.main import app
from drover.devices.folder import DeviceFolder
from drover.devices.keys import own_identity
from drover.devices.manifest import Manifest, VdiskPart, seal_manifest
from drover.devices.signing import own_signer
from drover.engine.status import Damage, DeviceStatus, Load
from drover.errors import DroverError, InputError
from drover.model.device import Use
from drover.model.migration import Facts, Migration, Spec, State
from drover.platforms.libvirt.host import LocalHost
from drover.store import DeviceStore, MigrationStore


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    monkeypatch.setenv("DROVER_DATA", str(folder))
    return folder


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    path = tmp_path / "stick"
    path.mkdir()
    return path


def drover(*words: str | Path) -> str:
    result = CliRunner().invoke(app, ["device", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def lines(*words: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in drover(*words, "--json").splitlines()]


def migrating(stick: Path, use: Use) -> Migration:
    device = DeviceStore().get(stick.name)
    spec = Spec(vm="web", source="none:///", destination="none:///there", devices=[device.id])
    migration = MigrationStore().add(spec, Facts())
    DeviceStore().use([device.id], migration.id, use)
    return migration


def test_a_device_is_made_shown_and_listed(stick: Path, data: Path) -> None:
    assert "stick" in drover("init", stick)
    shown = lines("show", stick)[0]
    assert (shown["label"], shown["packs"], shown["obstacle"]) == ("stick", 0, None)
    assert lines("list")[0]["id"] == shown["id"]
    assert lines("list")[0]["recipients"] == [own_identity(data).recipient]
    assert "ready" in drover("list")
    assert "can be opened" in drover("show", stick)
    assert own_signer(data).public_key == shown["signing_key"]
    assert shown["signing_key"] in drover("show", stick)


def test_a_device_of_another_drover_is_shown_but_does_not_open(
    stick: Path, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drover("init", stick)
    monkeypatch.setenv("DROVER_DATA", str(tmp_path / "other"))
    assert "was not encrypted to age1" in lines("show", stick)[0]["obstacle"]
    assert lines("show", stick, "--identity", data / "identity.age-key")[0]["obstacle"] is None
    with pytest.raises(InputError, match="another Drover"):
        drover("wipe", stick)


@pytest.mark.parametrize(
    "words",
    [
        ["init", "{stick}", "{stick}", "--label", "two"],
        ["init", "{stick}", "--label", ""],
        ["init", "{stick}", "--label", "a\nb"],
        ["init", "{stick}", "--label", "x" * 65],
        ["init", "{stick}", "--recipient", "age1nobody"],
        ["init", "{stick}", "--host", "nonsense://host/x"],
        ["init", "{stick}/gone"],
        ["init", "/"],
        ["init", "relative", "--host", "qemu:///system"],
        ["show", "{stick}"],
        ["verify", "{stick}"],
        ["verify", "{stick}", "--identity", "/nonexistent"],
        ["unload", "{stick}"],
        ["forget", "nothing"],
        ["wipe", "{stick}"],
    ],
)
def test_what_cannot_be_meant_is_named_and_changes_nothing(stick: Path, words: list[str]) -> None:
    with pytest.raises(DroverError) as refused:
        drover(*(word.format(stick=stick) for word in words))
    assert refused.value.exit_code == 2
    assert refused.value.remedy
    assert list(stick.iterdir()) == []
    assert DeviceStore().all() == []


def test_verifying_says_what_is_missing_and_whose_word_that_is(
    stick: Path, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drover("init", stick)
    device, folder = DeviceStore().get("stick"), DeviceFolder(LocalHost("here", None), str(stick))
    loads = [Load(load="0" * 32, migration=name, vdisk="vda", size=1, chunks=5) for name in ("m-1", "m-2", "m-3")]
    status = DeviceStatus(path="/x", purpose="verify", state="done", read_bytes=7, total_bytes=7, loads=loads)
    monkeypatch.setattr("drover.cli.device.read_all", lambda *_: status)

    def write(migration: str, vm: str, chunks: int, signed_in: Path = data) -> None:
        parts = (VdiskPart(name="vda", size=1, chunks=chunks),)
        made = Manifest(format=1, device=device.id, migration=migration, vm=vm, created="now", vdisks=parts)
        folder.write_manifest(migration, seal_manifest(made, own_signer(signed_in), device.recipients))

    assert "there is none, not finished or deleted: completeness unknown" in drover("verify", stick)
    assert lines("verify", stick)[-1]["complete"] is None
    write("m-1", "web", 5)
    write("m-2", "db", 4)
    (tmp_path / "other").mkdir()
    write("m-3", "mail", 5, tmp_path / "other")
    output = drover("verify", stick)
    assert "web (m-1): made now, signed by this Drover" in output
    assert f"another Drover, whose key is {own_signer(tmp_path / 'other').public_key}" in output
    assert "web (m-1) is complete: all 5 chunks are there" in output
    verified = lines("verify", stick)[-1]
    assert verified["complete"] is True
    assert [one["own"] for one in verified["manifests"]] == [True, True, False]
    write("m-1", "web", 9)
    folder.write_manifest("m-2", b"nonsense")
    result = CliRunner().invoke(app, ["device", "verify", str(stick)], catch_exceptions=False)
    assert result.exit_code == 1
    assert "VDISK vda of web (m-1): 4 of 9 chunks are missing" in result.output
    assert "manifest of m-2: it cannot be believed" in result.output
    assert "is intact" not in result.output
    damages = [
        Damage(pack=3, offset=512, bytes=9, migration=name, vdisk="vda", chunk=2, why="its content is damaged")
        for name in ("m-1", "m-9")
    ]
    status = status.model_copy(update={"damaged": 3, "damages": [*damages, Damage(pack=4, offset=0, bytes=1, why="?")]})
    monkeypatch.setattr("drover.cli.device.read_all", lambda *_: status)
    result = CliRunner().invoke(app, ["device", "verify", str(stick)], catch_exceptions=False)
    where = "at 1048576: 9 bytes at 512 of pack 00000003: its content is damaged"
    assert f"  VDISK vda of web (m-1), {where}" in result.output
    assert f"  VDISK vda of m-9, {where}" in result.output
    result = CliRunner().invoke(app, ["device", "verify", str(stick), "--json"], catch_exceptions=False)
    assert [one["vdisk_offset"] for one in json.loads(result.output)["damages"]] == [1 << 20, 1 << 20, None]


def test_two_devices_do_not_get_one_label(stick: Path, tmp_path: Path) -> None:
    drover("init", stick, "--label", "blue")
    (tmp_path / "second").mkdir()
    with pytest.raises(InputError, match="blue"):
        drover("init", tmp_path / "second", "--label", "blue")
    drover("wipe", stick)
    drover("init", tmp_path / "second", "--label", "blue")


@pytest.mark.parametrize("use", [Use.LOADING, Use.LOADED])
def test_a_device_that_is_needed_is_wiped_only_with_leave(stick: Path, use: Use) -> None:
    drover("init", stick)
    migration = migrating(stick, use)
    with pytest.raises(InputError, match=migration.id):
        drover("wipe", stick)
    assert (stick / "drover/key.age").exists()
    drover("wipe", stick, "--even-if-needed")
    assert list(stick.iterdir()) == []
    assert DeviceStore().all()[0].wiped
    assert DeviceStore().uses(migration.id) == {DeviceStore().all()[0].id: Use.LOST}


@pytest.mark.parametrize("use", [Use.PLANNED, Use.UNLOADED, Use.LOST])
def test_a_device_that_nobody_needs_is_wiped(stick: Path, use: Use) -> None:
    drover("init", stick)
    migrating(stick, use)
    assert lines("wipe", stick, "--overwrite")[0]["event"] == "wiped"


def test_a_device_of_a_migration_that_ended_is_wiped(stick: Path) -> None:
    drover("init", stick)
    MigrationStore().enter(migrating(stick, Use.LOADED), State.CANCELLED)
    drover("wipe", stick)


def test_forgetting_marks_it_lost_even_if_no_engine_runs(stick: Path) -> None:
    drover("init", stick)
    migration = migrating(stick, Use.LOADED)
    assert lines("forget", "stick") == [
        {
            "event": "forgotten", "device": DeviceStore().get("stick").id, "migration": migration.id, "vm": "web",
            "bytes": None,
        }
    ]  # fmt: skip
    assert DeviceStore().uses(migration.id) == {DeviceStore().get("stick").id: Use.LOST}
    assert "No migration needs" in drover("forget", "stick")


@pytest.mark.parametrize("words", [["m-none", "--device", "/x"], ["m-", "--device", "/x"], ["m-", "--device", "x"]])
def test_resuming_with_a_device_that_is_none_changes_nothing(stick: Path, words: list[str]) -> None:
    drover("init", stick)
    migration = migrating(stick, Use.LOADED)
    with pytest.raises(InputError):
        CliRunner().invoke(app, ["resume", *words], catch_exceptions=False)
    assert MigrationStore().get(migration.id) == migration
