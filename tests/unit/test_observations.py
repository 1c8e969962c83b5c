"""What was observed is read back as it was added, over restarts; windows are recorded and cleared at their ages."""

import csv
import importlib
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from drover.errors import DroverError, InputError
from drover.estimator.accuracy import QUANTITIES, Score
from drover.estimator.export import export
from drover.estimator.windows import FOREVER, Window, interval, windows
from drover.model.forecast import Method, Range, VmForecast
from drover.model.migration import Cutover
from drover.model.observation import (
    Chunk,
    Content,
    DirtySample,
    Interval,
    IoSample,
    LinkObservation,
    LinkState,
    Probe,
    VdiskSample,
    Workload,
)
from drover.model.vm import Vdisk, Vm
from drover.platforms.libvirt.capture import _NAME
from drover.store import ObservationStore
from drover.store.database import Database

FIGURE = Interval(value=0.5, low=0.4, high=0.6)
CONTENT = Content(
    vdisk="vda", at=5.0, size=1 << 30, allocated=1 << 29, chunks=2, zero=FIGURE, duplicate=FIGURE,
    ratios={"lz4": FIGURE}, speeds={"lz4": 4e8}, read_rate=1e9,
)  # fmt: skip
CHUNK = Chunk(offset=0, length=512, zero_bytes=0, lz4_bytes=1, zstd_bytes=1, hash="ab")
SAMPLE = VdiskSample(
    vdisk="vda", at=5.0, size=1 << 30, allocated=1 << 29, read_bytes=512, read_seconds=0.1, speeds={}, chunks=[CHUNK]
)

PROBES = [
    Probe(at=7.0, workload=Workload.BULK, connections=4, bytes=9, seconds=1.0, rate=FIGURE, windows=[0.4, 0.6]),
    Probe(at=8.0, workload=Workload.EPOCH, connections=4, bytes=9, seconds=1.0, rate=FIGURE, blocks=16),
]
LINK = LinkObservation(
    source="a", destination="b", at=9.0, probes=PROBES,
    state=LinkState(at=9.0, round_trip=FIGURE, loss=0.01, segments=700, mtu=1500, retransmitted=7),
)  # fmt: skip
ONE = Range(p10=1.0, p50=1.0, p90=1.0)
RAW = VmForecast(
    vm="vm", duration=Range(p10=10.0, p50=20.0, p90=30.0), downtime=ONE, wire_bytes=ONE, cutover=Cutover.RESUME,
    epochs=ONE, opens=1.0,
)  # fmt: skip
SCORE = Score(
    migration="m-1", vm="vm", at=1.0, method=Method.NETWORK, horizon=60.0, raw=RAW,
    shown=RAW.model_copy(update={"duration": Range(p10=11.0, p50=22.0, p90=33.0)}),
    duration=25.0, downtime=2.5, wire_bytes=1000.0,
)  # fmt: skip


def vm(uuid: str = "u") -> Vm:
    disks = [
        Vdisk(name=name, size=1 << 30, format="raw", path="/x", kind="file", allocated=0, replicable=name == "vda")
        for name in ("vda", "vdb")
    ]
    return Vm(
        name=f"vm-{uuid}", uuid=uuid, running=True, memory=1 << 30, machine="q35", arch="x86_64",
        virtualisation="kvm", vdisks=tuple(disks), networks=(),
    )  # fmt: skip


def io(at: float, written: int = 0) -> IoSample:
    return IoSample(
        vdisk="vda", at=at, read_bytes=1, write_bytes=written, read_requests=1, write_requests=1, read_seconds=0.5,
        write_seconds=0.25,
    )  # fmt: skip


def dirty(at: float) -> DirtySample:
    return DirtySample(vdisk="vda", at=at, window=1.003, bytes=65536)


@pytest.fixture
def store(data: Path) -> ObservationStore:
    return ObservationStore(data)


