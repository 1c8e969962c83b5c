"""`drover pause`: stops a migration that another process runs, in an orderly way."""

import time
from typing import Annotated

import typer
from rich.console import Console

from drover.cli import options
from drover.cli.output import print_json
from drover.cli.remote import connected
from drover.errors import InputError, MigrationError
from drover.store import LiveStore, MigrationStore

_PATIENCE = 120.0
"""Seconds: a cutover that is under way is taken back or brought to its end first."""


def pause(
    migration_id: Annotated[str, typer.Argument(metavar="ID", help="The migration, as `drover status` lists it.")],
    json: options.Json = False,
) -> None:
    """Stop a migration wherever it runs, as Ctrl-C there would; `drover resume` goes on with what was not sent."""
    if (remote := connected()) is not None:
        remote.post(f"/v1/migrations/{migration_id}/pause")
        if json:
            print_json({"event": "asked to pause", "migration": migration_id})
        else:
            Console().print(f"{migration_id} pauses; `drover status {migration_id}` tells when", highlight=False)
        return
    store = MigrationStore()
    migration = store.get(migration_id)
    if not store.is_running(migration.id):
        raise InputError(
            f"no process is running migration {migration.id}: it is {migration.state}",
            remedy="there is nothing to pause",
        )
    LiveStore(store.folder).ask_to_pause(migration.id)
    deadline = time.monotonic() + _PATIENCE
    while store.is_running(migration.id):
        if time.monotonic() > deadline:
            raise MigrationError(
                f"migration {migration.id} has been asked to pause and still runs after {_PATIENCE:.0f} s",
                remedy=f"`drover status {migration.id}` tells what it is doing",
            )
        time.sleep(0.1)
    state = store.get(migration.id).state
    if json:
        print_json({"event": "paused", "migration": migration.id, "vm": migration.spec.vm, "state": state})
    else:
        Console().print(f"{migration.id} of {migration.spec.vm} is {state}", highlight=False)
