"""Real VMs are observed: the curve of distinct bytes is that of their writes, and nothing of it is left in them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from drover.errors import InputError
from drover.estimator.observe import INTERRUPTED, Progress, observe
from drover.estimator.windows import windows
from drover.lab import Lab
from drover.model.migration import Facts, Spec, State
from drover.model.observation import VmObservation
from drover.store import MigrationStore, ObservationStore
from tests.migration.drover import run
from tests.migration.world import Vm, guards, traces

_SCRIPT = """
import sys
from drover.estimator.observe import observe
from drover.store import ObservationStore
say = lambda progress: print("looked", flush=True)
observe(ObservationStore(), sys.argv[1], sys.argv[2:], 300, say)
print("ended", flush=True)
"""


@pytest.fixture
def store(tmp_path: Path) -> ObservationStore:
    return ObservationStore(tmp_path)


def in_a_process(vm: Vm) -> "subprocess.Popen[bytes]":
    """An observation that has begun, in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, vm.lab.site("alpha").uri, vm.name],
        stdout=subprocess.PIPE,
        env={**os.environ, "DROVER_DATA": str(vm.data)},
    )
    assert process.stdout is not None
    for _ in range(7):
        assert process.stdout.readline() == b"looked\n"
    return process


def bitmaps(vm: Vm) -> list[str]:
    return [trace for trace in traces(vm.lab, vm.name) if trace.startswith("bitmap drover-observe-")]


def curve(observation: VmObservation) -> dict[int, int]:
    """Distinct bytes of all VDISKs by seconds since the beginning: of the longest window at each moment."""
    longest = {(sample.vdisk, sample.at): sample for sample in sorted(observation.dirty, key=lambda one: one.window)}
    found: dict[int, int] = {}
    for sample in longest.values():
        found[round(sample.window)] = found.get(round(sample.window), 0) + sample.bytes
    return found


def written(observation: VmObservation, seconds: float) -> int:
    """Bytes that it wrote until then, whatever it wrote twice."""
    begun = observation.io[0].at
    totals = [
        [one.write_bytes for one in observation.io if one.vdisk == vdisk and one.at <= begun + seconds + 0.5]
        for vdisk in observation.sizes
    ]
    return sum(each[-1] - each[0] for each in totals)


def novelty(observation: VmObservation, begin: int, end: int) -> float:
    """Of what was written between these seconds: distinct bytes that were not before, for each byte."""
    points = curve(observation)
    return (points[end] - points[begin]) / (written(observation, end) - written(observation, begin))


