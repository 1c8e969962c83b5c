"""What a plan wishes of the order of its batches, found without asking a site: so it can be read anew while it runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from drover.errors import InputError
from drover.model.order import Pin
from drover.model.plan import Override, Plan
from drover.plans.select import Named, select


@dataclass(frozen=True, kw_only=True)
class Vms:
    """A batch and the VMs in it."""

    name: str
    group: bool
    vms: Sequence[Named]


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is wished of a batch."""

    priority: int = 0
    pin: Pin | None = None
    after: tuple[str, ...] = ()


def wishes(plan: Plan, batches: Sequence[Vms]) -> dict[str, Wish]:
    """By name of a batch.

    Raises InputError if one of them is a group that the plan does not have, or if a VM of a group is given what is its
    group's to say.
    """
    groups = {group.group: group for group in plan.groups}
    found: dict[str, Wish] = {}
    for batch in batches:
        if not batch.group:
            found[batch.name] = Wish()
        elif batch.name in groups:
            said = groups[batch.name]
            found[batch.name] = Wish(priority=said.priority, pin=said.pin, after=said.after)
        else:
            raise InputError(
                f"the plan {plan.plan} has no group {batch.name!r}, which it had when it began",
                remedy="keep it until its VMs are migrated",
            )
    for number, exception in enumerate(plan.exceptions):
        if exception.priority is not None or exception.pin is not None:
            _except(found, batches, exception, f"exceptions[{number}]", plan.plan)
    return found


def _except(found: dict[str, Wish], batches: Sequence[Vms], exception: Override, where: str, plan: str) -> None:
    places = {vm.uuid: batch for batch in batches for vm in batch.vms}
    everything = [vm for batch in batches for vm in batch.vms]
    for vm in select(exception.vms, everything, f"the plan {plan}", but_for=exception.excluded):
        batch = places[vm.uuid]
        if batch.group:
            raise InputError(
                f"{where} gives {vm.name} a priority or a pin, and it goes with the group {batch.name}",
                remedy="give it to the group",
            )
        before = found[batch.name]
        priority = before.priority if exception.priority is None else exception.priority
        found[batch.name] = Wish(priority=priority, pin=exception.pin or before.pin, after=before.after)
