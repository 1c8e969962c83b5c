"""The content of real VDISKs, running and switched off, is told as it is, and the sampling leaves nothing."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from drover.errors import DroverError
from drover.estimator.observe import observe
from drover.estimator.sampling import sample
from drover.lab import Lab
from drover.store import ObservationStore
from tests.estimator.test_observe import wait_until
from tests.migration.world import Vm, guards, traces

_SCRIPT = """
import sys
from drover.estimator.sampling import sample
from drover.store import ObservationStore
say = lambda done, of: print("read", flush=True) if done else None
sample(ObservationStore(), sys.argv[1], sys.argv[2], rate=1 << 20, on_progress=say)
"""


@pytest.fixture
def store(tmp_path: Path) -> ObservationStore:
    return ObservationStore(tmp_path)


@pytest.mark.parametrize("running", [True, False])
def test_a_small_vm_is_read_whole(make_vm: Callable[..., Vm], lab: Lab, store: ObservationStore, running: bool) -> None:
    vm = make_vm(pattern="idle", start=running, formats=("qcow2", "raw"))
    uri = lab.site("alpha").uri
    (seen,) = observe(store, uri, [vm.name], 1)
    found = {one.vdisk: one for one in sample(store, uri, seen.id)}
    assert set(found) == {"vda", "vdb"}
    for content in found.values():
        assert 0 < content.allocated <= content.size == seen.sizes[content.vdisk]
        assert content.chunks >= content.allocated // (512 << 10)
        # Nearly all was read: little is left to guess.
        assert content.zero.high - content.zero.low < 0.1
        assert 0 < content.ratios["zstd"].value <= content.ratios["lz4"].value < 1.1
        assert content.speeds["lz4"] > 0 and content.read_rate > 0
    assert store.get(seen.id).content == list(found.values())
    assert sum(len(one.chunks) for one in store.samples(seen.id)) == sum(one.chunks for one in found.values())
    # What `make_vm` looks at is left by nothing of it.
    assert not traces(lab, vm.name) and not guards(vm.data)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_a_sampling_that_is_ended(
    make_vm: Callable[..., Vm], lab: Lab, store: ObservationStore, how: signal.Signals
) -> None:
    vm = make_vm(formats=("qcow2", "raw"))
    uri = lab.site("alpha").uri
    (seen,) = observe(store, uri, [vm.name], 1)
    process = subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, uri, seen.id], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "DROVER_DATA": str(vm.data)},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"read\n"
    assert traces(lab, vm.name)
    process.send_signal(how)
    process.communicate(timeout=30)
    wait_until(lambda: not traces(lab, vm.name))
    wait_until(lambda: not guards(vm.data))


def test_an_engine_that_cannot_read_says_so(
    make_vm: Callable[..., Vm], lab: Lab, store: ObservationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = make_vm()
    uri = lab.site("alpha").uri
    (seen,) = observe(store, uri, [vm.name], 1)
    nothing = {name: {"type": "file", "path": "/nothing", "create": False} for name in ("vda", "vdb")}
    monkeypatch.setattr("drover.estimator.sampling.live_volumes", lambda *_: nothing)
    with pytest.raises(DroverError, match="/nothing"):
        sample(store, uri, seen.id)
    assert store.get(seen.id).content == []
