"""The batches of a plan as the planner takes them, such that they can be kept: what they expect, wish and use."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from drover.model.hours import Hours
from drover.model.migration import Migration, State
from drover.model.order import Pin
from drover.model.plan import Plan
from drover.model.vm import UNLABELLED, Labels
from drover.planner.expect import Expectation, Expectations
from drover.plans.needs import Needs, Resource, needs_of, needs_of_migration
from drover.plans.site import Resolved
from drover.plans.wishes import Vms, wishes
from drover.store import GroupStore, MigrationStore


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True)


class PartVm(_Kept):
    """One VM of a part; `name` and `uuid` as the site has them."""

    name: str
    uuid: str
    labels: Labels = UNLABELLED
    """By which exceptions of a later version of the plan may mean it."""
    migration: str | None
    expected: Expectation
    copying: frozenset[Resource]
    cutover: frozenset[Resource]
    throughout: frozenset[Resource]

    @property
    def needs(self) -> Needs:
        return Needs(copying=self.copying, cutover=self.cutover, throughout=self.throughout)


class Wishes(_Kept):
    """What is wished of a part."""

    after: tuple[str, ...] = ()
    priority: int = 0
    pin: Pin | None = None


class Part(Wishes):
    """A batch: a group, or a VM that goes for itself."""

    name: str
    group: bool
    vms: tuple[PartVm, ...]
    windows: tuple[Hours, ...] = ()
    """When it may cut over; any time without any."""

    @property
    def migrations(self) -> tuple[str, ...]:
        """Of its VMs, those that are recorded."""
        return tuple(vm.migration for vm in self.vms if vm.migration is not None)


class Parts(_Kept):
    """All of a plan, in the order in which they stand, and the link that they share (bytes/s)."""

    parts: tuple[Part, ...]
    link: float
    link_known: bool

    def arranged(self, names: list[str]) -> "Parts":
        """In this order."""
        places = {name: place for place, name in enumerate(names)}
        return self.model_copy(update={"parts": tuple(sorted(self.parts, key=lambda part: places[part.name]))})

    def wishing(self, plan: Plan) -> "Parts":
        """With what this version of the plan wishes of them. Raises InputError if it lacks one of the groups."""
        said = wishes(plan, [Vms(name=part.name, group=part.group, vms=part.vms) for part in self.parts])
        return self.wished({name: Wishes(**vars(wish)) for name, wish in said.items()})

    def wished(self, said: Mapping[str, "Wishes"]) -> "Parts":
        """With these wishes, by name of a part."""
        there = {part.name for part in self.parts}
        changed = [
            part.model_copy(
                update={
                    "priority": said[part.name].priority,
                    "pin": said[part.name].pin,
                    # What was added to the plan since is not carried out, so that nothing can wait for it.
                    "after": tuple(name for name in said[part.name].after if name in there),
                }
            )
            for part in self.parts
        ]
        return self.model_copy(update={"parts": tuple(changed)})

    def wishes(self) -> dict[str, "Wishes"]:
        """What is wished of each part, by name."""
        return {part.name: Wishes(priority=part.priority, pin=part.pin, after=part.after) for part in self.parts}


def parts_of(resolved: Resolved, folder: Path | None = None) -> Parts:
    """Of a plan at its source; with the migrations that an earlier run has recorded and that were not cancelled."""
    store = MigrationStore(folder)
    expectations = Expectations(*_ends(resolved), store.folder)
    made = []
    for batch in resolved.batches:
        recorded = _recorded(resolved.plan.plan, batch.name, store)
        vms, windows = [], batch.members[0].spec.windows
        for member in batch.members:
            migration = recorded.get(member.uuid)
            windows = windows if migration is None else migration.spec.windows
            needs = needs_of(member.spec, resolved.vms[member.uuid])
            if migration is not None and migration.facts.vdisks:
                needs = needs_of_migration(migration)
            number = None if migration is None else migration.id
            vms.append(
                PartVm(
                    name=member.vm,
                    uuid=member.uuid,
                    labels=resolved.vms[member.uuid].labels,
                    migration=number,
                    expected=expectations.of(resolved.vms[member.uuid], member.spec, number),
                    copying=needs.copying,
                    cutover=needs.cutover,
                    throughout=needs.throughout,
                )
            )
        made.append(
            Part(
                name=batch.name, group=batch.group, vms=tuple(vms), windows=windows,
                after=batch.after, priority=batch.priority, pin=batch.pin,
            )
        )  # fmt: skip
    return Parts(parts=tuple(made), link=expectations.link, link_known=expectations.known)


def _ends(resolved: Resolved) -> tuple[str, str]:
    """Of the VMs, which have their sites' addresses."""
    spec = resolved.batches[0].members[0].spec
    return spec.source, spec.destination


def _recorded(plan: str, batch: str, store: MigrationStore) -> Mapping[str, Migration]:
    group = GroupStore(store.folder).newest(plan, batch)
    if group is None:
        return {}
    migrations = [store.get(member.migration) for member in group.members]
    if all(migration.state is State.CANCELLED for migration in migrations):
        return {}
    return {migration.facts.uuid: migration for migration in migrations}
