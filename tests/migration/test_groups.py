"""Migration groups of real VMs: behind one barrier, and back to the source together."""

import subprocess
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import libvirt
import pytest

from drover.lab import Lab
from drover.model.group import Phase
from drover.model.migration import State
from drover.platforms.libvirt import power
from drover.store import GroupStore, MigrationStore
from tests.migration.drover import Drover, run
from tests.migration.world import Vm, traces

STRANGER = "<domain type='qemu'><name>{}</name><memory>1024</memory><os><type arch='x86_64'>hvm</type></os></domain>"
TOGETHER = 4.0
"""Seconds within which the VMs of a group come up; less than 2 unless other tests keep the processors busy."""


@pytest.fixture
def shop(make_vm: Callable[..., Vm]) -> list[Vm]:
    return [make_vm(pattern="append"), make_vm(pattern="idle"), make_vm(pattern="idle")]


def plan_of(vms: list[Vm], folder: Path, *, cutover: str, more: str = "") -> Path:
    alpha, beta = vms[0].lab.site("alpha"), vms[0].lab.site("beta")
    file = folder / "plan.yaml"
    file.write_text(
        f"version: 1\nplan: move\nfrom: {alpha.uri}\nto: {beta.uri}\n"
        f"networks: {{{alpha.network}: {beta.network}}}\npools: {{'*': raw, vda: qcow2}}\n"
        f"settings: {{cutover: {cutover}, max_downtime: 2m}}\n"
        f"groups:\n  - group: shop\n    vms: [{', '.join(vm.name for vm in vms)}]\n{more}"
    )
    return file


def started(vms: list[Vm]) -> dict[str, float]:
    """When each VM started at the destination, Unix seconds."""
    found = {}
    for migration in MigrationStore(vms[0].data).all():
        assert migration.state is State.FINISHED and migration.facts.cutover is not None
        assert migration.facts.cutover.started_at is not None
        found[migration.spec.vm] = migration.facts.cutover.started_at
    assert found.keys() == {vm.name for vm in vms}
    return found


@pytest.mark.parametrize("cutover", ["resume", pytest.param("restart", marks=pytest.mark.soak)])
def test_one_that_cannot_start_takes_all_back_and_a_second_try_brings_all_up_together(
    shop: list[Vm], lab: Lab, tmp_path: Path, cutover: str
) -> None:
    file = plan_of(shop, tmp_path, cutover=cutover)
    process = Drover(shop[0].data, "plan", "run", str(file))
    process.wait_state("replicating")
    with lab.site("beta").connection() as connection:
        stranger = power.define(connection, STRANGER.format(shop[1].name))
        assert process.wait(240) == 1
        assert process.events[-1]["unfinished"] == ["shop"], process.events[-3:]
        assert any("already exists" in event.get("error", "") for event in process.events)
        told = [event for event in process.events if event["event"] in ("message", "error")]
        assert [vm.state("alpha") for vm in shop] == ["running"] * 3, told[-12:]
        assert [vm.state("beta") for vm in shop] == [None, "off", None]
        stranger.undefine()
    again = Drover(shop[0].data, "plan", "run", str(file))
    assert again.finish()["finished"] is True
    times = started(shop)
    assert max(times.values()) - min(times.values()) < TOGETHER, times
    for vm in shop:
        assert (vm.state("alpha"), vm.state("beta")) == ("off", "running")
        vm.assert_witness()
        assert not traces(lab, vm.name)


def profile_at(site: str, vm: Vm, name: str) -> ET.Element:
    with vm.lab.site(site).connection() as connection:
        return ET.fromstring(connection.lookupByName(name).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))


