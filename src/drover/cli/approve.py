"""`drover approve`: somebody's leave for the cutover of a group, or for one outside its maintenance windows."""

import getpass
from typing import Annotated

import typer
from rich.console import Console

from drover.cli import options
from drover.cli.output import print_json
from drover.cli.remote import connected
from drover.errors import InputError
from drover.replicator.window import free_of_windows
from drover.store import GroupStore, MigrationStore

_GROUPS = "g-"


def approve(
    name: Annotated[
        str,
        typer.Argument(
            metavar="GROUP|ID", help="Id of a group, as `drover status ID` says it; with --now also of a migration."
        ),
    ],
    now: Annotated[bool, typer.Option("--now", help="Do not wait for a maintenance window either.")] = False,
    json: options.Json = False,
) -> None:
    """Let a group cut over as soon as all its VMs are ready, in its maintenance windows if it has some."""
    group = name.startswith(_GROUPS)
    if not group and not now:
        raise InputError(
            f"{name!r} is not the id of a group", remedy="`drover status ID` tells of a VM's group; or add --now"
        )
    if (remote := connected()) is not None:
        path = f"/v1/groups/{name}/approval" if group else f"/v1/migrations/{name}/approval"
        remote.post(path + ("?now=true" if group and now else ""))
    else:
        _approve(name, group=group, now=now)
    if json:
        print_json({"event": "approved", "group": name if group else None, "now": now, "name": name})
    else:
        who = "all its VMs are" if group else "it is"
        Console(highlight=False).print(f"{name} cuts over as soon as {who} ready" + (", window or not" if now else ""))


def _approve(name: str, *, group: bool, now: bool) -> None:
    store, groups, by = MigrationStore(), GroupStore(), getpass.getuser()
    if not group:
        migration = store.get(name)
        of = groups.of(migration.id)
        if of is not None and len(of.members) > 1:
            raise InputError(f"{name} cuts over with its group", remedy=f"`drover approve {of.id} --now`")
        free_of_windows(store, [migration.id], by)
        return
    found = next((one for one in groups.all() if one.id == name), None)
    approved = groups.approve(name, by)
    if now and found is not None:
        free_of_windows(store, [member.migration for member in found.members], by)
    elif not approved:
        raise InputError(f"no group {name!r} waits for approval", remedy="`drover status ID` tells of a VM's group")
