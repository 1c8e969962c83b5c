"""`drover status`: the migrations that this Drover knows."""

import time
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from drover.cli import options
from drover.cli.asked import show_status
from drover.cli.output import print_json
from drover.cli.remote import connected
from drover.model.migration import Migration
from drover.model.units import format_duration, format_size
from drover.store import GroupStore, MigrationStore, OrderStore


def status(
    migration_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="One migration with its history.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Also those that are finished or cancelled.")] = False,
    json: options.Json = False,
) -> None:
    """List the migrations, or tell one migration's story."""
    if (remote := connected()) is not None:
        show_status(remote, migration_id, everything=all_, json=json)
        return
    store = MigrationStore()
    if migration_id is not None:
        _one(store, store.get(migration_id), json)
        return
    migrations = store.all(include_ended=all_)
    if json:
        for migration in migrations:
            print_json(_as_json(migration, store))
        return
    if not migrations:
        Console().print("No migrations." if all_ else "No migrations under way. --all shows the finished ones.")
        return
    table = Table(box=None, pad_edge=False)
    groups = {member.migration: group for group in GroupStore(store.folder).all() for member in group.members}
    for title in ("id", "VM", "group", "state", "from", "to", "sent", "age"):
        table.add_column(title)
    for migration in migrations:
        table.add_row(
            migration.id,
            migration.spec.vm,
            groups[migration.id].name if migration.id in groups else "",
            str(migration.state),
            migration.spec.source,
            migration.spec.destination,
            format_size(migration.facts.sent_bytes),
            format_duration(time.time() - migration.created_at),
        )
    console = Console()
    console.print(table)
    waits = OrderStore(store.folder).waits([migration.id for migration in migrations])
    for migration in migrations:
        if migration.id in waits:
            console.print(f"{migration.id} of {migration.spec.vm} waits: {waits[migration.id]}", markup=False)
        if migration.reason:
            console.print(
                f"{migration.id}: {migration.reason}" + (f" — {migration.remedy}" if migration.remedy else "")
            )


def _one(store: MigrationStore, migration: Migration, json: bool) -> None:
    history = store.history(migration.id)
    if json:
        events = [{"at": at, "kind": kind, "text": text} for at, kind, text in history]
        print_json({**_as_json(migration, store), "history": events})
        return
    console = Console(highlight=False)
    console.print(f"[bold]{migration.id}[/]  {migration.spec.vm}  [bold]{migration.state}[/]")
    if group := GroupStore(store.folder).of(migration.id):
        taken_back = f"; its cutover was taken back: {group.reason}" if group.reason else ""
        others = ", ".join(f"{member.vm} ({member.mark.name.lower()})" for member in group.members)
        console.print(
            f"  group {group.name} of the plan {group.plan}, {group.phase}: {others}{taken_back}", markup=False
        )
    if waits := OrderStore(store.folder).waits([migration.id]).get(migration.id):
        console.print(f"  waits: {waits}", markup=False)
    for at, _, text in history:
        console.print(f"  {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(at))}  {text}", markup=False)
    if migration.remedy:
        console.print(f"  → {migration.remedy}", markup=False)
    for name, unreadable in migration.facts.unreadable.items():
        console.print(
            f"  VDISK {name}: {unreadable.bytes} bytes in {unreadable.places} places could not be read and are zeros "
            "at the destination:",
            markup=False,
        )
        for place in unreadable.first:
            console.print(f"    {place.length} bytes at {place.offset}", markup=False)
        if unreadable.places > len(unreadable.first):
            console.print(f"    and {unreadable.places - len(unreadable.first)} more", markup=False)
    if migration.facts.certificate:
        console.print(f"  certificate: {migration.facts.certificate}", markup=False)


def _as_json(migration: Migration, store: MigrationStore) -> dict[str, Any]:
    fields: dict[str, Any] = migration.model_dump(mode="json")
    fields["facts"].pop("domain_xml")
    group = GroupStore(store.folder).of(migration.id)
    waits = OrderStore(store.folder).waits([migration.id]).get(migration.id)
    return {"event": "migration", **fields, "group": None if group is None else asdict(group), "waits_for": waits}
