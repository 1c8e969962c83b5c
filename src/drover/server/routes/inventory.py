"""The inventory: the VMs of all sites, as their events keep them."""

import hashlib
import time
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from drover.model.inventory import Power
from drover.server.access import Viewer
from drover.server.context import Stores
from drover.server.paging import Cursor, Limit, cursor_of, words
from drover.server.problems import MissingError, answers
from drover.server.views import FreshnessView, Inventory, ListedVmView
from drover.store.inventory import Wanted

router = APIRouter(prefix="/v1/vms", tags=["inventory"])


@router.get("", responses=answers(304, 404))
def vms(
    identity: Viewer,
    stores: Stores,
    response: Response,
    limit: Limit = 100,
    cursor: Cursor = None,
    site: Annotated[list[str], Query(description="Of any of these sites", examples=[["alpha"]])] = [],  # noqa: B006
    state: Annotated[list[Power], Query(description="In any of these states")] = [],  # noqa: B006
    name: Annotated[
        str | None,
        Query(max_length=255, description="`*` and `?` stand for anything and one character", examples=["web-*"]),
    ] = None,
    folder: Annotated[
        str | None, Query(max_length=255, description="In this folder and those within it", examples=["office"])
    ] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Inventory:
    """The VMs by name, with how fresh each site's are. The ETag changes with them."""
    visible = [one.name for one in stores.sites.all() if identity.scope.allows_site(one.name)]
    if unknown := sorted(set(site) - set(visible)):
        raise MissingError(f"there is no site {unknown[0]!r}", remedy="`GET /v1/sites` lists those that you may see")
    asked = [limit, cursor, sorted(site), sorted(state), name, folder, visible]
    etag = f'"{hashlib.sha256(repr([stores.inventory.revision(), asked]).encode()).hexdigest()[:24]}"'
    response.headers["ETag"] = etag
    sites, now = site or visible, time.time()
    watched = stores.inventory.sites()
    freshness = [FreshnessView.of(one, watched.get(one), now) for one in sorted(set(sites))]
    if if_none_match == etag:
        response.status_code = 304
        return Inventory(items=[], total=0, sites=freshness)
    wanted = Wanted(sites=sites, states=state, name=name, folder=folder)
    after = words(cursor, 3)
    found = stores.inventory.page(wanted, limit=limit, after=None if after is None else (after[0], after[1], after[2]))
    following = cursor_of(found[-1].vm.name, found[-1].site, found[-1].vm.uuid) if len(found) == limit else None
    views = [ListedVmView.of(kept) for kept in found]
    return Inventory(items=views, next=following, total=stores.inventory.count(wanted), sites=freshness)
