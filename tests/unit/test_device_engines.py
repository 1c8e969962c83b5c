"""What is told to engines about devices when they load, fail, die, unload and are damaged; the engines are played."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from drover.devices import unload as unloading
from drover.devices import verify as verifying
from drover.devices.folder import DeviceFolder
from drover.devices.keys import own_identity
from drover.devices.known import Opened, make_device, open_device
from drover.devices.manifest import Signed, open_manifest
from drover.devices.needs import loading_too
from drover.devices.signing import own_signer
from drover.engine.client import GONE, UNKNOWN_DEVICE
from drover.engine.launcher import EngineHome
from drover.engine.status import DeviceStatus, EngineStatus
from drover.errors import EngineError, HostError, InputError, MigrationError
from drover.model.device import Use
from drover.model.migration import Facts, Migration, ReplicaVdisk, Spec
from drover.model.vm import Vdisk, Vm
from drover.platforms.libvirt.host import LocalHost
from drover.replicator.check import Report
from drover.replicator.check.devices import check
from drover.replicator.run import Run
from drover.replicator.transport import Transport, add_devices, plug_in
from drover.store import DeviceStore, MigrationStore

HOST = LocalHost("here", None)
VDISK = ReplicaVdisk(name="vda", size=100, source_path="/x", source_format="raw", pool="p", volume="v", format="raw")


class Engine:
    """An engine of one VDISK; the tests move its chunks, each of a byte."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.devices: dict[str, dict[str, Any]] = {}
        self.background_now: dict[str, Any] = {"mode": None, "state": "idle", "total_bytes": 100, "left_bytes": 100}
        self.held: dict[str, int] = {}
        self.answers: list[EngineError | dict[str, Any]] = []
        self.refuses: EngineError | None = None

    def info(self) -> None:
        self._maybe_fail()

    def close(self) -> None:
        pass

    def status(self) -> EngineStatus:
        self._maybe_fail()
        background = {**self.background_now, "devices": self.held, "loaded_bytes": sum(self.held.values())}
        vdisk = {"size": 100, "state": "replicating", "background": background}
        return EngineStatus.model_validate({"link": {"state": "up"}, "vdisks": {"vda": vdisk}, "devices": self.devices})

    def background(self, vdisk: str, mode: str) -> None:
        self.calls.append(f"background {vdisk} {mode}")
        self.background_now |= {"mode": mode, "state": "running"}

    def put_device(self, device: str, *, path: str, key: bytes, purpose: str) -> DeviceStatus:
        if self.refuses is not None:
            raise self.refuses
        assert Path(path).name == "packs"
        assert len(key) == 32
        self.calls.append(f"put {purpose}")
        self.devices[device] = {"path": path, "purpose": purpose, "state": "running"}
        return DeviceStatus.model_validate(self.devices[device])

    def remove_device(self, device: str) -> None:
        self.calls.append("remove")
        if self.devices.pop(device, None) is None:
            raise EngineError("no such device", code=UNKNOWN_DEVICE)

    def forget_device(self, device: str) -> int:
        self.calls.append("forget")
        self.background_now["state"] = "running"
        return self.held.pop(device, 0)

    def _maybe_fail(self) -> None:
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, EngineError):
                raise answer
            for device in self.devices.values():
                device.update(answer)


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DROVER_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(unloading, "_TICK", 0.0)
    monkeypatch.setattr(unloading, "_SETTLED", 0.01)
    monkeypatch.setattr(verifying, "_TICK", 0.0)
    monkeypatch.setattr("drover.replicator.transport._LOOK", 0.0)
    return tmp_path / "data"


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    path = tmp_path / "stick"
    path.mkdir()
    make_device(HOST, str(path), DeviceStore(), site=None, label="blue", recipients=[])
    return path


def opened(stick: Path) -> Opened:
    return open_device(HOST, str(stick), DeviceStore())


