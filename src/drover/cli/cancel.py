"""`drover cancel`: ends a migration and leaves the source as it was."""

from typing import Annotated

import typer
from rich.console import Console

from drover.cli import options
from drover.cli.output import print_json
from drover.cli.remote import connected
from drover.errors import InputError
from drover.replicator.finish import cancel as cancel_run
from drover.replicator.run import Run
from drover.replicator.simulated import cancel as cancel_simulated
from drover.replicator.simulated import is_between
from drover.store import MigrationStore


def cancel(
    migration_id: Annotated[str, typer.Argument(metavar="ID", help="The migration, as `drover status` lists it.")],
    json: options.Json = False,
) -> None:
    """End a migration: the VM runs on at the source with nothing of Drover's in it; its copies are deleted."""
    if (remote := connected()) is not None:
        ended = remote.post(f"/v1/migrations/{migration_id}/cancel")
        _tell(ended["id"], ended["vm"], json=json)
        return
    store = MigrationStore()
    migration = store.get(migration_id)
    if migration.state.ended:
        raise InputError(f"migration {migration.id} is {migration.state} already", remedy="there is nothing to cancel")
    if is_between(migration.spec.source, migration.spec.destination):
        with store.running(migration):
            cancel_simulated(store, migration)
    else:
        with store.running(migration), Run(store, migration, lambda _: None) as run:
            cancel_run(run)
    _tell(migration.id, migration.spec.vm, json=json)


def _tell(migration: str, vm: str, *, json: bool) -> None:
    if json:
        print_json({"event": "cancelled", "migration": migration, "vm": vm})
    else:
        Console().print(f"{migration} is cancelled: {vm} is as it was at the source, its copies are deleted.")
