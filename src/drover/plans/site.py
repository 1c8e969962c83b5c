"""A plan against the VMs that it names, as they are at its source."""

from dataclasses import dataclass, replace
from pathlib import Path

import libvirt

from drover.model.plan import Plan
from drover.model.vm import Vm
from drover.plans.batch import Batch, of_group
from drover.plans.file import load
from drover.plans.resolve import resolve
from drover.plans.select import select
from drover.platforms.libvirt.connection import doing, open_uri
from drover.platforms.libvirt.inventory import describe


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """A plan, its VMs by UUID, and the batches that they form: of the whole plan, or of one group."""

    plan: Plan
    vms: dict[str, Vm]
    batches: list[Batch]


@dataclass(frozen=True)
class _Listed:
    name: str
    uuid: str
    domain: libvirt.virDomain


def read(path: Path, group: str | None = None) -> Resolved:
    """The plan in this file, or one group of it, at its source now. Raises InputError, PlatformError."""
    resolved = at_source(load(path))
    return resolved if group is None else replace(resolved, batches=of_group(resolved.batches, group))


def at_source(plan: Plan) -> Resolved:
    """A plan at its source now. Raises InputError, PlatformError."""
    vms = look(plan)
    return Resolved(plan=plan, vms={vm.uuid: vm for vm in vms}, batches=resolve(plan, vms))


def look(plan: Plan) -> list[Vm]:
    """The VMs of the plan; the others at its source are not asked. Raises InputError, PlatformError."""
    connection = open_uri(plan.source)
    try:
        with doing(f"listing the VMs of {plan.source}"):
            listed = [_Listed(domain.name(), domain.UUIDString(), domain) for domain in connection.listAllDomains()]
        listed.sort(key=lambda one: one.name)
        words = [word for group in plan.groups for word in group.vms] + list(plan.vms)
        return [describe(one.domain) for one in select(words, listed, plan.source)]
    finally:
        connection.close()
