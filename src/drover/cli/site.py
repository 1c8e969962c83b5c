"""`drover site`: the sites that a management server works with."""

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from drover.cli import options
from drover.cli.output import print_json
from drover.cli.remote import connected
from drover.cli.typed import secret_text
from drover.errors import InputError
from drover.model.credentials import Credentials
from drover.store import CredentialStore, SiteStore
from drover.store.sites import Site

app = typer.Typer(no_args_is_help=True, help="Sites: names for the places where VMs run, for the management server.")
Name = Annotated[str, typer.Argument(metavar="NAME", help="What plans call it.")]


@app.command("add")
def add(
    name: Name,
    uri: Annotated[str, typer.Argument(metavar="URI", help="As libvirt names it, like qemu+ssh://root@host/system.")],
    json: options.Json = False,
) -> None:
    """Add a site, or give it another URI, for which its credentials have to be given again."""
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
    sites = remote.get("/v1/sites")["items"] if remote else _here()
    if json:
        for site in sites:
            print_json({"event": "site", **site})
        return
    if not sites:
        Console().print("No sites. `drover site add NAME URI` adds one.")
        return
    table = Table("site", "URI", "credentials", box=None, pad_edge=False)
    for site in sites:
        table.add_row(site["name"], site["uri"], "kept" if site["has_credentials"] else "")
    Console().print(table)


def _here() -> list[dict[str, Any]]:
    kept = CredentialStore().kept()
    return [{**vars(site), "has_credentials": site.name in kept} for site in SiteStore().all()]


@app.command("credentials")
def credentials(
    name: Name,
    user: Annotated[
        str | None, typer.Option("--user", metavar="USER", help="For SASL; its password is asked for.")
    ] = None,
    password_file: Annotated[
        Path | None, typer.Option("--password-file", metavar="FILE", help="The password, - for stdin.")
    ] = None,
    ssh_key_file: Annotated[
        Path | None,
        typer.Option("--ssh-key-file", metavar="FILE", help="A private SSH key without a passphrase, - for stdin."),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Forget them.")] = False,
    json: options.Json = False,
) -> None:
    """Give a site's credentials, all of them at once: they are kept encrypted, and shown to nobody.

    For qemu+ssh an SSH key, where yours (or the server's user's) shall not do; a user and a password where libvirt asks
    for them (SASL).
    """
    fields: dict[str, str | None] = {"user": user}
    if remove:
        _forget(name)
    else:
        if user is None and (password_file is not None or ssh_key_file is None):
            raise InputError("no credentials are given", remedy="give --user, --ssh-key-file, or both")
        if user is not None:
            fields["password"] = secret_text("password", password_file)
        if ssh_key_file is not None:
            fields["ssh_key"] = secret_text("SSH key", ssh_key_file, lines=True)
        _keep(name, fields)
    if json:
        print_json({"event": "credentials", "site": name, "kept": not remove})
    else:
        Console(highlight=False).print(f"{name}: credentials are {'forgotten' if remove else 'kept'}", markup=False)


def _keep(name: str, fields: dict[str, str | None]) -> None:
    try:
        given = Credentials.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = f"{'.'.join(map(str, first['loc']))}: " if first["loc"] else ""
        raise InputError(where + first["msg"], remedy=first.get("ctx", {}).get("remedy")) from None
    if (remote := connected()) is not None:
        remote.put(f"/v1/sites/{name}/credentials", fields)
    else:
        CredentialStore().put(name, given)


def _forget(name: str) -> None:
    if (remote := connected()) is not None:
        remote.delete(f"/v1/sites/{name}/credentials")
    else:
        CredentialStore().remove(name)


@app.command("remove")
def remove(name: Name, json: options.Json = False) -> None:
    """Forget a site and its credentials. Nothing at it changes."""
    if (remote := connected()) is not None:
        remote.delete(f"/v1/sites/{name}")
    else:
        SiteStore().remove(name)
    if json:
        print_json({"event": "removed", "name": name})
    else:
        Console(highlight=False).print(f"{name} is forgotten", markup=False)
