"""What the administrator set holds: gate, bandwidth, room in a pool; and it is taken off again."""

import subprocess
import time
from collections.abc import Callable

import libvirt

from drover.lab import Lab
from tests.migration.drover import Drover, run
from tests.migration.world import Vm, traces


def test_a_gate_that_does_not_open_holds_and_says_what_would_open_it(make_vm: Callable[..., Vm]) -> None:
    vm = make_vm(pattern="idle")
    process = vm.migrate("--cutover", "restart", "--max-downtime", "1ms", "--target-time", "3s")
    error = process.fail()
    assert "--max-downtime" in error["error"]
    assert "drover resume" in error["remedy"]
    assert vm.state("alpha") == "running"
    migration = next(event["migration"] for event in process.events if "migration" in event)
    vm.resume(migration, "--max-downtime", "60s", "--target-time", "2m").finish()
    vm.assert_witness()


def test_bandwidth_is_kept(make_vm: Callable[..., Vm]) -> None:
    vm = make_vm(pattern="idle")
    begun = time.monotonic()
    process = vm.migrate("--cutover", "manual", "--bandwidth", "32mbit")
    finished = process.finish()
    assert finished["sent_bytes"] / (time.monotonic() - begun) <= 4_000_000 * 1.1


def test_a_pool_without_room_is_found_before_anything_is_changed(make_vm: Callable[..., Vm], lab: Lab) -> None:
    vm = make_vm(pattern="idle")
    lab.small_pool("beta", "tiny", 8 << 20)
    refused = run(vm.data, *vm.sites, "--pool", "tiny")
    assert refused.returncode == 3
    assert "tiny" in refused.stderr
    assert traces(lab, vm.name) == []


def test_a_pool_that_fills_up_pauses_with_the_reason_and_goes_on_when_cured(
    make_vm: Callable[..., Vm], lab: Lab
) -> None:
    vm = make_vm(pattern="random")
    folder = lab.small_pool("beta", "filling", 160 << 20)
    beta = lab.site("beta")
    lab.link.set(rate=4_000_000)
    process = Drover(vm.data, *vm.sites, "--pool", "filling", "--format", "raw", "--cutover", "restart")
    process.wait_state("replicating")
    filler = f"{folder}/filler"
    subprocess.run(beta.enter("sh", "-c", f"cat /dev/zero > {filler}"), check=False, capture_output=True)
    lab.link.set(rate=None)
    error = process.fail()
    assert "no_space" in error["error"]
    assert vm.state("alpha") == "running"
    subprocess.run(beta.enter("rm", filler), check=True)
    migration = next(event["migration"] for event in process.events if "migration" in event)
    vm.resume(migration).finish()
    vm.assert_witness()


def test_cancel_leaves_the_source_as_it_was_and_deletes_the_copies(make_vm: Callable[..., Vm], lab: Lab) -> None:
    vm = make_vm(pattern="random")
    with lab.site("alpha").connection() as connection:
        before = connection.lookupByName(vm.name).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    process = vm.migrate("--max-downtime", "1ms")
    process.wait_state("ready")
    process.kill()
    cancelled = run(vm.data, "cancel", process.events[-1]["migration"])
    assert cancelled.returncode == 0, cancelled.stderr
    assert vm.state("alpha") == "running"
    assert vm.state("beta") is None
    assert traces(lab, vm.name) == []
    with lab.site("alpha").connection() as connection:
        assert connection.lookupByName(vm.name).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE) == before
    with lab.site("beta").connection() as connection:
        for pool in connection.listAllStoragePools():
            pool.refresh()
            assert not [name for name in pool.listVolumes() if name.startswith(vm.name)]
    again = run(vm.data, "cancel", process.events[-1]["migration"])
    assert again.returncode == 2
