"""Migrations and their groups: begun, watched, paused, gone on with, cancelled."""

import zlib
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field, ValidationError

from drover.accounts.identity import Identity
from drover.errors import InputError
from drover.model.group import Phase
from drover.model.hours import Hours
from drover.model.migration import Migration, Spec, State
from drover.model.profile import Profile
from drover.model.settings import Settings
from drover.model.texts import explained
from drover.replicator.finish import cancel as cancel_run
from drover.replicator.run import Run
from drover.replicator.window import free_of_windows
from drover.server.access import Operator, Viewer
from drover.server.context import Context, Stores
from drover.server.once import Key, once
from drover.server.paging import After, Cursor, Limit, cursor_after, position
from drover.server.problems import ConflictError, ForbiddenError, MissingError, answers
from drover.server.routes.runs import begin
from drover.server.views import Groups, GroupView, Happening, Migrations, MigrationStory, MigrationView, RunView
from drover.store.plans import RunKind

router = APIRouter(prefix="/v1", tags=["migrations"])
_Names = dict[Annotated[str, Field(max_length=255)], Annotated[str, Field(min_length=1, max_length=255)]]
_Word = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f]+$")]


class NewMigration(BaseModel):
    """One VM to migrate. `source` and `destination` are sites of this server, by name or URI."""

    vm: _Word
    source: _Word
    destination: _Word
    networks: _Names = Field(default={}, description="Destination network by source network")
    pools: _Names = Field(default={}, description="Destination pool by VDISK; `*` is all of them")
    formats: _Names = Field(default={}, description="raw or qcow2 by VDISK; `*` is all of them")
    settings: Settings = Settings()
    windows: tuple[Hours, ...] = Field(default=(), description="When it may cut over; each with its time zone")
    profile: Profile = Profile()

    def spec(self, source: str, destination: str) -> Spec:
        """Raises InputError."""
        fields = {
            "vm": self.vm, "source": source, "destination": destination, "networks": self.networks,
            "pools": _by_spec(self.pools), "formats": _by_spec(self.formats), **self.settings.given(),
            "windows": tuple(hours.at_home(None) for hours in self.windows), "profile": self.profile,
        }  # fmt: skip
        try:
            return Spec.model_validate(fields)
        except ValidationError as error:
            raise explained(error) from None


@router.get("/migrations", responses=answers())
def migrations(
    identity: Viewer,
    stores: Stores,
    limit: Limit = 100,
    cursor: Cursor = None,
    state: Annotated[list[State], Query(description="Any of these")] = [],  # noqa: B006
    vm: Annotated[str | None, Query(max_length=255, description="A part of the VM's name")] = None,
    plan: Annotated[str | None, Query(max_length=255, description="Begun by a run of this plan")] = None,
    group: Annotated[str | None, Query(max_length=255, description="In this group, by its id")] = None,
    site: Annotated[str | None, Query(max_length=255, description="From or to this site, by its name")] = None,
) -> Migrations:
    """The migrations, newest first."""
    uris = None if site is None else [one.uri for one in stores.sites.all() if one.name == site]
    found = stores.migrations.page(
        limit=limit, before=position(cursor), states=state, vm=vm, plan=plan, group=group, sites=uris
    )
    following = cursor_after(found[-1].created_at, found[-1].id) if len(found) == limit else None
    groups = {member.migration: group for group in stores.groups.all() for member in group.members}
    allowed = [one for one in found if may_see(stores, identity, one, groups.get(one.id))]
    progress = stores.live.newest([one.id for one in allowed if not one.state.ended])
    waits = stores.orders.waits([one.id for one in allowed])
    views = [MigrationView.of(one, _id(groups.get(one.id)), progress.get(one.id), waits.get(one.id)) for one in allowed]
    return Migrations(items=views, next=following)


@router.post("/migrations", status_code=202, responses=answers(409))
def migrate(body: NewMigration, identity: Operator, stores: Stores, idempotency_key: Key = None) -> RunView:
    """Migrate one VM: it is checked, and begins if that finds nothing wrong; the run says how it goes."""
    sites = [stores.sites.named(word) for word in (body.source, body.destination)]
    for site in sites:
        if not identity.scope.allows_site(site.name):
            raise ForbiddenError(f"you may not work with the site {site.name}", remedy="ask an administrator")
    if identity.scope.plans:
        raise ForbiddenError("you may work with your plans only", remedy="put the VM into one of them")
    spec = body.spec(*(site.uri for site in sites))
    target = {"spec": spec.model_dump(mode="json", exclude_unset=True)}
    return begin(stores, identity, RunKind.VM, body.vm, target, idempotency_key)


