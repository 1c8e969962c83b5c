"""`drover device load`: several VMs at once onto the same transport devices; their migrations then go on as always."""

import time
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from drover.cli import options
from drover.cli.check import show
from drover.cli.output import print_json
from drover.cli.view import show_outcome, summary_line
from drover.errors import CheckError, DroverError, InputError
from drover.model.migration import Migration, Spec, State
from drover.model.units import format_size
from drover.model.vm import Vm
from drover.replicator.check import Report, check
from drover.replicator.check.devices import Fit, fit
from drover.replicator.events import Progress
from drover.replicator.migrate import plan
from drover.replicator.parallel import run_all
from drover.store import DeviceStore, MigrationStore

_QUIET = 5.0
"""Seconds between progress lines of a VM."""
_PROGRESS = TypeAdapter(Progress)


def load(
    vms: Annotated[list[str], typer.Argument(metavar="VM…", help="Names or UUIDs of the VMs.")],
    source: options.From,
    destination: options.To,
    device: options.Device = [],  # noqa: B006
    network: options.Network = [],  # noqa: B006
    pool: options.Pool = [],  # noqa: B006
    format: options.Format = [],  # noqa: B006
    cutover: options.CutoverMode = None,
    max_downtime: options.MaxDowntime = None,
    target_time: options.TargetTime = None,
    shutdown_timeout: options.ShutdownTimeout = None,
    bandwidth: options.Bandwidth = None,
    max_latency: options.MaxLatency = None,
    write_backpressure: options.WriteBackpressure = None,
    write_floor: options.WriteFloor = None,
    on_read_error: options.ReadErrors = None,
    connections: options.Connections = None,
    compression: options.Compression = None,
    destination_address: options.DestinationAddress = None,
    rest_by_network: options.RestByNetwork = None,
    json: options.Json = False,
) -> None:
    """Migrate several VMs at once with the same devices: each is checked first, then all are loaded side by side.

    Once they are loaded the migrations go on: the VMs' writes go over the network until `drover device unload`, then
    each cuts over.
    """
    if not device:
        raise InputError(
            "no transport device was named", remedy="give --device PATH, or use `drover migrate` for each VM"
        )
    given = options.settings(
        cutover=cutover,
        max_downtime=max_downtime,
        target_time=target_time,
        shutdown_timeout=shutdown_timeout,
        bandwidth=bandwidth,
        max_latency=max_latency,
        write_backpressure=write_backpressure,
        write_floor=write_floor,
        on_read_error=on_read_error,
        connections=connections,
        compression=compression,
        destination_address=destination_address,
        rest_by_network=rest_by_network,
    )
    specs = [options.specification(vm, source, destination, network, pool, format, **given) for vm in vms]
    store = MigrationStore()
    reports = _check(specs, store, device, json=json)
    migrations = _plan(specs, reports, store)
    watcher = _Watcher(store, json=json)
    for migration in migrations:
        watcher.planned(migration)
    if code := run_all(migrations, watcher.show):
        raise typer.Exit(code)


def _check(specs: list[Spec], store: MigrationStore, devices: list[str], *, json: bool) -> list[Report]:
    """Checks every VM and shows what was found. Raises CheckError if one cannot be migrated."""
    reports: list[Report] = []
    vms: list[Vm] = []
    for spec in specs:
        if not json:
            Console().print(f"[dim]checking {spec.vm} …[/]")
        report, vm = check(spec, store, devices)
        if any(vm.uuid == other.uuid for other in vms):
            raise InputError(f"{vm.name} was named twice", remedy="name each VM once")
        reports.append(report)
        vms.append(vm)
        if json:
            print_json({**report.as_json(), "vm": vm.name})
        else:
            show(report)
    failed = [vm.name for vm, report in zip(vms, reports, strict=True) if not report.passed]
    if failed:
        raise CheckError(
            f"{', '.join(failed)} cannot be migrated as asked, so that nothing was begun",
            remedy="do what the checks say, or leave them out",
        )
    together = fit(vms, reports[0].room, specs[0])
    _show_fit(together, reports[0], DeviceStore(store.folder), json=json)
    return reports


def _show_fit(together: Fit, report: Report, devices: DeviceStore, *, json: bool) -> None:
    if json:
        fields = {"allocated_bytes": together.allocated, "free_bytes": together.free, "fits": together.fits}
        print_json({"event": "fit", **fields, "load_seconds": together.load_seconds, "room": report.room})
        return
    rooms = [f"{devices.get(device).label} {format_size(free)}" for device, free in report.room.items()]
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"all together: {together.words}; room: {', '.join(rooms)}", markup=False)


def _plan(specs: list[Spec], reports: list[Report], store: MigrationStore) -> list[Migration]:
    """All of them, or none."""
    planned: list[Migration] = []
    try:
        for spec, report in zip(specs, reports, strict=True):
            planned.append(plan(store, spec, report))
    except DroverError:
        for migration in planned:
            store.enter(migration, State.CANCELLED, reason="another VM that was to be loaded with it could not be")
        raise
    return planned


class _Watcher:
    """What the migrations say: JSON as it comes, else a line with the VM's name before it."""

    def __init__(self, store: MigrationStore, *, json: bool) -> None:
        self._store = store
        self._json = json
        self._console = Console(highlight=False, soft_wrap=True)
        self._printed: dict[str, float] = {}

    def planned(self, migration: Migration) -> None:
        if not self._json:
            self._say(migration, f"migration {migration.id}; `drover status {migration.id}` tells its story")

    def show(self, migration: Migration, event: dict[str, Any]) -> None:
        if self._json:
            print_json(event)
            return
        kind = event.get("event")
        if kind == "message":
            self._say(migration, f"{time.strftime('%H:%M:%S')}  {event.get('text')}")
        elif kind == "progress":
            self._progress(migration, event)
        elif kind == "error":
            remedy = event.get("remedy")
            self._say(migration, f"{event.get('error')}{f' — {remedy}' if remedy else ''}", style="bold red")
        elif kind == "finished":
            show_outcome(self._store.get(migration.id))

    def _progress(self, migration: Migration, event: dict[str, Any]) -> None:
        if time.monotonic() - self._printed.get(migration.id, -_QUIET) < _QUIET:
            return
        self._printed[migration.id] = time.monotonic()
        try:
            self._say(migration, summary_line(_PROGRESS.validate_python(event)))
        except ValidationError:
            return

    def _say(self, migration: Migration, words: str, *, style: str | None = None) -> None:
        self._console.print(f"{migration.spec.vm}: {words}", markup=False, style=style)
