"""Whatever dies, whenever: the VM does not stop, no write is lost, and only what is needed is sent again."""

import os
import signal
import time
from collections.abc import Callable

import pytest

from drover.lab import Lab
from tests.migration.drover import Drover, Event, run
from tests.migration.world import Vm, processes

SLOW = 3_000_000
"""Bytes/s of a link that lets a test act in the middle of a background of some 30 MiB on the wire."""


def in_background(share: float) -> Callable[[Event], bool]:
    """Whether background replication is that far."""
    return lambda event: event["event"] == "progress" and event["size"] > 0 and event["done"] >= share * event["size"]


def in_epoch(event: Event) -> bool:
    """Whether foreground replication has turned an epoch."""
    return event["event"] == "progress" and event["epoch"] >= 2


def kill_engine(lab: Lab, role: str) -> None:
    """`kill -9` of the engine at one side."""
    for pid, words in processes(lab).items():
        if words[0].endswith(f"-{role}/drover-engine".encode()):
            os.kill(pid, signal.SIGKILL)
            return
    raise AssertionError(f"no {role} engine runs")


def resume_and_check(vm: Vm, process: Drover, *options: str) -> Event:
    """Goes on after `kill -9` of drover; the end must be as if nothing had happened."""
    migration = next(event["migration"] for event in process.events if "migration" in event)
    return finish_and_check(vm, vm.resume(migration, *options))


def finish_and_check(vm: Vm, process: Drover) -> Event:
    finished = process.finish()
    assert (vm.state("alpha"), vm.state("beta")) == ("off", "running")
    vm.assert_witness()
    return finished


def test_a_link_that_is_cut_in_the_background_and_healed_costs_only_the_cut(
    make_vm: Callable[..., Vm], lab: Lab
) -> None:
    vm = make_vm()
    lab.link.set(rate=SLOW)
    process = vm.migrate("--cutover", "restart")
    process.wait_for(in_background(0.3))
    lab.link.cut()
    process.wait_for(lambda event: event["event"] == "progress" and not event["link"].startswith("up"))
    lab.link.heal()
    lab.link.set(rate=None)
    vm.compare_and_finish(process)
    vm.assert_witness()


def test_a_link_that_is_cut_between_epochs_and_healed_loses_no_write(make_vm: Callable[..., Vm], lab: Lab) -> None:
    vm = make_vm(pattern="rewrite-hot", rate=80)
    process = vm.migrate("--cutover", "resume", "--max-downtime", "1ms")
    process.wait_state("ready")
    lab.link.cut()
    process.wait_for(lambda event: event["event"] == "progress" and not event["link"].startswith("up"))
    lab.link.heal()
    process.wait_for(lambda event: event["event"] == "progress" and event["link"] == "up")
    process.kill()
    resume_and_check(vm, process, "--max-downtime", "60s")


@pytest.mark.parametrize("role", ["source", "destination"])
def test_an_engine_that_is_killed_in_the_background_is_started_again(
    make_vm: Callable[..., Vm], lab: Lab, role: str
) -> None:
    vm = make_vm()
    lab.link.set(rate=SLOW)
    process = vm.migrate("--cutover", "restart")
    progress = process.wait_for(in_background(0.4))
    kill_engine(vm.lab, role)
    lab.link.set(rate=None)
    vm.compare_and_finish(process)
    vm.assert_witness()
    assert progress["sent"] > 0


@pytest.mark.parametrize("role", ["source", "destination"])
def test_an_engine_that_is_killed_between_epochs_loses_no_write(make_vm: Callable[..., Vm], role: str) -> None:
    vm = make_vm(pattern="rewrite-hot", rate=80)
    process = vm.migrate("--cutover", "restart", "--max-downtime", "1ms")
    process.wait_state("ready")
    kill_engine(vm.lab, role)
    process.wait_for(lambda event: event["event"] == "message" and "starting it again" in event["text"])
    process.wait_state("ready")
    process.kill()
    resume_and_check(vm, process, "--max-downtime", "60s")


@pytest.mark.parametrize("role", ["source", "destination"])
@pytest.mark.parametrize("state", ["cutting over", "verifying", "starting"])
def test_an_engine_that_is_killed_in_the_cutover_gives_the_vm_back_or_loses_nothing(
    make_vm: Callable[..., Vm], role: str, state: str
) -> None:
    vm = make_vm(pattern="append")
    process = vm.migrate("--cutover", "resume")
    process.wait_state(state)
    kill_engine(vm.lab, role)
    if process.wait(240) != 0:
        # Killed while the memory was under way: the VM runs on at the source, and drover says how to go on.
        assert vm.state("alpha") == "running"
        process = vm.resume(process.events[0].get("migration") or process.events[-2]["migration"])
    finish_and_check(vm, process)