def test_several_vms_at_once_and_hot_blocks_count_once(
    make_vm: Callable[..., Vm], lab: Lab, store: ObservationStore
) -> None:
    hot = make_vm(pattern="rewrite-hot", rate=200, size=64 << 20)
    append = make_vm(pattern="append", rate=60, size=256 << 20)
    off = make_vm(start=False)
    seen: list[Progress] = []
    names = [hot.name, append.name, off.name]
    one, other, third = observe(store, lab.site("alpha").uri, names, 30, seen.append)

    assert [one.vm, other.vm, third.vm] == names
    for observation in (one, other):
        assert not observation.ended_because and observation.ended_at is not None
        assert 29 <= observation.seconds <= 33
        assert {sample.vdisk for sample in observation.io} == {"vda", "vdb"} == set(observation.sizes)
        # Windows of 1 and 10 s came often, and one of the whole time.
        lengths = [round(sample.window) for sample in observation.dirty if sample.vdisk == "vdb"]
        assert lengths.count(1) > 10 and lengths.count(10) >= 2 and max(lengths) >= 29
    # One writes the same few records again and again: its curve bends. The other goes on and on: when its file system's
    # journal has come round once, its curve is straight.
    ages = sorted(set(curve(one)) & set(curve(other)))
    first, middle, late, last = ages[0], ages[len(ages) // 2], ages[3 * len(ages) // 4], ages[-1]
    assert novelty(one, middle, last) < 0.5 * novelty(one, first, middle)
    assert novelty(one, middle, last) < 0.7 * novelty(other, middle, last)
    assert 0.7 < novelty(other, late, last) / novelty(other, middle, late) < 1.4
    assert third.io == third.dirty == [] and "switched off" in third.ended_because and sum(third.sizes.values())
    assert seen[-1].vms[0].written > 0 and seen[-1].seconds == pytest.approx(30, abs=0.1)
    assert store.latest(one.uuid) == one


def test_ctrl_c_keeps_what_was_seen_and_leaves_nothing(make_vm: Callable[..., Vm], store: ObservationStore) -> None:
    vm = make_vm()
    process = in_a_process(vm)
    assert len(bitmaps(vm)) == 2 * len(windows(300))
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 0 and said.endswith(b"ended\n")
    assert not bitmaps(vm)
    (observation,) = store.all()
    assert observation.ended_because == INTERRUPTED and observation.seconds > 5


def test_after_kill_the_guard_removes_the_bitmaps_and_what_was_saved_counts(
    make_vm: Callable[..., Vm], lab: Lab, store: ObservationStore
) -> None:
    vm = make_vm()
    process = in_a_process(vm)
    process.kill()
    process.wait()
    wait_until(lambda: not bitmaps(vm) and not guards(vm.data))
    (killed,) = store.all()
    assert killed.ended_at is None and killed.seconds > 3 and killed.dirty

    (again,) = observe(store, lab.site("alpha").uri, [vm.name], 3)
    assert again.id != killed.id
    assert store.get(killed.id).ended_at is not None
    assert [each.id for each in store.all(again.uuid)] == [killed.id, again.id]


@pytest.mark.parametrize("by", ["the next observation", "drover clean"])
def test_bitmaps_are_removed_even_if_the_guard_died_too(
    make_vm: Callable[..., Vm], lab: Lab, store: ObservationStore, by: str
) -> None:
    vm = make_vm()
    uri = lab.site("alpha").uri
    process = in_a_process(vm)
    with pytest.raises(InputError, match="another drover process"):
        observe(store, uri, [vm.name], 2)
    assert "another drover process" in run(vm.data, "clean", vm.name, "--from", uri).stderr
    for guard in guards(vm.data):
        os.kill(guard, signal.SIGKILL)
    process.kill()
    process.wait()
    assert bitmaps(vm)
    if by == "drover clean":
        done = run(vm.data, "clean", vm.name, "--from", uri)
        assert done.returncode == 0, done.stderr
    else:
        observe(store, uri, [vm.name], 2)
    assert not bitmaps(vm)


def test_a_vm_that_is_started_anew_is_seen_until_then(
    make_vm: Callable[..., Vm], lab: Lab, store: ObservationStore
) -> None:
    vm, other = make_vm(), make_vm()
    site = lab.site("alpha")

    def cut_power(progress: Progress) -> None:
        if not progress.vms[0].ended_because and progress.seconds > 3:
            with site.connection() as connection:
                domain = connection.lookupByName(vm.name)
                domain.destroy()
                domain.create()

    cut, whole = observe(store, site.uri, [vm.name, other.name], 8, cut_power)
    assert "started anew" in cut.ended_because and 2 < cut.seconds < 6
    assert not whole.ended_because and whole.seconds >= 7
    assert not bitmaps(vm)


def test_after_a_restart_of_libvirt_nothing_is_left(
    make_vm: Callable[..., Vm], lab: Lab, store: ObservationStore
) -> None:
    vm = make_vm()
    site = lab.site("alpha")

    def restart(progress: Progress) -> None:
        if progress.seconds > 2 and not progress.vms[0].ended_because:
            assert site.libvirtd_pid
            os.kill(site.libvirtd_pid, signal.SIGKILL)
            wait_until(lambda: site.libvirtd_pid is None)
            lab.up()

    (seen,) = observe(store, site.uri, [vm.name], 30, restart)
    assert seen.ended_because and 1 < seen.seconds < 10
    assert not bitmaps(vm) and vm.state("alpha") == "running"


def test_a_vm_that_migrates_is_not_observed(make_vm: Callable[..., Vm], lab: Lab, store: ObservationStore) -> None:
    vm = make_vm(start=False)
    site = lab.site("alpha")
    with site.connection() as connection:
        uuid = connection.lookupByName(vm.name).UUIDString()
    migrations = MigrationStore(store.folder)
    migration = migrations.add(Spec(vm=vm.name, source=site.uri, destination=site.uri), Facts(uuid=uuid))
    with pytest.raises(InputError, match=migration.id):
        observe(store, site.uri, [vm.name], 1)
    migrations.enter(migration, State.CANCELLED)
    assert observe(store, site.uri, [vm.name], 1)


def wait_until(holds: Callable[[], bool], patience: float = 20) -> None:
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)