def migration(stick: Path, use: Use = Use.PLANNED) -> Migration:
    device = DeviceStore().get("blue").id
    spec = Spec(vm="web", source="here:///", destination="there:///", devices=[device])
    made = MigrationStore().add(spec, Facts(vdisks=[VDISK], device_paths={device: str(stick)}))
    DeviceStore().use([device], made.id, use)
    return made


class Loading:
    """A run whose source engine is played."""

    def __init__(self, stick: Path) -> None:
        self.engine, self.said = Engine(), list[str]()
        self.migration = migration(stick)
        self.device = self.migration.spec.devices[0]
        run = SimpleNamespace(
            store=MigrationStore(), migration=self.migration, facts=self.migration.facts, vdisk_names=["vda"],
            source=SimpleNamespace(engine=self.engine, host=HOST), say=self.said.append,
        )  # fmt: skip
        self.transport = Transport(cast(Run, run))

    def look(self) -> str | None:
        return self.transport.look(self.engine.status())

    def load(self, size: int, state: str) -> None:
        self.engine.held[self.device] = size
        self.engine.background_now["state"] = state

    @property
    def use(self) -> Use:
        return DeviceStore().uses(self.migration.id)[self.device]


def manifest(stick: Path, made: Migration) -> Signed:
    sealed = DeviceFolder(HOST, str(stick)).manifests()[made.id]
    identity = own_identity(DeviceStore().folder)
    return open_manifest(sealed, identity, device=made.spec.devices[0], migration=made.id)


def test_a_device_is_loaded_closed_and_waited_for(stick: Path) -> None:
    loading = Loading(stick)
    loading.transport.begin()
    assert loading.engine.calls == ["put load", "background vda load"]
    assert loading.use is Use.LOADING
    assert loading.look() is None
    assert loading.transport.by_road
    loading.load(100, "loaded")
    assert "drover device unload" in (loading.look() or "")
    assert (loading.engine.calls[-1], loading.use) == ("remove", Use.LOADED)
    assert any("blue" in text and "100 B of web" in text for text in loading.said)
    signed = manifest(stick, loading.migration)
    assert (signed.manifest.vm, signed.public_key) == ("web", own_signer(DeviceStore().folder).public_key)
    assert [(part.name, part.size, part.chunks) for part in signed.manifest.vdisks] == [("vda", 100, 1)]
    calls = list(loading.engine.calls)
    assert "drover device unload" in (loading.look() or "")
    assert loading.engine.calls == calls
    loading.load(0, "done")
    assert loading.look() is None
    assert loading.use is Use.UNLOADED
    assert not loading.transport.by_road


def test_a_device_that_others_still_load_is_not_to_be_carried_away(stick: Path) -> None:
    loading = Loading(stick)
    other = migration(stick, Use.LOADING)
    loading.transport.begin()
    loading.load(100, "loaded")
    assert "wait until web is loaded too" in (loading.look() or "")
    assert any("wait until web is on it too" in text for text in loading.said)
    DeviceStore().use(other.spec.devices, other.id, Use.LOADED)
    assert "wait until" not in (loading.look() or "")


def test_a_device_that_is_pulled_out_goes_on_when_it_is_back(stick: Path) -> None:
    loading = Loading(stick)
    loading.transport.begin()
    loading.engine.devices[loading.device] |= {"state": "failed", "error": "no such device"}
    stick.rename(stick.with_name("pocket"))
    words = loading.look()
    assert "plug in" in (words or "")
    assert any("no such device" in text for text in loading.said)
    loading.look()
    assert loading.engine.calls.count("put load") == 1
    stick.with_name("pocket").rename(stick)
    loading.look()
    assert loading.engine.calls.count("put load") == 2
    assert loading.look() is None


