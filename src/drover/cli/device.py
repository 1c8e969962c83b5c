"""`drover device`: transport devices, which carry the bulk of VDISKs by road."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from drover.cli import options
from drover.cli.device_view import Bar, figures, new_console, show_damages, show_unloaded, show_verdict
from drover.cli.load import load
from drover.cli.output import print_json
from drover.devices.folder import DeviceFolder, open_host
from drover.devices.keys import own_identity
from drover.devices.known import identity_of, make_device, open_device, open_key
from drover.devices.manifest import judge
from drover.devices.needs import forget as give_up
from drover.devices.needs import needed_by
from drover.devices.signing import FILE as SIGNING_KEY
from drover.devices.signing import own_signer
from drover.devices.unload import find
from drover.devices.unload import unload as unload_one
from drover.devices.verify import verify as read_all
from drover.errors import InputError, MigrationError
from drover.model.device import Device, Use
from drover.model.units import format_duration, format_size
from drover.store import DeviceStore, MigrationStore

app = typer.Typer(no_args_is_help=True, help="Transport devices: disks that carry the bulk of VDISKs by road.")

_DAMAGED = 1
_Path = Annotated[str, typer.Argument(metavar="PATH", help="Where the device is mounted.")]
_Host = Annotated[
    str | None,
    typer.Option("--host", metavar="URI", help="The site on whose host PATH is, as libvirt names it. Default: here."),
]
_IdentityFile = Annotated[
    Path | None,
    typer.Option("--identity", metavar="FILE", help="age identity that opens the device. Default: this Drover's own."),
]


@app.command()
def init(
    paths: Annotated[list[str], typer.Argument(metavar="PATH…", help="Where each device is mounted.")],
    label: Annotated[str | None, typer.Option(help="What to call it. Default: the last part of PATH.")] = None,
    recipient: Annotated[
        list[str],
        typer.Option("--recipient", metavar="AGE1…", help="Who else may open it, besides this Drover. Repeatable."),
    ] = [],  # noqa: B006
    host: _Host = None,
    json: options.Json = False,
) -> None:
    """Make folders transport devices: a label, a key that only its recipients open. Files that are there stay."""
    if label is not None and len(paths) > 1:
        raise InputError("one --label cannot name several devices", remedy="give one path, or leave --label out")
    store, where = DeviceStore(), open_host(host)
    try:
        for path in paths:
            device = make_device(where, _full(path, host), store, site=host, label=label, recipients=recipient)
            folder = DeviceFolder(where, device.path or "")
            room, on_root = folder.room(), folder.on_root()
            if json:
                print_json(
                    {
                        "event": "device", **device.model_dump(), "free_bytes": room.free, "on_root": on_root,
                        "signing_key": own_signer(store.folder).public_key,
                    }
                )  # fmt: skip
                continue
            console = new_console()
            console.print(f"{device.label} ({device.id}) is ready: {format_size(room.free)} free.", markup=False)
            if on_root:
                console.print(f"{device.path} lies on the host's own disk: is the device mounted there?", markup=False)
    finally:
        where.close()
    if not json:
        own, signer = own_identity(store.folder), own_signer(store.folder)
        new_console().print(f"Opened by {own.recipient}; its secret is in {store.folder / 'identity.age-key'}.")
        new_console().print(f"What is loaded is signed by {signer.public_key}; its secret is in {SIGNING_KEY} there.")


app.command()(load)


@app.command("list")
def list_(json: options.Json = False) -> None:
    """List the transport devices that this Drover knows, and what became of them."""
    migrations = MigrationStore()
    devices = DeviceStore().all()
    if json:
        for device in devices:
            print_json(_as_json(device, migrations))
        return
    if not devices:
        new_console().print("No transport devices. `drover device init PATH` makes one.")
        return
    table = Table(box=None, pad_edge=False)
    for title in ("label", "id", "state", "last seen at", "age"):
        table.add_column(title)
    for device in devices:
        place = f"{device.path or '?'}{f' of {device.site}' if device.site else ''}"
        age = format_duration(time.time() - device.created_at)
        table.add_row(escape(device.label), device.id, _state(device, migrations), escape(place), age)
    new_console().print(table)


@app.command()
def show(path: _Path, host: _Host = None, identity: _IdentityFile = None, json: options.Json = False) -> None:
    """Show the device at PATH: label, room, packs, and whether it can be opened here."""
    store, where = DeviceStore(), open_host(host)
    try:
        folder = DeviceFolder(where, _full(path, host))
        label = folder.require()
        room, packs = folder.room(), folder.packs()
        store.saw(label.id, label.label, site=host, path=folder.path)
        obstacle: str | None = None
        try:
            open_key(folder, label, identity_of(store, identity))
        except InputError as error:
            obstacle = str(error)
    finally:
        where.close()
    device = store.get(label.id)
    if json:
        sizes = {"free_bytes": room.free, "total_bytes": room.total, "packs": packs.number, "pack_bytes": packs.bytes}
        said = {"created": label.created, "obstacle": obstacle, "signing_key": own_signer(store.folder).public_key}
        print_json({**_as_json(device, MigrationStore()), **sizes, **said})
        return
    console = new_console()
    console.print(f"[bold]{escape(label.label)}[/]  {label.id}  {_state(device, MigrationStore())}")
    console.print(f"  made {label.created}; {format_size(room.free)} of {format_size(room.total)} free")
    console.print(f"  {packs.number} packs, {format_size(packs.bytes)}")
    console.print("  can be opened" if obstacle is None else f"  cannot be opened: {obstacle}", markup=False)
    console.print(f"  this Drover signs what it loads by {own_signer(store.folder).public_key}")


@app.command()
def verify(path: _Path, host: _Host = None, identity: _IdentityFile = None, json: options.Json = False) -> None:
    """Read all of the device at PATH; name what is damaged and what is missing. Exit code 1 if something is."""
    store, where = DeviceStore(), open_host(host)
    try:
        opened = open_device(where, _full(path, host), store, identity)
        with Bar(json) as bar:
            status = read_all(opened.folder, opened.label, opened.key, bar.show)
        sealed = opened.folder.manifests()
    finally:
        where.close()
    verdicts = judge(sealed, identity_of(store, identity), status.loads, device=opened.label.id)
    wrong = status.damaged or any(verdict.complete is False for verdict in verdicts)
    own = own_signer(store.folder).public_key
    if json:
        unknown = any(verdict.complete is None for verdict in verdicts)
        complete = False if wrong else None if unknown else True
        manifests = [
            {**verdict.as_json(), "own": verdict.signed is not None and verdict.signed.public_key == own}
            for verdict in verdicts
        ]
        fields = {**figures(status), "complete": complete, "manifests": manifests}
        print_json({"event": "verified", "device": opened.label.id, **fields})
    else:
        console = new_console()
        for load in status.loads:
            console.print(
                f"  VDISK {load.vdisk} of {load.migration or '?'}: {load.chunks} chunks of {format_size(load.size)}",
                markup=False,
            )
        for verdict in verdicts:
            show_verdict(verdict, own)
        if status.damaged:
            show_damages(status, {v.migration: v.signed.manifest.vm for v in verdicts if v.signed is not None})
        elif not wrong:
            console.print(f"{opened.label.label} is intact: {format_size(status.read_bytes)} read.", markup=False)
    if wrong:
        raise typer.Exit(_DAMAGED)


@app.command()
def unload(
    path: Annotated[str, typer.Argument(metavar="PATH", help="Where it is mounted at the destination's host.")],
    identity: _IdentityFile = None,
    json: options.Json = False,
) -> None:
    """Unload the device at the destination, for each running migration that uses it; what it lacks goes by network."""
    store = DeviceStore()
    found = find(path, MigrationStore(), store)
    try:
        key = open_key(found.folder, found.label, identity_of(store, identity))
        failed: list[MigrationError] = []
        for migration in found.migrations:
            try:
                with Bar(json) as bar:
                    done = unload_one(migration, found.folder, found.label, key, devices=store, observe=bar.show)
            except MigrationError as error:
                # Of one migration alone; the others on the device need not wait for it.
                failed.append(error)
                continue
            if json:
                fields = {"migration": done.migration, "vm": done.vm, "by_network_bytes": done.by_network}
                print_json({"event": "unloaded", "device": found.label.id, **fields, **figures(done.status)})
            else:
                show_unloaded(done)
    finally:
        found.folder.host.close()
    if failed:
        more = "".join(f"; {error.message}" for error in failed[1:])
        raise MigrationError(failed[0].message + more, remedy=failed[0].remedy)
    if not json:
        new_console().print(f"{found.label.label} can be unplugged; `drover device wipe` makes it empty.", markup=False)


@app.command()
def forget(
    device: Annotated[str, typer.Argument(metavar="ID|LABEL", help="The device, as `drover device list` names it.")],
    json: options.Json = False,
) -> None:
    """Give up a device that is lost or stolen: what is on it alone is copied over the network."""
    store = DeviceStore()
    lost = store.get(device)
    forgotten = give_up(lost, migrations=MigrationStore(), devices=store)
    if json:
        for one in forgotten:
            print_json({"event": "forgotten", "device": lost.id, **vars(one)})
        return
    console = new_console()
    if not forgotten:
        console.print(f"No migration needs anything of {lost.label}.", markup=False)
    for one in forgotten:
        size = "what was on it" if one.bytes is None else format_size(one.bytes)
        when = f" with the next `drover resume {one.migration}`" if one.bytes is None else ""
        console.print(f"{one.vm} ({one.migration}): {size} goes over the network{when}.", markup=False)


@app.command()
def wipe(
    path: _Path,
    host: _Host = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Also overwrite the packs. Flash keeps copies: the dropped key is what counts."
        ),
    ] = False,
    even_if_needed: Annotated[
        bool,
        typer.Option("--even-if-needed", help="Also if a migration still needs it: that then goes over the network."),
    ] = False,
    json: options.Json = False,
) -> None:
    """Destroy the device's key, then delete its packs and label. Other files on it stay."""
    store, migrations, where = DeviceStore(), MigrationStore(), open_host(host)
    try:
        folder = DeviceFolder(where, _full(path, host))
        label = folder.read()
        packs = folder.packs()
        if label is None and packs.number == 0:
            folder.require()
        known = store.find(label.id) if label is not None else None
        if not even_if_needed:
            _refuse_if_needed(known, migrations, folder)
        if known is not None:
            store.save(known.model_copy(update={"wiped": True}))
            give_up(known, migrations=migrations, devices=store)
        gone = 0
        with Bar(json) as bar:
            for size in folder.wipe(overwrite=overwrite):
                gone += size
                bar.say(f"{format_size(gone)} of {format_size(packs.bytes)} deleted")
    finally:
        where.close()
    name = label.label if label is not None else folder.path
    if json:
        print_json({"event": "wiped", "device": label.id if label else None, "path": folder.path, "bytes": gone})
    else:
        new_console().print(f"{name} is wiped: its key is destroyed, {format_size(gone)} deleted.", markup=False)


