"""`drover vms`: the VMs of all sites."""

import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from drover.cli import options
from drover.cli.output import print_json
from drover.cli.remote import Remote, connected
from drover.errors import InputError
from drover.inventory import look
from drover.model.inventory import Power
from drover.model.units import format_duration, format_size
from drover.server.views import FreshnessView, ListedVmView
from drover.store import InventoryStore, SiteStore
from drover.store.inventory import Wanted

_PART = 1000


def vms(
    site: Annotated[list[str], typer.Option("--site", metavar="SITE", help="Only of this site. Repeatable.")] = [],  # noqa: B006
    state: Annotated[
        list[Power], typer.Option("--state", help="Only those in this state. Repeatable.", case_sensitive=False)
    ] = [],  # noqa: B006
    name: Annotated[
        str | None, typer.Option("--name", metavar="PATTERN", help="Only those with such a name, as in 'web-*'.")
    ] = None,
    folder: Annotated[
        str | None, typer.Option("--folder", metavar="FOLDER", help="Only those filed there, or in folders within.")
    ] = None,
    json: options.Json = False,
) -> None:
    """List the VMs of the sites (`drover site add`).

    A server keeps the list fresh by events. Without one the sites are asked now; of those that do not answer, what
    was known is shown.
    """
    wanted = Wanted(sites=site or None, states=state, name=name, folder=folder)
    if (remote := connected()) is not None:
        sites, rows = _asked(remote, wanted)
    else:
        sites, rows = _here(wanted)
    if json:
        for one in sites:
            print_json({"event": "site", **one})
        for row in rows:
            print_json({"event": "vm", **row})
        return
    _show(sites, rows)


def _here(wanted: Wanted) -> tuple[list[dict[str, Any]], Iterator[dict[str, Any]]]:
    store, known = InventoryStore(), SiteStore()
    chosen = [known.get(name) for name in wanted.sites] if wanted.sites else known.all()
    if not chosen:
        raise InputError("no site is known", remedy="`drover site add NAME URI` adds one")
    for one in chosen:
        look(store, one)
    watched, now = store.sites(), time.time()
    # Those that were asked a moment ago are fresh, though nobody watches them.
    sites = [FreshnessView.of(one.name, watched.get(one.name), now).model_dump() for one in chosen]
    for fields in sites:
        fields["fresh"] = fields["fresh"] or (fields["gone_since"] is None and fields["synced_at"] is not None)
    only = Wanted(sites=[one.name for one in chosen], states=wanted.states, name=wanted.name, folder=wanted.folder)
    return sites, _parts(store, only)


def _parts(store: InventoryStore, wanted: Wanted) -> Iterator[dict[str, Any]]:
    after = None
    while found := store.page(wanted, limit=_PART, after=after):
        yield from (ListedVmView.of(kept).model_dump(mode="json") for kept in found)
        after = (found[-1].vm.name, found[-1].site, found[-1].vm.uuid)


def _asked(remote: Remote, wanted: Wanted) -> tuple[list[dict[str, Any]], Iterator[dict[str, Any]]]:
    asked = {
        "site": list(wanted.sites or ()) or None,
        "state": [str(state) for state in wanted.states] or None,
        "name": wanted.name,
        "folder": wanted.folder,
        "limit": _PART,
    }
    first = remote.get("/v1/vms", **asked)

    def parts() -> Iterator[dict[str, Any]]:
        part = first
        while True:
            yield from part["items"]
            if part["next"] is None:
                return
            part = remote.get("/v1/vms", cursor=part["next"], **asked)

    return first["sites"], parts()


def _show(sites: list[dict[str, Any]], rows: Iterator[dict[str, Any]]) -> None:
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    for title in ("VM", "site", "host", "state", "memory", "VDISKs", "networks", "folder", "tags"):
        table.add_column(title)
    for row in rows:
        vdisks = f"{len(row['vdisks'])}, {format_size(row['size'])}"
        words = (", ".join(row["networks"]), row["folder"], ", ".join(row["tags"]))
        table.add_row(row["name"], row["site"], row["host"], row["state"], format_size(row["memory"]), vdisks, *words)
    if table.row_count:
        console.print(table)
    else:
        console.print("No such VMs.")
    for one in sites:
        if one["fresh"]:
            continue
        if one["gone_since"] is None:
            console.print(f"{one['site']}: {one['reason'] or 'nobody watches it now'}", markup=False, soft_wrap=True)
            continue
        ago = format_duration(time.time() - one["gone_since"])
        told = f"{one['site']} does not answer, for {ago}: its VMs are as they were then ({one['reason']})"
        console.print(told, markup=False, soft_wrap=True)