@pytest.mark.parametrize(
    ("cutover", "state"),
    [
        *(
            ("resume", state)
            for state in ("preparing", "replicating", "ready", "cutting over", "verifying", "starting")
        ),
        *(("restart", state) for state in ("cutting over", "verifying", "starting")),
        *(pytest.param("restart", state, marks=pytest.mark.soak) for state in ("preparing", "replicating", "ready")),
    ],
)
def test_drover_killed_in_any_state_goes_on(make_vm: Callable[..., Vm], state: str, cutover: str) -> None:
    vm = make_vm(pattern="random")
    process = vm.migrate("--cutover", cutover)
    process.wait_state(state)
    process.kill()
    if state in ("preparing", "replicating", "ready"):
        assert vm.state("alpha") == "running"
    resume_and_check(vm, process)


def test_a_vm_paused_for_cutover_runs_on_when_drover_is_killed(make_vm: Callable[..., Vm], lab: Lab) -> None:
    vm = make_vm(pattern="rewrite-hot", rate=100)
    process = vm.migrate("--cutover", "resume", "--max-downtime", "10m")
    process.wait_state("ready")
    lab.link.set(rate=30_000)
    process.wait_state("cutting over")
    time.sleep(0.3)
    process.kill()
    deadline = time.monotonic() + 15
    while vm.state("alpha") != "running" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert vm.state("alpha") == "running"
    lab.link.set(rate=None)
    resume_and_check(vm, process)


def test_resume_sends_only_what_is_missing(make_vm: Callable[..., Vm], lab: Lab) -> None:
    vm = make_vm(pattern="idle")
    lab.link.set(rate=SLOW)
    process = vm.migrate("--cutover", "restart")
    progress = process.wait_for(in_background(0.6))
    process.kill()
    for role in ("source", "destination"):
        kill_engine(vm.lab, role)
    lab.link.set(rate=None)
    migration = progress["migration"]
    again = vm.resume(migration)
    first = again.wait_for(lambda event: event["event"] == "progress" and event["size"] > 0)
    assert first["done"] >= 0.4 * first["size"], "what the destination had acknowledged is not sent again"
    assert any("are stable at the destination" in event.get("text", "") for event in again.events)
    finish_and_check(vm, again)


def test_a_vm_that_is_power_cycled_is_compared_by_hash_instead_of_sent_again(
    make_vm: Callable[..., Vm], lab: Lab
) -> None:
    vm = make_vm(pattern="random")
    process = vm.migrate("--cutover", "restart", "--max-downtime", "1ms")
    ready = process.wait_state("ready")
    sent = process.wait_for(lambda event: event["event"] == "progress" and event["state"] == "ready")["sent"]
    with lab.site("alpha").connection() as connection:
        domain = connection.lookupByName(vm.name)
        domain.destroy()
        domain.create()
    process.wait_for(lambda event: event["event"] == "message" and "comparing hashes" in event["text"])
    process.wait_state("ready")
    now = process.wait_for(lambda event: event["event"] == "progress" and event["state"] == "ready")["sent"]
    assert now - sent < 0.5 * sent, "hashes travel, not the VDISKs"
    process.kill()
    resume_and_check(vm, process, "--max-downtime", "60s")
    assert ready


def test_a_vm_that_is_shut_down_meanwhile_arrives_shut_off(make_vm: Callable[..., Vm], lab: Lab) -> None:
    vm = make_vm(pattern="random")
    process = vm.migrate("--cutover", "restart", "--max-downtime", "1ms")
    process.wait_state("ready")
    with lab.site("alpha").connection() as connection:
        connection.lookupByName(vm.name).shutdown()
    process.finish()
    assert (vm.state("alpha"), vm.state("beta")) == ("off", "off")
    vm.compare(process.events[0]["vdisks"])
    lab.site("beta").start(vm.name)
    vm.assert_witness()


def test_ctrl_c_pauses_and_says_how_to_go_on(make_vm: Callable[..., Vm]) -> None:
    vm = make_vm()
    process = vm.migrate("--max-downtime", "1ms")
    process.wait_state("ready")
    process.interrupt()
    assert process.wait(30) == 130
    migration = process.events[-1]["migration"]
    shown = run(vm.data, "status", migration)
    assert "paused" in shown.stdout
    assert f"drover resume {migration}" in shown.stdout
    assert vm.state("alpha") == "running"
    finish_and_check(vm, vm.resume(migration, "--max-downtime", "60s"))
