"""`drover site`: the sites that a management server works with."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from drover.cli import options
from drover.cli.output import print_json
from drover.cli.remote import connected
from drover.store import SiteStore
from drover.store.sites import Site

app = typer.Typer(no_args_is_help=True, help="Sites: names for the places where VMs run, for the management server.")
Name = Annotated[str, typer.Argument(metavar="NAME", help="What plans call it.")]


@app.command("add")
def add(
    name: Name,
    uri: Annotated[str, typer.Argument(metavar="URI", help="As libvirt names it, like qemu+ssh://root@host/system.")],
    json: options.Json = False,
) -> None:
    """Add a site, or give it another URI."""
    if (remote := connected()) is not None:
        remote.put(f"/v1/sites/{name}", {"uri": uri})
    else:
        SiteStore().put(Site(name=name, uri=uri))
    if json:
        print_json({"event": "site", "name": name, "uri": uri})
    else:
        Console(highlight=False).print(f"{name} is {uri}", markup=False)


@app.command("list")
def list_(json: options.Json = False) -> None:
    """List the sites."""
    remote = connected()
    sites = remote.get("/v1/sites")["items"] if remote else [vars(site) for site in SiteStore().all()]
    if json:
        for site in sites:
            print_json({"event": "site", **site})
        return
    if not sites:
        Console().print("No sites. `drover site add NAME URI` adds one.")
        return
    table = Table("site", "URI", box=None, pad_edge=False)
    for site in sites:
        table.add_row(site["name"], site["uri"])
    Console().print(table)


@app.command("remove")
def remove(name: Name, json: options.Json = False) -> None:
    """Forget a site. Nothing at it changes."""
    if (remote := connected()) is not None:
        remote.delete(f"/v1/sites/{name}")
    else:
        SiteStore().remove(name)
    if json:
        print_json({"event": "removed", "name": name})
    else:
        Console(highlight=False).print(f"{name} is forgotten", markup=False)
