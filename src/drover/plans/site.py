"""A plan against the VMs that it names, as they are at its source."""

import xml.etree.ElementTree as ET
from dataclasses import dataclass, replace
from pathlib import Path

import libvirt

from drover.model.plan import Plan
from drover.model.vm import UNLABELLED, Labels, Vm
from drover.plans.batch import Batch, of_group
from drover.plans.file import load
from drover.plans.resolve import resolve
from drover.plans.select import asks_for_labels, select
from drover.platforms.libvirt.connection import doing, open_uri
from drover.platforms.libvirt.inventory import describe
from drover.platforms.libvirt.labels import labels_of


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
    labels: Labels


def read(path: Path, group: str | None = None) -> Resolved:
    """The plan in this file, or one group of it, at its source now. Raises InputError, PlatformError."""
    resolved = at_source(load(path))
    return resolved if group is None else replace(resolved, batches=of_group(resolved.batches, group))


def at_source(plan: Plan) -> Resolved:
    """A plan at its source now. Raises InputError, PlatformError."""
    vms = look(plan)
    return Resolved(plan=plan, vms={vm.uuid: vm for vm in vms}, batches=resolve(plan, vms))


def look(plan: Plan) -> list[Vm]:
    """The VMs that a plan names; of the others at its source nothing but names and labels is asked.

    Raises InputError, PlatformError.
    """
    connection = open_uri(plan.source)
    try:
        with doing(f"listing the VMs of {plan.source}"):
            words = [word for group in plan.groups for word in group.vms] + list(plan.vms)
            labelled = asks_for_labels(words)
            listed = [_listed(domain, labelled) for domain in connection.listAllDomains()]
        listed.sort(key=lambda one: one.name)
        return [describe(one.domain) for one in select(words, listed, plan.source)]
    finally:
        connection.close()


def _listed(domain: libvirt.virDomain, labelled: bool) -> _Listed:
    labels = labels_of(ET.fromstring(domain.XMLDesc(0))) if labelled else UNLABELLED
    return _Listed(domain.name(), domain.UUIDString(), domain, labels)
