"""Reports: what migrations came to, as JSON, CSV, or a page to print."""

import re
from enum import StrEnum
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response

from drover.accounts.identity import Identity
from drover.errors import InputError
from drover.reports.figures import Report
from drover.reports.gather import report
from drover.reports.page import as_html
from drover.reports.table import as_csv
from drover.server.access import Viewer
from drover.server.context import Context, Stores
from drover.server.problems import MissingError, answers
from drover.server.routes.migrations import may_see

router = APIRouter(prefix="/v1/reports", tags=["reports"])


class Form(StrEnum):
    JSON = "json"
    CSV = "csv"
    HTML = "html"


Format = Annotated[Form, Query(alias="format")]
_TEXT: dict[str, Any] = {"schema": {"type": "string"}}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    **answers(404),
    200: {"description": "The report", "content": {"text/csv": _TEXT, "text/html": _TEXT}},
}
# A name in it comes from a VM: nothing of a page may run.
_PAGE = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox allow-downloads"}


@router.get("", responses=_ANSWERS, response_model=Report)
def all_migrations(identity: Viewer, stores: Stores, form: Format = Form.JSON) -> Any:
    """Of all migrations that whoever asks may see."""
    return _answer(stores, identity, "all", "", form)


@router.get("/migrations/{migration_id}", responses=_ANSWERS, response_model=Report)
def of_migration(migration_id: str, identity: Viewer, stores: Stores, form: Format = Form.JSON) -> Any:
    """Of one migration."""
    return _answer(stores, identity, "migration", migration_id, form)


@router.get("/groups/{name}", responses=_ANSWERS, response_model=Report)
def of_group(name: str, identity: Viewer, stores: Stores, form: Format = Form.JSON) -> Any:
    """Of a group, by its id; by its name, of the newest that is called so."""
    return _answer(stores, identity, "group", name, form)


@router.get("/plans/{name}", responses=_ANSWERS, response_model=Report)
def of_plan(name: str, identity: Viewer, stores: Stores, form: Format = Form.JSON) -> Any:
    """Of a plan: all that its runs began."""
    return _answer(stores, identity, "plan", name, form)


def _answer(
    stores: Context, identity: Identity, kind: Literal["migration", "group", "plan", "all"], name: str, form: Form
) -> Any:
    try:
        made = report(
            kind, name, folder=stores.folder, allowed=lambda one, group: may_see(stores, identity, one, group)
        )
    except InputError as error:
        raise MissingError(error.message, remedy="`GET /v1/migrations` and `GET /v1/groups` list them") from None
    if form is Form.JSON:
        return made
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", made.name)[:80]
    headers = {"Content-Disposition": f'inline; filename="drover-{plain}.{form}"'}
    if form is Form.CSV:
        return Response(as_csv(made), media_type="text/csv", headers=headers)
    return Response(as_html(made), media_type="text/html", headers=headers | _PAGE)
