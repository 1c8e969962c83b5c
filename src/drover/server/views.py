"""What the API shows: models of migrations, runs, plans, groups and sites. Times are Unix seconds, sizes bytes."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, Field

from drover.model.group import Group
from drover.model.migration import Migration, Spec, State
from drover.model.vm import Vm
from drover.store.plans import RunKind, RunState, StoredPlan, StoredRun


class Page(BaseModel):
    """A part of a list; `next` is the `cursor` of the part that follows, null at the end."""

    next: str | None = None


class MigrationView(BaseModel):
    """A migration as it stands."""

    id: str
    vm: str
    source: str
    destination: str
    state: State
    reason: str | None
    remedy: str | None
    group: str | None = Field(description="Id of its group")
    sent_bytes: int
    downtime_seconds: float | None
    created_at: float
    updated_at: float
    progress: dict[str, Any] | None = Field(description="The newest; as `drover resume --json` prints it")
    waits_for: str | None = Field(default=None, description="Of one whose turn it is not: why not yet")

    @classmethod
    def of(
        cls,
        migration: Migration,
        group: str | None,
        progress: Mapping[str, Any] | None,
        waits_for: str | None = None,
    ) -> Self:
        facts = migration.facts
        return cls(
            id=migration.id,
            vm=migration.spec.vm,
            source=migration.spec.source,
            destination=migration.spec.destination,
            state=migration.state,
            reason=migration.reason,
            remedy=migration.remedy,
            group=group,
            sent_bytes=facts.sent_bytes,
            downtime_seconds=facts.cutover.downtime if facts.cutover else None,
            created_at=migration.created_at,
            updated_at=migration.updated_at,
            progress=None if progress is None else dict(progress),
            waits_for=waits_for,
        )


class Migrations(Page):
    items: list[MigrationView]


class Happening(BaseModel):
    """Something that happened to a migration."""

    at: float
    kind: str
    text: str


class MigrationStory(MigrationView):
    """A migration with what was asked for and all that happened to it."""

    spec: Spec
    history: list[Happening]


class MemberView(BaseModel):
    migration: str
    vm: str
    mark: str
    turn: int


class GroupView(BaseModel):
    """A group as it stands."""

    id: str
    name: str
    plan: str
    phase: str
    attempt: int
    reason: str | None
    waits_for_approval: bool
    members: list[MemberView]

    @classmethod
    def of(cls, group: Group, *, waits_for_approval: bool) -> Self:
        members = [
            MemberView(migration=m.migration, vm=m.vm, mark=m.mark.name.lower(), turn=m.turn) for m in group.members
        ]
        return cls(
            id=group.id, name=group.name, plan=group.plan, phase=group.phase, attempt=group.attempt,
            reason=group.reason, waits_for_approval=waits_for_approval, members=members,
        )  # fmt: skip


class Groups(Page):
    items: list[GroupView]


class PlanView(BaseModel):
    """A version of a plan; `text` is its YAML."""

    name: str
    version: int
    by: str
    at: float
    text: str

    @classmethod
    def of(cls, plan: StoredPlan) -> Self:
        return cls(**vars(plan))


class Plans(Page):
    items: list[PlanView]


class RunView(BaseModel):
    """Work that was asked for."""

    id: str
    kind: RunKind
    name: str
    target: dict[str, Any]
    state: RunState
    reason: str | None
    remedy: str | None
    migrations: list[str]
    by: str
    created_at: float
    updated_at: float

    @classmethod
    def of(cls, run: StoredRun) -> Self:
        return cls(**{**vars(run), "migrations": list(run.migrations)})


class Runs(Page):
    items: list[RunView]


class SiteView(BaseModel):
    name: str
    uri: str
    has_credentials: bool = Field(description="Whether some are kept for it, encrypted; nothing shows them")


class Sites(Page):
    items: list[SiteView]


class VdiskView(BaseModel):
    name: str
    size: int
    format: str
    allocated: int | None


class VmView(BaseModel):
    """A VM at its site."""

    name: str
    uuid: str
    running: bool
    memory: int
    vdisks: list[VdiskView]
    networks: list[str]
    tags: list[str]
    folder: str
    title: str

    @classmethod
    def of(cls, vm: Vm) -> Self:
        vdisks = [VdiskView(name=v.name, size=v.size, format=v.format, allocated=v.allocated) for v in vm.vdisks]
        return cls(
            name=vm.name,
            uuid=vm.uuid,
            running=vm.running,
            memory=vm.memory,
            vdisks=vdisks,
            networks=list(vm.networks),
            tags=list(vm.labels.tags),
            folder=vm.labels.folder,
            title=vm.labels.title,
        )


class Vms(Page):
    items: list[VmView]
