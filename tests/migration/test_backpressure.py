"""Replication backpressure keeps the background to a latency budget, write backpressure slows the VM where it may."""

import itertools
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import libvirt

from drover.lab import Lab
from drover.replicator.pacer import FLOOR
from tests.migration.drover import Drover, Event, run
from tests.migration.world import Vm, guards, histograms, traces

LINK = 16_000_000
"""Bytes/s of the link while the background's rate is looked at."""
NARROW = 3_200_000
"""Bytes/s of a link that carries less than the VM dirties."""
WRITING = ["--cutover", "restart", "--max-downtime", "17s"]
OWN = {
    "write_bytes_sec": 40_000_000,
    "read_bytes_sec": 50_000_000,
    "read_bytes_sec_max": 60_000_000,
    "read_bytes_sec_max_length": 2,
}
"""Limits that the administrator set herself."""


def migration_of(process: Drover) -> str:
    return str(next(event["migration"] for event in process.events if "migration" in event))


def measured(lab: Lab, vm: Vm) -> bool:
    """Whether QEMU keeps histograms of the VM's latency."""
    with lab.site("alpha").connection() as connection:
        return bool(histograms(connection.lookupByName(vm.name)))


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def set_limits(lab: Lab, name: str, limits: dict[str, int]) -> None:
    with lab.site("alpha").connection() as connection:
        flags = libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG
        connection.lookupByName(name).setBlockIoTune("vdb", limits, flags)


def limits(lab: Lab, name: str, site: str = "alpha") -> dict[str, int]:
    """The limits of the VM's records VDISK that are not 0."""
    with lab.site(site).connection() as connection:
        tune: dict[str, Any] = connection.lookupByName(name).blockIoTune("vdb", libvirt.VIR_DOMAIN_AFFECT_LIVE)
        return {key: value for key, value in tune.items() if isinstance(value, int) and value}


def paced(event: Event) -> bool:
    """Whether the background was judged by the VM's latency."""
    return event["event"] == "progress" and event["latency"] is not None and event["latency"]["now"] is not None


def test_a_tight_latency_budget_holds_the_background_back_and_leaves_nothing(
    make_vm: Callable[..., Vm], lab: Lab
) -> None:
    vm = make_vm(pattern="random", rate=200, size=192 << 20)
    lab.link.set(rate=LINK)
    process = vm.migrate("--cutover", "restart", "--max-latency", "+1%,+5ms", "--compression", "none")
    first = process.wait_for(paced)["latency"]
    assert first["measure"] == "p99"
    assert 0 < first["baseline"] < first["limit"] <= first["baseline"] * 1.011
    begun, held = time.monotonic(), process.events[-1]["sent"]
    for _ in range(20):
        progress = process.wait_for(lambda event: event["event"] == "progress")
    # It begins at the floor, pauses to measure, and falls back whenever the VM waits longer than it may.
    assert progress["sent"] - held < 0.75 * LINK * (time.monotonic() - begun)
    judged = [event["latency"] for event in process.events if paced(event)]
    allowed = [latency["background_limit"] for latency in judged]
    fell = any(later < earlier for earlier, later in itertools.pairwise(allowed))
    patient = (latency["now"] <= latency["limit"] or latency["background_limit"] <= FLOOR for latency in judged)
    assert fell or all(patient), [(latency["now"], latency["limit"], latency["background_limit"]) for latency in judged]
    assert measured(lab, vm)
    process.kill()
    wait_until(lambda: not measured(lab, vm))
    free = vm.resume(migration_of(process), "--max-latency", "off")
    free.finish()
    assert all(event["latency"] is None for event in free.events if event["event"] == "progress")
    vm.assert_witness()


def test_histograms_are_removed_even_if_the_guard_died_too(make_vm: Callable[..., Vm], lab: Lab) -> None:
    vm = make_vm(pattern="random", rate=200)
    lab.link.set(rate=LINK)
    process = vm.migrate("--max-latency", "+1%")
    process.wait_for(lambda event: event["event"] == "progress" and event["latency"] is not None)
    for guard in guards(vm.data):
        os.kill(guard, signal.SIGKILL)
    process.kill()
    assert measured(lab, vm)
    assert run(vm.data, "cancel", migration_of(process)).returncode == 0
    assert traces(lab, vm.name) == []


def test_a_vm_that_outruns_the_link_is_slowed_only_with_leave_and_gets_its_limits_back(
    make_vm: Callable[..., Vm], lab: Lab
) -> None:
    vm = make_vm(pattern="random", rate=50, size=96 << 20)
    set_limits(lab, vm.name, OWN)
    process = vm.migrate("--max-downtime", "1ms", "--compression", "none")
    process.wait_state("ready")
    process.kill()
    lab.link.set(rate=NARROW)

    refused = vm.resume(migration_of(process), *WRITING)
    event = refused.wait_for(lambda event: event["event"] == "progress" and event["prediction"] is not None)
    assert "--write-backpressure" in event["prediction"]
    assert "write rate" in event["prediction"]
    assert event["slowed"] is None
    assert limits(lab, vm.name) == OWN
    refused.kill()

    killed = vm.resume(migration_of(process), *WRITING, "--write-backpressure", "--write-floor", "64KiB/s")
    event = killed.wait_for(lambda event: event["event"] == "progress" and event["slowed"] is not None)
    assert 65536 <= event["slowed"]["limit"] == limits(lab, vm.name)["write_bytes_sec"]
    killed.kill()
    wait_until(lambda: limits(lab, vm.name) == OWN)

    process = vm.resume(migration_of(process), *WRITING)
    process.finish()
    slowed = [event["slowed"] for event in process.events if event.get("slowed")]
    assert max(each["bytes_per_second"] for each in slowed) > 0
    assert min(each["limit"] for each in slowed) >= 65536
    assert limits(lab, vm.name, "beta") == OWN
    with lab.site("beta").connection() as connection:
        free = dict.fromkeys(OWN, 0)
        connection.lookupByName(vm.name).setBlockIoTune("vdb", free, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    vm.assert_witness()