def _refuse_if_needed(known: Device | None, migrations: MigrationStore, folder: DeviceFolder) -> None:
    if known is None or not (known.recipients or known.uses):
        raise InputError(
            f"another Drover made the device at {folder.path}: whether a migration needs it is not known here",
            remedy="wipe it where it was made, or with --even-if-needed",
        )
    needing = [m for m in needed_by(known, migrations) if known.uses.get(m.id, Use.PLANNED) is not Use.PLANNED]
    if needing:
        names = ", ".join(f"{migration.id} of {migration.spec.vm}" for migration in needing)
        raise InputError(
            f"the migration {names} still needs what is on {known.label}",
            remedy="`drover device unload` it first; with --even-if-needed it is copied over the network",
        )


def _as_json(device: Device, migrations: MigrationStore) -> dict[str, Any]:
    return {"event": "device", **device.model_dump(mode="json"), "state": _state(device, migrations)}


def _state(device: Device, migrations: MigrationStore) -> str:
    if device.wiped:
        return "wiped"
    uses = [f"{device.uses.get(m.id, Use.PLANNED)} ({m.id})" for m in needed_by(device, migrations)]
    if uses:
        return ", ".join(uses)
    return "lost" if Use.LOST in device.uses.values() else "ready"


def _full(path: str, site: str | None) -> str:
    """A path on this machine may be relative; one on another host says what it means."""
    return str(Path(path).absolute()) if site is None else path