@router.get("/migrations/{migration_id}", responses=answers(304, 404))
def migration(
    migration_id: str,
    identity: Viewer,
    stores: Stores,
    response: Response,
) -> MigrationStory:
    """A migration with its story; its ETag changes with it."""
    found = find(stores, identity, migration_id)
    progress = stores.live.newest([found.id]).get(found.id)
    waits = stores.orders.waits([found.id]).get(found.id)
    etag = f'"{found.updated_at}-{(progress or {}).get("at", 0)}-{zlib.crc32((waits or "").encode()):x}"'
    response.headers["ETag"] = etag
    view = MigrationView.of(found, _id(stores.groups.of(found.id)), progress, waits)
    history = [Happening(at=at, kind=kind, text=text) for at, kind, text in stores.migrations.history(found.id)]
    return MigrationStory(**view.model_dump(), spec=found.spec, history=history)


@router.post("/migrations/{migration_id}/pause", status_code=202, responses=answers(404, 409))
def pause(
    migration_id: str, identity: Operator, stores: Stores, request: Request, idempotency_key: Key = None
) -> MigrationView:
    """Stop a migration in an orderly way; the VM runs on at the source, and going on sends only what is missing."""
    found = find(stores, identity, migration_id)

    def act() -> MigrationView:
        if not stores.migrations.is_running(found.id):
            raise ConflictError(
                f"no process is running {found.id}: it is {found.state}", remedy="there is nothing to pause"
            )
        stores.live.ask_to_pause(found.id)
        return _view(stores, found.id)

    return once(stores, identity, request, idempotency_key, None, MigrationView, act)


@router.post("/migrations/{migration_id}/resume", status_code=202, responses=answers(404, 409))
def resume(
    migration_id: str,
    identity: Operator,
    stores: Stores,
    settings: Settings | None = None,
    idempotency_key: Key = None,
) -> RunView:
    """Go on with a migration, with other settings if some are given."""
    found = find(stores, identity, migration_id)
    if found.state.ended:
        raise ConflictError(f"{found.id} is {found.state} already", remedy="there is nothing to go on with")
    if settings is not None and (given := settings.given()):
        with stores.migrations.running(found):
            try:
                found.spec = Spec.model_validate({**found.spec.model_dump(), **given})
            except ValidationError as error:
                raise explained(error) from None
            stores.migrations.save(found)
    if stores.migrations.is_running(found.id):
        raise ConflictError(f"{found.id} is running", remedy="pause it first, if you want to change something")
    target: dict[str, Any] = {"migration": found.id}
    return begin(stores, identity, RunKind.MIGRATION, found.spec.vm, target, idempotency_key)


@router.post("/migrations/{migration_id}/cancel", responses=answers(404, 409, 502))
def cancel(
    migration_id: str, identity: Operator, stores: Stores, request: Request, idempotency_key: Key = None
) -> MigrationView:
    """End a migration that does not run: the VM is as it was at the source, its copies are deleted."""
    found = find(stores, identity, migration_id)

    def act() -> MigrationView:
        if found.state.ended:
            raise ConflictError(f"{found.id} is {found.state} already", remedy="there is nothing to cancel")
        if stores.migrations.is_running(found.id):
            raise ConflictError(f"{found.id} is running", remedy="pause it first")
        with stores.migrations.running(found), Run(stores.migrations, found, lambda _: None) as run:
            cancel_run(run)
        return _view(stores, found.id)

    return once(stores, identity, request, idempotency_key, None, MigrationView, act)


def _view(stores: Context, migration_id: str) -> MigrationView:
    return MigrationView.of(stores.migrations.get(migration_id), _id(stores.groups.of(migration_id)), None)