def test_a_group_arrives_equal_in_its_window_and_one_with_another_profile(shop: list[Vm], tmp_path: Path) -> None:
    opens = time.time() + 20
    window = [datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S") for at in (opens, opens + 7200)]
    other, there = shop[2], f"{shop[2].name}-m"
    more = (
        f"windows: [{{from: {window[0]}, to: {window[1]}, timezone: UTC}}]\nexceptions:\n  - vms: [{other.name}]\n"
        "    profile: {name: '{name}-m', cpus: 2, memory: 160MiB, mac: new, autostart: on}\n"
    )
    process = Drover(shop[0].data, "plan", "run", str(plan_of(shop, tmp_path, cutover="manual", more=more)))
    assert process.finish()["finished"] is True
    checks = {event["vm"]: event["vdisks"] for event in process.events if event["event"] == "check"}
    begun = [one.facts.cutover.stopping_at for one in MigrationStore(shop[0].data).all() if one.facts.cutover]
    assert len(begun) == 3 and min(begun) >= int(opens)
    waited = [event for event in process.events if "waiting for the window" in str(event.get("holding"))]
    readied = [event["at"] for event in process.events if event.get("state") == "ready"]
    assert waited or min(readied) > opens - 1, "whoever was ready before said what is waited for"
    before, after = profile_at("alpha", other, other.name), profile_at("beta", other, there)
    assert (after.findtext("vcpu"), after.findtext("memory"), after.findtext("uuid")) == (
        "2", str(160 << 10), before.findtext("uuid"),
    )  # fmt: skip
    addresses = [[mac.get("address") for mac in profile.iter("mac")] for profile in (before, after)]
    assert len(addresses[0]) == len(addresses[1]) > 0 and not set(addresses[0]) & set(addresses[1])
    with other.lab.site("beta").connection() as connection:
        domain = connection.lookupByName(there)
        assert domain.autostart() == 1
        # What follows looks for it by the name that it had.
        domain.setAutostart(0)
        domain.rename(other.name, 0)
    for vm in shop:
        assert (vm.state("alpha"), vm.state("beta")) == ("off", "off")
        vm.compare(checks[vm.name])
        with vm.lab.site("beta").connection() as connection:
            connection.lookupByName(vm.name).create()
    for vm in shop:
        vm.assert_witness()


@pytest.mark.soak
def test_a_group_starts_in_turns(shop: list[Vm], tmp_path: Path) -> None:
    first, second, third = shop
    turns = f"    power_on:\n      - vms: [{second.name}]\n      - {{vms: [{third.name}], after: 3s}}\n"
    process = Drover(first.data, "plan", "run", str(plan_of(shop, tmp_path, cutover="restart", more=turns)))
    assert process.finish()["finished"] is True
    times = started(shop)
    assert times[second.name] + 3 <= times[third.name] <= times[first.name] + 1, times
    for vm in shop:
        vm.assert_witness()


@pytest.mark.soak
def test_a_member_that_is_killed_goes_on_with_its_group(shop: list[Vm], tmp_path: Path) -> None:
    process = Drover(shop[0].data, "plan", "run", str(plan_of(shop, tmp_path, cutover="resume")))
    event = process.wait_state("ready")
    subprocess.run(["pkill", "-KILL", "-f", f"drover resume {event['migration']} "], check=True)
    assert process.finish()["finished"] is True
    for vm in shop:
        assert (vm.state("alpha"), vm.state("beta")) == ("off", "running")
        vm.assert_witness()


def test_the_vms_wait_for_the_slowest_and_run_meanwhile(shop: list[Vm], tmp_path: Path) -> None:
    slow = f"exceptions:\n  - vms: [{shop[0].name}]\n    settings: {{max_downtime: 10ms}}\n"
    process = Drover(shop[0].data, "plan", "run", str(plan_of(shop, tmp_path, cutover="resume", more=slow)))
    process.wait_for(lambda event: f"waits for {shop[0].name}" in str(event.get("holding")))
    time.sleep(3)
    assert [vm.state("alpha") for vm in shop] == ["running"] * 3
    (group,) = GroupStore(shop[0].data).all()
    assert group.phase is Phase.GATHERING
    process.interrupt()
    assert process.wait(60) == 130
    migrations = MigrationStore(shop[0].data).all()
    assert {migration.state for migration in migrations} == {State.PAUSED}
    for migration in migrations:
        assert run(shop[0].data, "cancel", migration.id).returncode == 0
    assert [vm.state("alpha") for vm in shop] == ["running"] * 3
