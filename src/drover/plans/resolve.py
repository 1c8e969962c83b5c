"""A plan and the VMs of its source site become batches with a specification for each VM. No I/O."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydantic import ValidationError

from drover.errors import InputError
from drover.model.hours import Hours
from drover.model.migration import Spec
from drover.model.plan import Aims, Group, Plan
from drover.model.profile import Profile
from drover.model.texts import explained
from drover.model.units import parse_duration
from drover.model.vm import Vm
from drover.plans.batch import Batch, Member
from drover.plans.pins import sequence
from drover.plans.select import select, without
from drover.plans.wishes import Vms, wishes

ALL = "*"


@dataclass
class _Way:
    """What holds for one VM so far."""

    networks: dict[str, str] = field(default_factory=dict)
    pools: dict[str, str] = field(default_factory=dict)
    formats: dict[str, str] = field(default_factory=dict)
    settings: dict[str, object] = field(default_factory=dict)
    windows: tuple[Hours, ...] = ()
    profile: Profile = field(default_factory=Profile)

    def take(self, aims: Aims, vm: Vm, timezone: str | None) -> None:
        vdisks = {ALL, *(vdisk.name for vdisk in vm.vdisks)}
        self.networks |= {name: to for name, to in aims.networks.items() if name in vm.networks}
        self.pools = _narrowed(self.pools, aims.pools, vdisks)
        self.formats = _narrowed(self.formats, aims.formats, vdisks)
        self.settings |= aims.settings.given(timezone)
        self.profile = aims.profile.over(self.profile)
        if aims.windows is not None:
            self.windows = tuple(hours.at_home(timezone) for hours in aims.windows)


def _narrowed(before: Mapping[str, str], said: Mapping[str, str], vdisks: Collection[str]) -> dict[str, str]:
    """Who says `*` means all VDISKs, those too that were named before."""
    kept = {} if ALL in said else before
    return {**kept, **{name: to for name, to in said.items() if name in vdisks}}


def resolve(plan: Plan, vms: Sequence[Vm]) -> list[Batch]:
    """The batches of the plan, groups first, in its order; `vms` are the VMs at its source.

    Raises InputError if the plan does not fit what is there.
    """
    places: dict[str, str] = {}
    sizes: list[tuple[Group | None, list[Vm]]] = []
    kept = _kept(plan, vms)
    for group in plan.groups:
        members = select(group.vms, vms, plan.source, but_for=group.excluded)
        members = [vm for vm in members if vm.uuid in kept]
        if not members:
            raise InputError(
                f"every VM of the group {group.group} is left out", remedy="take something out of `except`"
            )
        _place(places, members, f"the group {group.group}")
        sizes.append((group, members))
    singles = [vm for vm in select(plan.vms, vms, plan.source) if vm.uuid in kept]
    _place(places, singles, "the VMs without a group")
    sizes += [(None, [vm]) for vm in singles]
    planned = [vm for _, members in sizes for vm in members]
    specs = _specs(plan, sizes, planned)
    batches = [_batch(group, members, specs) for group, members in sizes]
    _names_differ(batches)
    named = [Vms(name=b.name, group=b.group, vms=vms) for b, (_, vms) in zip(batches, sizes, strict=True)]
    said = wishes(plan, named)
    batches = [replace(batch, priority=said[batch.name].priority, pin=said[batch.name].pin) for batch in batches]
    sequence(batches)
    return batches


def _kept(plan: Plan, vms: Sequence[Vm]) -> set[str]:
    """UUIDs of all that the plan names and does not leave out as a whole."""
    words = [word for group in plan.groups for word in group.vms] + list(plan.vms)
    named = select(words, vms, plan.source)
    return {vm.uuid for vm in without(plan.excluded, named, f"the plan {plan.plan}")}


def _place(places: dict[str, str], vms: Sequence[Vm], place: str) -> None:
    for vm in vms:
        if vm.uuid in places:
            raise InputError(
                f"{vm.name} is in {places[vm.uuid]} and in {place}", remedy="name it in one; make a pattern narrower"
            )
        places[vm.uuid] = place


def _specs(plan: Plan, sizes: Sequence[tuple[Group | None, list[Vm]]], planned: Sequence[Vm]) -> dict[str, Spec]:
    ways = {vm.uuid: _Way() for vm in planned}
    levels: list[tuple[Aims, Sequence[Vm], str]] = [(plan, planned, "the plan")]
    levels += [(group, members, f"the group {group.group}") for group, members in sizes if group is not None]
    for number, exception in enumerate(plan.exceptions):
        where = f"the plan {plan.plan}"
        levels.append(
            (exception, select(exception.vms, planned, where, but_for=exception.excluded), f"exceptions[{number}]")
        )
    for aims, vms, where in levels:
        _keys_mean_something(aims, vms, where)
        for vm in vms:
            ways[vm.uuid].take(aims, vm, plan.timezone)
    for group, members in sizes:
        if group is not None:
            _same_windows(group, [(vm.name, ways[vm.uuid].windows) for vm in members])
    specs = {vm.uuid: _spec(plan, vm, ways[vm.uuid]) for vm in planned}
    _names_there_differ(list(specs.values()))
    return specs


def _names_there_differ(specs: Sequence[Spec]) -> None:
    seen: dict[str, str] = {}
    for spec in specs:
        if spec.name_there in seen:
            raise InputError(
                f"{seen[spec.name_there]} and {spec.vm} would both be {spec.name_there} at the destination",
                remedy="put {name} into the name of their profile, or give each its own by exceptions",
            )
        seen[spec.name_there] = spec.vm


def _same_windows(group: Group, members: Sequence[tuple[str, tuple[Hours, ...]]]) -> None:
    (first, windows), *others = members
    for vm, own in others:
        if own != windows:
            raise InputError(
                f"{first} and {vm} have different windows and are both in the group {group.group}, which cuts over as "
                "a whole",
                remedy="give the group its windows, or take one of them out of it",
            )


def _keys_mean_something(aims: Aims, vms: Sequence[Vm], where: str) -> None:
    networks = {name for vm in vms for name in vm.networks}
    vdisks = {vdisk.name for vm in vms for vdisk in vm.vdisks}
    for kind, said, known in (("network", aims.networks, networks), ("VDISK", {**aims.pools, **aims.formats}, vdisks)):
        for name in said:
            if name not in known and not (kind == "VDISK" and name == ALL):
                raise InputError(
                    f"{where} maps the {kind} {name!r}, which none of its VMs has",
                    remedy=f"they have {', '.join(sorted(known)) or 'none'}",
                )


def _spec(plan: Plan, vm: Vm, way: _Way) -> Spec:
    fields = {"networks": way.networks, "pools": _by_spec(way.pools), "formats": _by_spec(way.formats), **way.settings}
    fields |= {"windows": way.windows, "profile": way.profile}
    try:
        return Spec.model_validate({"vm": vm.name, "source": plan.source, "destination": plan.destination, **fields})
    except ValidationError as error:
        raise explained(error) from None


def _by_spec(said: Mapping[str, str]) -> dict[str, str]:
    """A specification's key for all VDISKs is the empty one."""
    return {"" if name == ALL else name: to for name, to in said.items()}