@router.get("/groups", tags=["groups"], responses=answers())
def groups(
    identity: Viewer,
    stores: Stores,
    limit: Limit = 1000,
    after: After = None,
    plan: Annotated[str | None, Query(max_length=255, description="Of this plan")] = None,
    phase: Annotated[list[Phase], Query(description="Any of these")] = [],  # noqa: B006
) -> Groups:
    """Groups that were begun, newest first."""
    allowed = [group for group in stores.groups.all() if identity.scope.allows_plan(group.plan)]
    wanted = [one for one in allowed if (plan is None or one.plan == plan) and (not phase or one.phase in phase)]
    if after is not None:
        place = next((at for at, one in enumerate(wanted) if one.id == after), None)
        if place is None:
            raise InputError(f"{after!r} is no group of this list", remedy="take `next` of the part before, or none")
        wanted = wanted[place + 1 :]
    found = wanted[:limit]
    waiting = stores.groups.waits_for_approval
    items = [GroupView.of(group, waits_for_approval=waiting(group.id)) for group in found]
    return Groups(items=items, next=found[-1].id if len(wanted) > limit else None)


@router.post("/groups/{group_id}/approval", tags=["groups"], responses=answers(404, 409))
def approve(
    group_id: str,
    identity: Operator,
    stores: Stores,
    request: Request,
    now: Annotated[bool, Query(description="Also outside its maintenance windows")] = False,
    idempotency_key: Key = None,
) -> GroupView:
    """Let a group cut over as soon as all its VMs are ready, in its maintenance windows if it has some."""
    found = [one for one in stores.groups.all() if one.id == group_id and identity.scope.allows_plan(one.plan)]
    if not found:
        raise MissingError(f"there is no group {group_id!r}", remedy="`GET /v1/groups` lists them")

    def act() -> GroupView:
        approved = stores.groups.approve(group_id, identity.name)
        if now:
            _free(stores, [member.migration for member in found[0].members], identity)
        elif not approved:
            raise ConflictError(f"{group_id} waits for nobody's approval", remedy="there is nothing to approve of")
        return GroupView.of(found[0], waits_for_approval=False)

    return once(stores, identity, request, idempotency_key, None, GroupView, act)


@router.post("/migrations/{migration_id}/approval", responses=answers(404, 409))
def approve_migration(
    migration_id: str, identity: Operator, stores: Stores, request: Request, idempotency_key: Key = None
) -> MigrationView:
    """Let a migration that goes alone cut over outside its maintenance windows, as soon as it is ready."""
    found = find(stores, identity, migration_id)
    group = stores.groups.of(found.id)
    if group is not None and len(group.members) > 1:
        raise ConflictError(f"{found.id} cuts over with its group", remedy=f"approve of the group {group.id}")

    def act() -> MigrationView:
        _free(stores, [found.id], identity)
        return MigrationView.of(found, _id(group), None)

    return once(stores, identity, request, idempotency_key, None, MigrationView, act)


def _free(stores: Context, migrations: list[str], identity: Identity) -> None:
    try:
        free_of_windows(stores.migrations, migrations, identity.name)
    except InputError as error:
        raise ConflictError(error.message, remedy=error.remedy) from None


def find(stores: Context, identity: Identity, migration_id: str) -> Migration:
    """Raises MissingError, also for migrations that are not for whoever asks."""
    missing = MissingError(f"there is no migration {migration_id!r}", remedy="`GET /v1/migrations` lists them")
    try:
        found = stores.migrations.get(migration_id)
    except InputError:
        raise missing from None
    if not may_see(stores, identity, found, stores.groups.of(found.id)):
        raise missing
    return found


def may_see(stores: Context, identity: Identity, migration: Migration, group: Any) -> bool:
    """Whether a migration, in this group or none, is for whoever asks."""
    if identity.scope.plans and (group is None or not identity.scope.allows_plan(group.plan)):
        return False
    if not identity.scope.sites:
        return True
    names = {site.uri: site.name for site in stores.sites.all()}
    return all(
        uri in names and identity.scope.allows_site(names[uri])
        for uri in (migration.spec.source, migration.spec.destination)
    )


def _id(group: Any) -> str | None:
    return None if group is None else group.id


def _by_spec(said: dict[str, str]) -> dict[str, str]:
    """A specification's key for all VDISKs is the empty one."""
    return {"" if name == "*" else name: to for name, to in said.items()}
