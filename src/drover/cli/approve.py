"""`drover approve`: somebody's leave for the cutover of a group."""

import getpass
from typing import Annotated

import typer
from rich.console import Console

from drover.cli import options
from drover.cli.output import print_json
from drover.cli.remote import connected
from drover.errors import InputError
from drover.store import GroupStore


def approve(
    group: Annotated[str, typer.Argument(metavar="GROUP", help="Id of the group, as `drover status ID` says it.")],
    json: options.Json = False,
) -> None:
    """Let a group cut over as soon as all its VMs are ready."""
    if (remote := connected()) is not None:
        remote.post(f"/v1/groups/{group}/approval")
    elif not GroupStore().approve(group, getpass.getuser()):
        raise InputError(f"no group {group!r} waits for approval", remedy="`drover status ID` tells of a VM's group")
    if json:
        print_json({"event": "approved", "group": group})
    else:
        Console(highlight=False).print(f"{group} cuts over as soon as all its VMs are ready")