def _batch(group: Group | None, vms: Sequence[Vm], specs: Mapping[str, Spec]) -> Batch:
    turns = {} if group is None else _turns(group, vms)
    last = 0 if group is None else len(group.power_on)
    members = tuple(
        Member(vm=vm.name, uuid=vm.uuid, spec=specs[vm.uuid], turn=turn, delay=delay)
        for vm in vms
        for turn, delay in (turns.get(vm.uuid, (last, 0.0)),)
    )
    name = vms[0].name if group is None else group.group
    return Batch(
        name=name,
        group=group is not None,
        members=members,
        after=() if group is None else group.after,
        approval=False if group is None else group.approval,
    )


def _turns(group: Group, vms: Sequence[Vm]) -> dict[str, tuple[int, float]]:
    """Turn and delay by UUID."""
    turns: dict[str, tuple[int, float]] = {}
    for number, turn in enumerate(group.power_on):
        for vm in select(turn.vms, vms, f"the group {group.group}"):
            if vm.uuid in turns:
                raise InputError(
                    f"{vm.name} is in two turns of power_on of the group {group.group}", remedy="name it in one"
                )
            turns[vm.uuid] = (number, 0.0 if turn.after is None else parse_duration(turn.after))
    return turns


def _names_differ(batches: Sequence[Batch]) -> None:
    seen: set[str] = set()
    for batch in batches:
        if batch.name in seen:
            raise InputError(
                f"a group and a VM that goes by itself are both called {batch.name}", remedy="rename the group"
            )
        seen.add(batch.name)
