"""Whether several VMs can be migrated, each for itself and all together."""

from collections.abc import Callable, Sequence
from typing import Protocol

from drover.errors import CheckError, InputError
from drover.model.migration import Spec
from drover.model.vm import Vm
from drover.replicator.check.checks import check
from drover.replicator.check.pools import room_for_all
from drover.replicator.check.report import Report
from drover.store import MigrationStore

Check = Callable[[Sequence[Spec]], list[Report]]
"""Checks VMs, all together; raises CheckError if one cannot be migrated."""


class Listener(Protocol):
    """Hears what is found as it is found."""

    def looks_at(self, vm: str) -> None: ...

    def found(self, vm: Vm, report: Report) -> None: ...

    def room(self, report: Report) -> None: ...


def check_all(
    specs: Sequence[Spec], store: MigrationStore, devices: Sequence[str], listener: Listener
) -> list[tuple[Vm, Report]]:
    """Checks every VM. Raises CheckError if one cannot be migrated, or not all together; InputError if one is twice."""
    found: list[tuple[Vm, Report]] = []
    for spec in specs:
        listener.looks_at(spec.vm)
        report, vm = check(spec, store, devices)
        if any(vm.uuid == other.uuid for other, _ in found):
            raise InputError(f"{vm.name} was named twice", remedy="name each VM once")
        found.append((vm, report))
        listener.found(vm, report)
    if failed := [vm.name for vm, report in found if not report.passed]:
        raise CheckError(
            f"{', '.join(failed)} cannot be migrated as asked, so that nothing was begun",
            remedy="do what the checks say, or leave them out",
        )
    if len(found) > 1:
        room = room_for_all({vm.name: report for vm, report in found})
        listener.room(room)
        room.require()
    return found