def test_samples_are_read_back_as_they_were_added(store: ObservationStore, data: Path) -> None:
    one, other = store.begin(vm(), "qemu:///system"), store.begin(vm("v"), "qemu:///system")
    store.add([(one, io(1)), (other, io(1)), (one, dirty(2)), (one, io(2, 7)), (one, CONTENT), (one, SAMPLE)])
    store.add([])
    store.end(one, because="it was interrupted")
    found = ObservationStore(data).get(one[:-1])
    assert found.io == [io(1), io(2, 7)] and found.dirty == [dirty(2)] and found.content == [CONTENT]
    assert found.sizes == {"vda": 1 << 30} and found.seconds == 1 and found.ended_because == "it was interrupted"
    assert store.samples(one) == [SAMPLE] and store.samples(other) == []
    assert [each.id for each in store.all()] == [one, other]
    assert [each.id for each in store.all("v")] == [other] and store.all(since=found.began_at + 60) == []
    latest = store.latest("v")
    assert latest and latest.id == other and latest.ended_at is None and store.latest("w") is None
    with pytest.raises(InputError):
        store.get("o-")


def test_one_process_observes_a_vm_and_orphans_end_at_their_last_sample(store: ObservationStore) -> None:
    orphan, empty = store.begin(vm(), "s"), store.begin(vm(), "s")
    store.add([(orphan, io(123.0)), (orphan, io(124.0))])
    with store.observing("u") as orphans, store.observing("v") as others:
        assert sorted(orphans) == sorted([orphan, empty]) and others == []
        with pytest.raises(InputError, match="another drover process"), store.observing("u"):
            pass
    assert store.get(orphan).ended_at == 124.0
    assert store.get(empty).ended_at == store.get(empty).began_at
    with store.observing("u") as orphans:
        assert orphans == []


def test_only_what_is_asked_for_is_forgotten(store: ObservationStore, data: Path) -> None:
    one, going = store.begin(vm(), "s"), store.begin(vm(), "s")
    store.add([(one, io(1)), (one, SAMPLE), (going, io(1))])
    store.end(one)
    assert store.prune(store.get(one).began_at - 1) == 0
    assert store.prune(store.get(one).began_at + 3600) == 1
    assert [each.id for each in store.all()] == [going]
    with Database(data).transaction() as db:
        assert db.execute(sa.text("select count(*) from io_samples")).scalar() == 1
        assert db.execute(sa.text("select count(*) from chunk_samples")).scalar() == 0


@pytest.mark.parametrize("archive", [False, True])
def test_every_table_is_exported_as_csv(store: ObservationStore, tmp_path: Path, archive: bool) -> None:
    one = store.begin(vm(), "s")
    store.add([(one, io(1.25)), (one, dirty(2)), (one, CONTENT), (one, SAMPLE)])
    target = tmp_path / ("out.zip" if archive else "out")
    names = export(target, observations=store, links=[LINK], scores=[SCORE])
    if archive:
        with zipfile.ZipFile(target) as opened:
            assert opened.namelist() == names
            opened.extractall(tmp_path / "out")
    tables: dict[str, list[dict[str, Any]]] = {}
    for name in names:
        with (tmp_path / "out" / name).open(newline="") as file:
            tables[name] = list(csv.DictReader(file))
    assert {name: len(rows) for name, rows in tables.items()} == dict.fromkeys(names, 1) | {
        "link_probes.csv": 2,
        "scores.csv": 3,
    }
    assert tables["vdisks.csv"] == [{"observation": one, "vdisk": "vda", "size": str(1 << 30)}]
    assert tables["io_samples.csv"][0]["at"] == "1.25" and tables["dirty_samples.csv"][0]["window"] == "1.003"
    content = tables["contents.csv"][0]
    assert (content["zero_low"], content["lz4_ratio_high"], content["zstd_ratio"]) == ("0.4", "0.6", "")
    assert content["chunks"] == "2" and content["lz4_speed"] == "400000000.0"
    bulk, epoch = tables["link_probes.csv"]
    assert (bulk["source"], bulk["destination"], bulk["measured_at"], bulk["at"]) == ("a", "b", "9.0", "7.0")
    assert (bulk["workload"], bulk["connections"], bulk["rate_low"], bulk["cpu_seconds"]) == ("bulk", "4", "0.4", "")
    assert (epoch["workload"], epoch["blocks"], epoch["at"]) == ("epoch", "16", "8.0")
    for probe in (bulk, epoch):
        assert (probe["round_trip"], probe["round_trip_high"], probe["loss"]) == ("0.5", "0.6", "0.01")
        assert (probe["segments"], probe["retransmitted"], probe["mtu"]) == ("700", "7", "1500")
    scores = {row["quantity"]: row for row in tables["scores.csv"]}
    assert (scores["duration"]["raw_p50"], scores["duration"]["shown_p90"], scores["duration"]["outcome"]) == (
        "20.0", "33.0", "25.0",
    )  # fmt: skip
    assert (scores["downtime"]["outcome"], scores["bytes"]["outcome"]) == ("2.5", "1000.0")
    assert scores["bytes"]["migration"] == "m-1" and scores["bytes"]["method"] == "network"
    if not archive:
        with pytest.raises(InputError, match="there already"):
            export(target, observations=store)


