"""Checks of what a plan changes of a VM's profile: the name is free, the destination has what it takes."""

import contextlib
import xml.etree.ElementTree as ET

import libvirt

from drover.model.migration import Spec
from drover.model.profile import Mac
from drover.model.units import format_size
from drover.model.vm import Vm
from drover.platforms.libvirt.changes import obstacles
from drover.platforms.libvirt.connection import doing
from drover.replicator.check.report import Report
from drover.store import MigrationStore

_LONGEST = 200
"""Characters of a name: longer ones make files that no file system takes."""


def check(
    report: Report,
    connection: libvirt.virConnect,
    vm: Vm,
    domain: libvirt.virDomain,
    spec: Spec,
    store: MigrationStore,
) -> None:
    """`connection` is the destination's, the domain is at the source."""
    _name(report, connection, vm, spec, store)
    profile = spec.profile
    xml = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    for words, remedy in obstacles(xml, profile):
        report.bad("profile", words, remedy)
    if profile.cpus is not None:
        _cpus(report, connection, vm, profile.cpus)
    if (memory := profile.memory_bytes) is not None:
        _memory(report, connection, memory)
    if profile.mac is Mac.NEW:
        report.good("MAC addresses", "new ones")
    if profile.off:
        report.good("start", f"{vm.name} stays shut off at the destination until somebody starts it")


def _name(report: Report, connection: libvirt.virConnect, vm: Vm, spec: Spec, store: MigrationStore) -> None:
    name = spec.profile.named(vm.name)
    for look, key in ((connection.lookupByUUIDString, vm.uuid), (connection.lookupByName, name)):
        with contextlib.suppress(libvirt.libvirtError):
            found = look(key)
            report.bad(
                "name",
                f"the destination already has a VM {found.name()} ({found.UUIDString()})",
                "both URIs may lead to the same site; else rename or undefine that one, or give this one another name",
            )
            return
    for other in store.all(include_ended=False):
        if other.spec.destination == spec.destination and other.spec.name_there == name:
            report.bad("name", f"{other.id} brings {other.spec.vm} there as {name}", "give one of them another name")
            return
    if len(name) > _LONGEST:
        report.bad("name", f"{name} has {len(name)} characters", f"at most {_LONGEST} make the names of its files")
    else:
        becomes = "" if name == vm.name else f"{vm.name} becomes {name}, which "
        report.good("name", f"{becomes or name + ' '}is free at the destination")


def _cpus(report: Report, connection: libvirt.virConnect, vm: Vm, cpus: int) -> None:
    with doing("asking how many processors a VM may have"):
        answer = connection.getDomainCapabilities(None, vm.arch, vm.machine, vm.virtualisation)
    most = ET.fromstring(answer).find("vcpu")
    limit = cpus if most is None else int(most.get("max", cpus))
    if cpus > limit:
        report.bad("processors", f"the destination gives a VM of this kind {limit} at most", f"ask for {limit} or less")
    else:
        report.good("processors", f"{cpus}")


def _memory(report: Report, connection: libvirt.virConnect, memory: int) -> None:
    with doing("asking how much memory the destination's host has"):
        there = connection.getInfo()[1] << 20
    if memory > there:
        report.bad(
            "memory",
            f"the VM shall have {format_size(memory)}, and the destination's host has {format_size(there)}",
            "ask for less, or choose another host",
        )
    else:
        report.good("memory", format_size(memory))