def test_a_device_that_is_gone_when_it_is_closed_gets_no_manifest_and_holds_nothing_up(stick: Path) -> None:
    loading = Loading(stick)
    loading.transport.begin()
    loading.load(100, "loaded")
    stick.rename(stick.with_name("pocket"))
    stick.mkdir()
    assert "drover device unload" in (loading.look() or "")
    assert any("its manifest cannot be written: there is no transport device" in text for text in loading.said)
    assert list(stick.iterdir()) == []
    assert loading.use is Use.LOADED


def test_a_device_that_is_not_there_or_another_holds_nothing_up(stick: Path) -> None:
    loading = Loading(stick)
    stick.rename(stick.with_name("pocket"))
    stick.mkdir()
    make_device(HOST, str(stick), DeviceStore(), site=None, label="red", recipients=[])
    loading.transport.begin()
    assert loading.engine.calls == ["background vda load"]
    assert any("the device red is there" in text for text in loading.said)


def test_an_engine_that_refuses_a_device_is_told_once(stick: Path) -> None:
    loading = Loading(stick)
    loading.engine.refuses = EngineError("the disk is odd", code="device_error")
    loading.transport.begin()
    loading.look()
    assert len([text for text in loading.said if "odd" in text]) == 1
    loading.engine.refuses = EngineError("gone", code=GONE)
    with pytest.raises(EngineError):
        loading.look()


def test_a_lost_device_is_given_up_and_its_share_goes_over_the_network(stick: Path) -> None:
    loading = Loading(stick)
    loading.transport.begin()
    loading.load(40, "running")
    DeviceStore().use([loading.device], loading.migration.id, Use.LOST)
    assert loading.look() is None
    assert loading.engine.calls[2:] == ["remove", "forget", "background vda copy"]
    assert loading.use is Use.LOST


def test_full_devices_wait_for_another_unless_the_rest_may_go_over_the_network(stick: Path) -> None:
    loading = Loading(stick)
    loading.transport.begin()
    loading.load(40, "running")
    loading.engine.devices[loading.device]["state"] = "full"
    assert "60 B" in (loading.look() or "")
    assert loading.use is Use.LOADED
    loading.migration.spec = loading.migration.spec.model_copy(update={"rest_by_network": True})
    assert loading.look() is None
    assert loading.engine.calls[-1] == "background vda copy"


def test_a_comparison_leaves_devices_alone(stick: Path) -> None:
    loading = Loading(stick)
    loading.migration.facts.compare = True
    loading.transport.begin()
    assert loading.engine.calls == ["background vda compare"]
    assert loading.look() is None