def test_parquet_has_the_same_tables(store: ObservationStore, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    one = store.begin(vm(), "s")
    store.add([(one, io(1.25)), (one, CONTENT)])
    export(tmp_path / "out", "parquet", observations=store, links=[LINK], scores=[SCORE])
    (row,) = parquet.read_table(tmp_path / "out" / "io_samples.parquet").to_pylist()
    assert row == {"observation": one, **io(1.25).model_dump()}
    assert parquet.read_table(tmp_path / "out" / "dirty_samples.parquet").num_rows == 0
    (content,) = parquet.read_table(tmp_path / "out" / "contents.parquet").to_pylist()
    assert content["duplicate_high"] == 0.6 and content["zstd_ratio"] is None
    probe, _ = parquet.read_table(tmp_path / "out" / "link_probes.parquet").to_pylist()
    assert (probe["connections"], probe["rate"], probe["cpu_seconds"]) == (4, 0.5, None)
    rows = parquet.read_table(tmp_path / "out" / "scores.parquet").to_pylist()
    assert [row["quantity"] for row in rows] == list(QUANTITIES) and rows[0]["shown_p10"] == 11.0


def test_without_pyarrow_the_extra_is_named(
    store: ObservationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(DroverError, match=r"drover\[parquet\]"):
        export(tmp_path / "out", "parquet", observations=store)
    with pytest.raises(InputError, match="not a format"):
        export(tmp_path / "out", "xlsx", observations=store)
    assert not (tmp_path / "out").exists()


def test_a_migration_does_not_take_the_bitmaps_of_an_observation_for_its_own() -> None:
    assert _NAME.match("drover-12") and not _NAME.match("drover-observe-o-12345678-10")


def test_only_windows_that_come_twice_are_worth_a_bitmap() -> None:
    assert windows(0.5) == (FOREVER,)
    assert windows(180) == (FOREVER, 1, 10, 60)
    assert windows(float("inf"))[-1] == 3600


@given(st.sampled_from((1.0, 10.0, 60.0, 600.0)), st.integers(0, 2**32))
def test_a_window_is_recorded_at_its_ages_and_cleared_at_its_end(length: float, seed: int) -> None:
    chance = random.Random(seed)
    window, ages, cleared = Window(length, 0.0), [], 0
    for second in range(1, 701):
        now = second + chance.uniform(-0.09, 0.09)
        if window.is_due(now, 1.0):
            ages.append(window.record(now))
        if window.is_over(now, 1.0):
            window.clear(now)
            cleared += 1
    assert cleared == pytest.approx(700 / length, rel=0.2, abs=1)
    assert max(ages) == pytest.approx(length, abs=0.5)
    assert len(ages) >= cleared


def test_the_curve_from_the_beginning_gets_sparser_as_it_gets_flatter() -> None:
    window, ages, now = Window(FOREVER, 0.0), [], 0.0
    while now < 86_400:
        now += interval(now)
        if window.is_due(now, interval(now)):
            ages.append(window.record(now))
        assert not window.is_over(now, 1.0)
    assert ages[:59] == [float(second) for second in range(1, 60)]
    assert len(ages) < 250 and ages[-1] > 80_000
