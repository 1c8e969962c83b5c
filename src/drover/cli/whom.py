"""Which VMs a verb is about: those that were named with their sites, or those of a plan."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from drover.errors import InputError
from drover.plans.batch import Member
from drover.plans.site import Resolved, read

Vms = Annotated[list[str] | None, typer.Argument(metavar="[VM…]", help="Names or UUIDs of the VMs.")]
From = Annotated[
    str | None, typer.Option("--from", metavar="URI", help="The site where the VMs run, as libvirt names it.")
]
To = Annotated[str | None, typer.Option("--to", metavar="URI", help="The site where they shall run.")]
PlanFile = Annotated[
    Path | None, typer.Option("--plan", metavar="FILE", help="Take VMs, sites, groups and settings from a plan.")
]
Group = Annotated[str | None, typer.Option("--group", metavar="NAME", help="Of the plan, this group alone.")]


@dataclass(frozen=True, kw_only=True)
class Whom:
    """The VMs, in order, and the sites; with a plan, what it says of them."""

    vms: list[str]
    source: str
    destination: str
    planned: Resolved | None = None

    @property
    def members(self) -> list[Member]:
        """The VMs of the plan; none without one."""
        return [] if self.planned is None else [member for batch in self.planned.batches for member in batch.members]

    @property
    def bandwidth(self) -> int | None:
        """Bytes/s of the link that the VMs of the plan may use at the same time; None if one of them has no limit."""
        limits = [member.spec.bandwidth_at(time.time()) for member in self.members]
        if self.planned is None or None in limits:
            return None
        highest = sorted((limit for limit in limits if limit is not None), reverse=True)
        return sum(highest[: self.planned.plan.at_once])


def whom(
    vms: Sequence[str] | None, source: str | None, destination: str | None, plan: Path | None, group: str | None
) -> Whom:
    """Raises InputError where VMs and a plan are mixed, or something is missing; PlatformError if a site fails."""
    if plan is None:
        return _named(vms, source, destination, group)
    if vms:
        raise InputError(
            "VMs were named, and a plan as well", remedy="give one of them; --group takes a part of a plan"
        )
    if source is not None or destination is not None:
        raise InputError("with --plan the sites come from the plan", remedy="leave --from and --to out")
    resolved = read(plan, group)
    return Whom(
        vms=[member.vm for batch in resolved.batches for member in batch.members],
        source=resolved.plan.source,
        destination=resolved.plan.destination,
        planned=resolved,
    )


def _named(vms: Sequence[str] | None, source: str | None, destination: str | None, group: str | None) -> Whom:
    if group is not None:
        raise InputError("--group is a part of a plan, and no plan was given", remedy="add --plan FILE")
    if not vms:
        raise InputError("no VM was named", remedy="name VMs, or give --plan FILE")
    if source is None:
        raise InputError("it was not said where the VMs run", remedy="add --from URI, or give --plan FILE")
    if destination is None:
        raise InputError("it was not said where the VMs shall run", remedy="add --to URI, or give --plan FILE")
    return Whom(vms=list(vms), source=source, destination=destination)
