"""Plans: handed in, kept in every version, carried out."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Path, Query, Response

from drover.accounts.identity import Identity
from drover.errors import InputError
from drover.model.plan import Plan
from drover.model.timeline import Timeline
from drover.planner.foresee import foresee
from drover.plans.file import dump, parse
from drover.plans.site import at_source
from drover.server.access import Operator, Viewer
from drover.server.context import Context, Stores
from drover.server.once import Key
from drover.server.paging import After, Limit, part
from drover.server.problems import ForbiddenError, MissingError, PreconditionError, answers
from drover.server.routes.runs import begin
from drover.server.views import Plans, PlanView, RunView
from drover.store.plans import RunKind, StoredPlan
from drover.workflows.carry import at_sites
from drover.workflows.start import plan_changed

router = APIRouter(prefix="/v1/plans", tags=["plans"])
Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
Version = Annotated[int | None, Query(ge=1, le=2**31, description="The newest, if none is named")]
_YAML = "application/yaml"
_TEXT: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            _YAML: {
                "schema": {"type": "string"},
                "example": "version: 1\nplan: office\nfrom: qemu+ssh://a/system\nto: qemu+ssh://b/system\nvms: [web]\n",
            }
        },
    }
}


@router.get("", responses=answers())
def plans(
    identity: Viewer,
    stores: Stores,
    limit: Limit = 1000,
    after: After = None,
    name: Annotated[str | None, Query(max_length=255, description="A part of the plan's name")] = None,
) -> Plans:
    """The newest version of each plan, by name."""
    allowed = [plan for plan in stores.plans.all() if identity.scope.allows_plan(plan.name)]
    wanted = [plan for plan in allowed if name is None or name in plan.name]
    found, following = part(wanted, lambda plan: plan.name, limit, after)
    return Plans(items=[PlanView.of(plan) for plan in found], next=following)


@router.get("/schema", responses=answers())
def schema(_: Viewer) -> dict[str, Any]:
    """The JSON Schema of a plan."""
    return Plan.model_json_schema(by_alias=True)


@router.get("/{name}", responses=answers(304, 404))
def plan(
    name: Name,
    identity: Viewer,
    stores: Stores,
    response: Response,
    version: Version = None,
) -> PlanView:
    """A plan with its YAML; its ETag is its version."""
    stored = find(stores, identity, name, version)
    response.headers["ETag"] = _etag(stored)
    return PlanView.of(stored)


@router.put(
    "/{name}",
    responses={**answers(412), 201: {"model": PlanView, "description": "It is new"}},
    openapi_extra=_TEXT,
)
def put_plan(
    name: Name,
    identity: Operator,
    stores: Stores,
    response: Response,
    body: Annotated[bytes, Body(media_type=_YAML)] = b"",
    if_match: Annotated[str | None, Header(description="The ETag of the version that this one replaces")] = None,
) -> PlanView:
    """Hand in a plan as YAML: it is checked as `drover plan show` does, and becomes the newest version."""
    if not identity.scope.allows_plan(name):
        raise ForbiddenError(f"you may not change the plan {name}", remedy="ask an administrator of the server")
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"the plan is not UTF-8 at byte {error.start}", remedy="send it as UTF-8") from None
    given = parse(text, f"plan {name}")
    if given.plan != name:
        raise InputError(f"the plan calls itself {given.plan}", remedy=f"put it to /v1/plans/{given.plan}")
    for site in (given.source, given.destination):
        named = stores.sites.named(site)
        if not identity.scope.allows_site(named.name):
            raise ForbiddenError(f"you may not work with the site {named.name}", remedy="ask an administrator")
    known = {stored.name: stored for stored in stores.plans.all()}
    if if_match is not None and (name not in known or if_match != _etag(known[name])):
        raise PreconditionError(f"the plan {name} has changed since you read it", remedy="read it again, and decide")
    stored = stores.plans.put(name, text, identity.name)
    _follow(stores, name)
    response.headers["ETag"] = _etag(stored)
    response.status_code = 200 if name in known else 201
    return PlanView.of(stored)


@router.get("/{name}/export", responses={**answers(404), 200: {"content": {_YAML: {}}}}, response_class=Response)
def export(name: Name, identity: Viewer, stores: Stores, version: Version = None) -> Response:
    """The plan as YAML in its canonical form, without loss."""
    stored = find(stores, identity, name, version)
    return Response(dump(parse(stored.text, f"plan {name}")), media_type=_YAML)


@router.get("/{name}/timeline", responses=answers(404, 409, 502))
def timeline(name: Name, identity: Viewer, stores: Stores) -> Timeline:
    """When what begins, cuts over and ends: of the run that is under way, else as it would go if it began now."""
    stored = find(stores, identity, name)
    run = stores.runs.under_way(name)
    if run is not None and (known := stores.orders.get(run.id)) is not None:
        return known
    return foresee(at_source(at_sites(parse(stored.text, f"plan {name}"))), stores.folder)


@router.post("/{name}/runs", status_code=202, responses=answers(404, 409))
def run(
    name: Name, identity: Operator, stores: Stores, version: Version = None, idempotency_key: Key = None
) -> RunView:
    """Carry out a plan: what is new of it is checked and begins; what was begun before goes on where it stands."""
    stored = find(stores, identity, name, version)
    target = {"plan": name, "version": stored.version}
    return begin(stores, identity, RunKind.PLAN, name, target, idempotency_key)


def find(stores: Context, identity: Identity, name: str, version: int | None = None) -> StoredPlan:
    """Raises MissingError, also for plans that are not for whoever asks."""
    missing = MissingError(f"there is no plan {name!r}", remedy="`GET /v1/plans` lists them")
    if not identity.scope.allows_plan(name):
        raise missing
    try:
        return stores.plans.get(name, version)
    except InputError as error:
        raise MissingError(error.message, remedy=error.remedy) from None


def _follow(stores: Context, name: str) -> None:
    """A run of this plan that is under way goes on by its newest version."""
    if (run := stores.runs.under_way(name)) is not None:
        plan_changed(run.id)


def _etag(plan: StoredPlan) -> str:
    return f'"{plan.version}"'