def test_devices_are_added_and_given_again(stick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drover.replicator.transport.open_host", lambda _: HOST)
    made = migration(stick, Use.LOADED)
    second = tmp_path / "second"
    second.mkdir()
    with pytest.raises(InputError):
        add_devices(MigrationStore(), made, [str(second)])
    red = make_device(HOST, str(second), DeviceStore(), site=None, label="red", recipients=[]).id
    add_devices(MigrationStore(), made, [str(second), str(stick)])
    blue = made.spec.devices[0]
    assert MigrationStore().get(made.id).spec.devices == [blue, red]
    assert DeviceStore().uses(made.id) == {blue: Use.LOADING, red: Use.PLANNED}
    assert made.facts.device_paths == {blue: str(stick), red: str(second)}
    another = migration(stick)
    add_devices(MigrationStore(), another, [str(second)])
    too = loading_too(DeviceStore().get("red"), MigrationStore(), but_for=another.id)
    assert [found.id for found in too] == [made.id]


def test_devices_are_found_by_their_ids_wherever_they_are_mounted(
    stick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drover.replicator.transport.open_host", lambda _: HOST)
    store, made, red, lost = MigrationStore(), migration(stick, Use.LOADING), tmp_path / "red", tmp_path / "lost"
    (blue,) = made.spec.devices
    for path in (red, lost):
        path.mkdir()
        make_device(HOST, str(path), DeviceStore(), site=None, label=path.name, recipients=[])
    ids = {path: DeviceStore().get(path.name).id for path in (red, lost)}
    add_devices(store, made, [str(red), str(lost)])
    DeviceStore().use([ids[lost]], made.id, Use.LOST)
    # They change places; what comes back without being needed any more stays given up.
    stick.rename(tmp_path / "hand")
    red.rename(stick)
    (tmp_path / "hand").rename(red)
    said = plug_in(store, made, [str(stick), str(red), str(lost), str(tmp_path / "gone")])
    assert said == [
        f"device red: it is at {stick} now, not at {red}",
        f"device blue: it is at {red} now, not at {stick}",
        f"no transport device is at {tmp_path / 'gone'} now: what is on its way is waited for",
    ]
    assert store.get(made.id).facts.device_paths == {blue: str(red), ids[red]: str(stick), ids[lost]: str(lost)}
    assert DeviceStore().uses(made.id) == {blue: Use.LOADING, ids[red]: Use.PLANNED, ids[lost]: Use.LOST}
    assert plug_in(store, made, [str(red)]) == []
    (red / "drover/key.age").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="damaged"):
        plug_in(store, made, [str(red)])


def test_the_check_says_what_fits_and_what_does_not_open(stick: Path, tmp_path: Path) -> None:
    vdisk = Vdisk(name="vda", size=1 << 60, format="raw", path="/x", kind="file", allocated=1 << 60)
    vm = Vm(
        name="web", uuid="u", running=True, memory=0, machine="q35", arch="x86_64", virtualisation="kvm",
        vdisks=(vdisk,), networks=(),
    )  # fmt: skip
    spec, report = Spec(vm="web", source="here:///", destination="there:///", bandwidth=1 << 20), Report()
    check(report, HOST, [str(stick)], vm, spec, MigrationStore())
    assert report.passed
    assert report.devices == {DeviceStore().get("blue").id: str(stick)}
    assert "do not fit" in report.findings[-1].detail
    (stick / "drover/key.age").write_bytes(b"nonsense")
    for paths, why in (([str(stick)], "damaged"), ([str(tmp_path)], "no transport device"), (["stick"], "full path")):
        bad = Report()
        check(bad, HOST, paths, vm, spec, MigrationStore())
        assert not bad.passed
        assert any(why in finding.detail for finding in bad.findings)


def test_a_device_may_be_loaded_for_several_migrations_but_named_once(stick: Path) -> None:
    vm = Vm(
        name="web", uuid="u", running=True, memory=0, machine="q35", arch="x86_64", virtualisation="kvm",
        vdisks=(), networks=(),
    )  # fmt: skip
    migration(stick, Use.LOADING)
    spec = Spec(vm="web", source="here:///", destination="there:///")
    report = Report()
    check(report, HOST, [str(stick)], vm, spec, MigrationStore())
    assert report.passed
    report = Report()
    check(report, HOST, [str(stick), str(stick)], vm, spec, MigrationStore())
    assert [finding.detail for finding in report.findings if not finding.passed] == ["the device blue was named twice"]


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> dict[str, Engine]:
    played = {"source": Engine(), "destination": Engine(), "device": Engine()}
    monkeypatch.setattr(unloading, "open_host", lambda _: LocalHost("here", None))
    monkeypatch.setattr(EngineHome, "client", lambda home: played[home.role])
    monkeypatch.setattr(EngineHome, "start", lambda home: played[home.role])
    monkeypatch.setattr(EngineHome, "remove", lambda home: played[home.role].calls.append("end"))
    return played


def unloaded(made: Migration, stick: Path) -> unloading.Unloaded:
    device = opened(stick)
    return unloading.unload(
        made, device.folder, device.label, device.key, devices=DeviceStore(), observe=lambda _: None
    )


@pytest.mark.usefixtures("engines")
def test_unloading_finds_the_device_and_the_migration(stick: Path) -> None:
    with pytest.raises(InputError, match="no migration expects"):
        unloading.find(str(stick), MigrationStore(), DeviceStore())
    made = migration(stick, Use.LOADED)
    found = unloading.find(str(stick), MigrationStore(), DeviceStore())
    assert [m.id for m in found.migrations] == [made.id]
    assert DeviceStore().get("blue").site == "there:///"
    with pytest.raises(InputError, match="there:///"):
        unloading.find(str(stick.parent), MigrationStore(), DeviceStore())


def test_unloading_survives_an_engine_that_dies(stick: Path, engines: dict[str, Engine]) -> None:
    made = migration(stick, Use.LOADED)
    there, gone = engines["destination"], EngineError("gone", code=GONE)
    there.answers = [{}, {}, {}, gone, gone, {}, {}, {"state": "done", "unloaded_chunks": 3}]
    done = unloaded(made, stick)
    assert (done.status.unloaded_chunks, done.by_network) == (3, 0)
    assert there.calls == ["put unload", "remove"]
    assert engines["source"].calls == []
    assert DeviceStore().uses(made.id) == {made.spec.devices[0]: Use.UNLOADED}


def test_a_restarted_engine_is_told_again(stick: Path, engines: dict[str, Engine]) -> None:
    made = migration(stick, Use.LOADED)
    there = engines["destination"]
    put = there.put_device

    def forgets_once(device: str, **rest: Any) -> DeviceStatus:
        answer = put(device, **rest)
        if there.calls.count("put unload") == 1:
            there.devices.clear()
        else:
            there.devices[device]["state"] = "done"
        return answer

    there.put_device = forgets_once  # type: ignore[method-assign]
    unloaded(made, stick)
    assert there.calls == ["put unload", "put unload", "remove"]


def test_what_a_device_did_not_bring_goes_over_the_network(stick: Path, engines: dict[str, Engine]) -> None:
    made = migration(stick, Use.LOADED)
    engines["destination"].answers = [{}, {}, {"state": "done", "damaged": 1}]
    engines["source"].held = {made.spec.devices[0]: 7}
    assert unloaded(made, stick).by_network == 7
    assert engines["source"].calls == ["forget"]


def test_a_device_that_cannot_be_read_to_its_end_is_not_given_up(stick: Path, engines: dict[str, Engine]) -> None:
    made = migration(stick, Use.LOADED)
    engines["destination"].answers = [{}, {}, {"state": "failed", "error": "I/O error"}]
    engines["source"].held = {made.spec.devices[0]: 7}
    with pytest.raises(HostError, match="I/O error"):
        unloaded(made, stick)
    assert engines["source"].calls == []
    assert DeviceStore().uses(made.id) == {made.spec.devices[0]: Use.LOADED}
    engines["destination"].answers = [{}, {}, {"state": "done"}]
    assert unloaded(made, stick).by_network == 7


def test_a_migration_that_nobody_runs_is_named(stick: Path, engines: dict[str, Engine]) -> None:
    made = migration(stick, Use.LOADED)
    engines["destination"].answers = [EngineError("gone", code=GONE)]
    with pytest.raises(MigrationError) as refused:
        unloaded(made, stick)
    assert f"drover resume {made.id}" in str(refused.value)


def test_verifying_tells_what_is_damaged_and_ends_its_engine(stick: Path, engines: dict[str, Engine]) -> None:
    engine, device = engines["device"], opened(stick)
    engine.answers = [{"read_bytes": 5, "total_bytes": 10}, {"state": "done", "read_bytes": 10, "damaged": 2}]
    seen: list[int] = []
    status = verifying.verify(device.folder, device.label, device.key, lambda reading: seen.append(reading.read))
    assert (status.damaged, seen) == (2, [5, 10])
    assert engine.calls == ["put verify", "end"]
    engine.answers = [{"state": "failed", "error": "pulled out"}]
    with pytest.raises(HostError, match="pulled out"):
        verifying.verify(DeviceFolder(HOST, str(stick)), device.label, device.key, lambda _: None)
    assert engine.calls[-1] == "end"
