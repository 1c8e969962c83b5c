"""Whether the server lives and works, and its figures for Prometheus."""

from dbos import DBOS
from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from drover import __version__
from drover.server.access import Viewer
from drover.server.context import Stores
from drover.server.problems import answers

router = APIRouter(tags=["health"])


class Health(BaseModel):
    status: str
    version: str


@router.get("/healthz")
def healthz() -> Health:
    """The process answers."""
    return Health(status="alive", version=__version__)


@router.get("/readyz", responses={503: answers(500)[500]})
def readyz(stores: Stores) -> Health:
    """Its databases can be used: it takes work. 503 while they cannot."""
    stores.migrations.ping()
    DBOS.list_workflows(limit=1, load_input=False, load_output=False)
    return Health(status="ready", version=__version__)


@router.get(
    "/metrics",
    responses={**answers(), 200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    response_class=Response,
)
def metrics(_: Viewer, request: Request) -> Response:
    """Migrations, runs, rates, downtimes, sites and answers, as Prometheus reads them.

    Its scrape_config gets a viewer's token as `authorization`.
    """
    return Response(generate_latest(request.app.state.registry), media_type=CONTENT_TYPE_LATEST)
