"""A running VM arrives whole: every witness pattern, every cutover mode, raw and qcow2 either way."""

import json
from collections.abc import Callable
from pathlib import Path

import libvirt
import pytest

from drover.lab import Lab
from drover.reports.gather import report
from tests.migration.drover import run
from tests.migration.world import Vm


@pytest.mark.parametrize(
    ("pattern", "cutover", "formats"),
    [
        ("append", "resume", ("raw", "qcow2")),
        ("random", "restart", ("raw", "qcow2")),
        ("rewrite-hot", "auto", ("qcow2", "raw")),
        ("idle", "restart", ("qcow2", "raw")),
    ],
)
def test_a_busy_vm_arrives_whole(
    make_vm: Callable[..., Vm], pattern: str, cutover: str, formats: tuple[str, str]
) -> None:
    vm = make_vm(pattern=pattern, formats=formats)
    finished = vm.compare_and_finish(vm.migrate("--cutover", cutover))
    assert (vm.state("alpha"), vm.state("beta")) == ("off", "running")
    vm.assert_witness()
    assert finished["cutover"] == {"auto": "resume"}.get(cutover, cutover)
    certificate = json.loads(Path(finished["certificate"]).read_text())
    assert certificate["vm"] == vm.name
    assert certificate["downtime_seconds"] == finished["downtime_seconds"] > 0
    assert [vdisk["destination"]["format"] for vdisk in certificate["vdisks"]] == ["qcow2", "raw"]
    for vdisk in certificate["vdisks"]:
        assert vdisk["source"]["root"] == vdisk["destination"]["root"]
        assert len(vdisk["source"]["root"]) == 64
    (reported,) = report("all", folder=vm.data).migrations
    assert reported.downtime is not None and reported.downtime.seconds == finished["downtime_seconds"]
    moved = reported.moved
    assert moved.background > 1 << 20 and moved.wire > 1 << 20
    assert pattern == "idle" or (moved.foreground > 0 and reported.epochs.bytes > 0)
    assert reported.epochs.number == certificate["epochs"] > 0
    assert reported.rates.peak > 0 and not reported.errors


def test_manual_cutover_leaves_the_start_to_the_administrator(make_vm: Callable[..., Vm], lab: Lab) -> None:
    vm = make_vm(pattern="random")
    process = vm.migrate("--cutover", "manual")
    finished = process.finish()
    assert (vm.state("alpha"), vm.state("beta")) == ("off", "off")
    assert finished["downtime_seconds"] is None
    vm.compare(process.events[0]["vdisks"])
    lab.site("beta").start(vm.name)
    vm.assert_witness()


def test_the_vm_keeps_its_identity_and_gets_the_mapped_network(make_vm: Callable[..., Vm], lab: Lab) -> None:
    vm = make_vm(pattern="idle")
    profiles = {}
    with lab.site("alpha").connection() as connection:
        domain = connection.lookupByName(vm.name)
        domain.setAutostart(1)
        profiles["before"] = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        uuid = domain.UUIDString()
    vm.migrate("--cutover", "restart").finish()
    with lab.site("beta").connection() as connection:
        domain = connection.lookupByName(vm.name)
        profile = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        assert domain.UUIDString() == uuid
        assert domain.autostart() == 1
        assert domain.isPersistent()
    mac = profiles["before"].split("<mac address='")[1].split("'")[0]
    assert mac in profile
    assert "network='beta-net'" in profile


def test_the_source_is_kept_and_does_not_start_by_accident(make_vm: Callable[..., Vm], lab: Lab) -> None:
    vm = make_vm(pattern="append")
    vm.migrate("--cutover", "restart").finish()
    with lab.site("alpha").connection() as connection:
        domain = connection.lookupByName(vm.name)
        assert domain.autostart() == 0
        with pytest.raises(libvirt.libvirtError, match="migrated by Drover"):
            domain.create()
    again = run(vm.data, *vm.arguments)
    assert again.returncode == 3
    assert "was migrated to" in again.stdout


def test_a_vm_that_is_shut_off_arrives_shut_off(make_vm: Callable[..., Vm]) -> None:
    vm = make_vm(start=False)
    process = vm.migrate()
    process.finish()
    assert (vm.state("alpha"), vm.state("beta")) == ("off", "off")
    vm.compare(process.events[0]["vdisks"])
