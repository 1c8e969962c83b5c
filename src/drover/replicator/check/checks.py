"""The order of the checks, and those that need both sides."""

from collections.abc import Sequence

import libvirt

from drover.errors import InputError
from drover.model.migration import Spec
from drover.model.vm import Vm
from drover.platforms.libvirt.connection import open_uri
from drover.platforms.libvirt.host import Host, host_of
from drover.platforms.libvirt.inventory import describe, find_domain
from drover.replicator.check import destination, devices, link, profile, source
from drover.replicator.check.report import Report
from drover.store import MigrationStore

_CLOCK_SLACK = 3600.0
"""Seconds that the hosts' clocks may differ: certificates allow a day, logs should still be readable."""


def check(spec: Spec, store: MigrationStore, device_paths: Sequence[str] = ()) -> tuple[Report, Vm]:
    """Looks at everything that a migration needs, changes nothing. Raises InputError for what cannot be looked at.

    `device_paths` are those of transport devices at the source's host.
    """
    if _same(spec.source, spec.destination):
        raise InputError(f"the source and the destination are the same site, {spec.source}", remedy="give two sites")
    with_source, with_destination = open_uri(spec.source), open_uri(spec.destination)
    hosts = host_of(spec.source), host_of(spec.destination)
    try:
        domain = find_domain(with_source, spec.vm)
        vm = describe(domain)
        _not_migrating(spec, vm, store)
        report = Report()
        source.check(report, domain, vm, hosts[0])
        with report.looking_at("destination"):
            profile.check(report, with_destination, vm, domain, spec, store)
            destination.check(report, with_destination, vm, domain, spec)
        if device_paths:
            devices.check(report, hosts[0], device_paths, vm, spec, store)
        with report.looking_at("clocks"):
            _clocks(report, *hosts)
        if report.passed:
            with report.looking_at("engines"):
                link.check(report, spec, hosts)
        return report, vm
    finally:
        for host in hosts:
            host.close()
        _close(with_source, with_destination)


def _same(one: str, other: str) -> bool:
    return one.rstrip("/") == other.rstrip("/")


def _not_migrating(spec: Spec, vm: Vm, store: MigrationStore) -> None:
    for migration in store.all(include_ended=False):
        if migration.facts.uuid == vm.uuid:
            raise InputError(
                f"{vm.name} is already migrating as {migration.id} ({migration.state})",
                remedy=f"go on with `drover resume {migration.id}`, or end it with `drover cancel {migration.id}`",
            )
    if spec.vm not in (vm.name, vm.uuid):
        raise InputError(f"there is no VM {spec.vm!r} at {spec.source}")


def _clocks(report: Report, *hosts: Host) -> None:
    times = [float(host.run("date", "+%s").stdout) for host in hosts]
    apart = abs(times[0] - times[1])
    if apart > _CLOCK_SLACK:
        report.bad("clocks", f"the hosts' clocks are {apart:.0f} s apart", "set them by NTP")
    else:
        report.good("clocks", f"the hosts' clocks agree to {max(apart, 1):.0f} s")


def _close(*connections: libvirt.virConnect) -> None:
    for connection in connections:
        connection.close()
