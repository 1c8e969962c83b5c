"""Sites, and the VMs that are there."""

from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, Field

from drover.errors import InputError
from drover.model.credentials import Credentials
from drover.platforms.libvirt.connection import doing, open_uri
from drover.platforms.libvirt.inventory import describe
from drover.server.access import Administrator, Viewer
from drover.server.conditional import IfMatch, etag, require
from drover.server.context import Context, Stores
from drover.server.paging import After, Limit, part
from drover.server.problems import MissingError, answers
from drover.server.views import Sites, SiteView, Vms, VmView
from drover.store.sites import Site

router = APIRouter(prefix="/v1/sites", tags=["sites"])
Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]


class NewSite(BaseModel):
    uri: Annotated[str, Field(pattern=r"^qemu(\+[a-z]+)?://\S*$", max_length=1000, examples=["qemu+ssh://h/system"])]


@router.get("", responses=answers())
def sites(identity: Viewer, stores: Stores, limit: Limit = 1000, after: After = None) -> Sites:
    """The sites that whoever asks may work with, by name."""
    allowed = [site for site in stores.sites.all() if identity.scope.allows_site(site.name)]
    found, following = part(allowed, lambda site: site.name, limit, after)
    kept = stores.credentials.kept()
    items = [SiteView(**vars(site), has_credentials=site.name in kept) for site in found]
    return Sites(items=items, next=following)


@router.get("/{name}", responses=answers(304, 404))
def site(name: Name, identity: Viewer, stores: Stores, response: Response) -> SiteView:
    """A site."""
    view = _view(stores, name)
    if view is None or not identity.scope.allows_site(name):
        raise MissingError(f"there is no site {name!r}", remedy="`GET /v1/sites` lists those that you may see")
    response.headers["ETag"] = etag(view)
    return view


@router.put("/{name}", responses={**answers(412), 201: {"model": SiteView, "description": "It is new"}})
def put_site(
    name: Name, body: NewSite, _: Administrator, stores: Stores, response: Response, if_match: IfMatch = None
) -> SiteView:
    """Add a site, or give it another URI, for which its credentials have to be given again."""
    require(if_match, _view(stores, name), f"the site {name}")
    if stores.sites.put(Site(name=name, uri=body.uri)):
        response.status_code = 201
    view = SiteView(name=name, uri=body.uri, has_credentials=name in stores.credentials.kept())
    response.headers["ETag"] = etag(view)
    return view


def _view(stores: Context, name: str) -> SiteView | None:
    kept = stores.credentials.kept()
    found = next((site for site in stores.sites.all() if site.name == name), None)
    return None if found is None else SiteView(**vars(found), has_credentials=name in kept)


@router.put("/{name}/credentials", status_code=204, responses=answers(404))
def put_credentials(name: Name, body: Credentials, _: Administrator, stores: Stores) -> None:
    """Give a site's credentials, all of them at once: they are kept encrypted, and no answer shows them."""
    try:
        stores.credentials.put(name, body)
    except InputError as error:
        raise MissingError(error.message, remedy=error.remedy) from None


@router.delete("/{name}/credentials", status_code=204, responses=answers(404))
def remove_credentials(name: Name, _: Administrator, stores: Stores) -> None:
    """Forget a site's credentials."""
    try:
        stores.credentials.remove(name)
    except InputError as error:
        raise MissingError(error.message, remedy=error.remedy) from None


@router.delete("/{name}", status_code=204, responses=answers(412))
def remove_site(name: Name, _: Administrator, stores: Stores, if_match: IfMatch = None) -> None:
    """Forget a site. Nothing at it changes, and migrations that go on there go on."""
    require(if_match, _view(stores, name), f"the site {name}")
    stores.sites.remove(name)


@router.get("/{name}/vms", responses=answers(404, 502))
def vms(name: Name, identity: Viewer, stores: Stores, limit: Limit = 100, after: str | None = None) -> Vms:
    """The VMs at a site as they are now, by name; `after` is `next` of the part before."""
    try:
        site = stores.sites.get(name)
    except InputError as error:
        raise MissingError(error.message, remedy=error.remedy) from None
    if not identity.scope.allows_site(name):
        raise MissingError(f"there is no site {name!r}", remedy="`GET /v1/sites` lists those that you may see")
    connection = open_uri(site.uri)
    try:
        with doing(f"listing the VMs of {name}"):
            domains = sorted((domain.name(), domain) for domain in connection.listAllDomains())
        later = [domain for name, domain in domains if after is None or name > after]
        found = [VmView.of(describe(domain)) for domain in later[:limit]]
    finally:
        connection.close()
    return Vms(items=found, next=found[-1].name if len(later) > limit else None)
