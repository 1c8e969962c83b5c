"""What VMs have in common, and what of it is at the destination."""

import time
from pathlib import Path

import pytest

from drover.estimator.answer import Estimator
from drover.estimator.content import CHUNK, contents
from drover.estimator.sharing import sharing
from drover.model.forecast import Question, Range
from drover.model.migration import Facts, Spec, State
from drover.model.observation import Chunk, VdiskSample
from drover.model.vm import Vdisk, Vm
from drover.store import MigrationStore, ObservationStore


def sample(words: list[str], vdisk: str = "vda") -> VdiskSample:
    """All of a VDISK, a chunk for each word."""
    chunks = [
        Chunk(offset=i * CHUNK, length=CHUNK, zero_bytes=0, lz4_bytes=CHUNK // 2, zstd_bytes=CHUNK // 2, hash=word)
        for i, word in enumerate(words)
    ]
    size = len(words) * CHUNK
    return VdiskSample(
        vdisk=vdisk, at=time.time(), size=size, allocated=size, allocated_chunks=len(words), read_bytes=size,
        read_seconds=1.0, speeds={"lz4": 1e9, "zstd": 5e8}, chunks=chunks,
    )  # fmt: skip


def test_each_vm_is_told_what_it_shares() -> None:
    base = [f"base-{i}" for i in range(6)]
    web, db = [sample([*base, "w1", "w1"])], [sample([*base, "d1", "d2"])]
    one, other = sharing({"web": web, "db": db, "unseen": []}, {"old": [sample(["base-0", "d1"])]})
    assert (one.vm, other.vm) == ("web", "db")
    # Of what occurs in both, half is spared at each.
    assert one.alone.value == pytest.approx(1 / 8) and other.alone.value == 0
    assert one.together is not None and one.together.value == pytest.approx((1 + 3) / 8)
    assert other.together is not None and other.together.value == pytest.approx(3 / 8)
    assert one.destination is not None and one.destination.value == pytest.approx(1 / 8)
    assert other.destination is not None and other.destination.value == pytest.approx(2 / 8)


def test_one_vm_by_itself_and_an_unknown_destination() -> None:
    (alone,) = sharing({"web": [sample(["a", "b"])]}, {})
    assert alone.together is None and alone.destination is None


def observed(store: ObservationStore, name: str, site: str, words: list[str]) -> str:
    size = len(words) * CHUNK
    vdisk = Vdisk(name="vda", size=size, format="raw", path="/v", kind="file", allocated=size)
    vm = Vm(
        name=name, uuid=f"uuid-{name}", running=True, memory=1 << 30, machine="pc", arch="x86_64",
        virtualisation="qemu", vdisks=(vdisk,), networks=(),
    )  # fmt: skip
    observation = store.begin(vm, site)
    found = sample(words)
    store.add([(observation, found), *((observation, content) for content in contents([found]))])
    store.end(observation)
    return observation


def test_the_destination_has_what_arrived_there_and_what_was_sampled_there(tmp_path: Path) -> None:
    estimator, migrations = Estimator(tmp_path), MigrationStore(tmp_path)
    store = estimator.observations
    web = observed(store, "web", "a:///", ["base", "log", "own-1", "own-2"])
    observed(store, "elsewhere", "c:///", ["own-1"])
    observed(store, "there", "b:///", ["base"])
    gone = observed(store, "gone", "a:///", ["log"])
    question = Question(link_rate=1e6, shipping=Range(p10=1, p50=2, p90=3))

    def share() -> float:
        shown = estimator.answer("a:///", "b:///", [store.get(web)], question).shown
        assert shown.sharing[0].destination is not None
        return shown.sharing[0].destination.value

    assert share() == pytest.approx(1 / 4)
    migration = migrations.add(Spec(vm="gone", source="a:///", destination="b:///"), Facts(uuid=store.get(gone).uuid))
    assert share() == pytest.approx(1 / 4)
    for state in (State.PREPARING, State.STARTING, State.FINISHED):
        migrations.enter(migration, state)
    assert share() == pytest.approx(2 / 4)


def test_what_vms_share_is_on_the_device_once(tmp_path: Path) -> None:
    estimator = Estimator(tmp_path)
    store, words = estimator.observations, [f"base-{i}" for i in range(50)]
    seen = [store.get(observed(store, name, "a:///", words)) for name in ("web", "db")]
    question = Question(link_rate=1e6, shipping=Range(p10=1, p50=2, p90=3))

    def loaded(count: int) -> float:
        options = estimator.answer("a:///", "b:///", seen[:count], question).raw.options
        return max(option.device_bytes for option in options)

    assert loaded(2) == pytest.approx(loaded(1), rel=0.1)
