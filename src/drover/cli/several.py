"""Several migrations at once: what is found of each beforehand, and what each says."""

import time
from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from drover.cli.check import show
from drover.cli.output import print_json
from drover.cli.view import show_outcome, summary_line
from drover.model.migration import Migration, Spec
from drover.model.units import format_size
from drover.model.vm import Vm
from drover.replicator.check import Report, together
from drover.replicator.check.devices import Fit, fit
from drover.replicator.events import Progress
from drover.store import DeviceStore, MigrationStore

_QUIET = 5.0
"""Seconds between progress lines of a VM."""
_PROGRESS = TypeAdapter(Progress)


def check_all(specs: Sequence[Spec], store: MigrationStore, devices: Sequence[str], *, json: bool) -> list[Report]:
    """Checks every VM and shows what was found. Raises CheckError if one cannot be migrated, or not all together."""
    found = together.check_all(specs, store, devices, _Shown(json=json))
    reports = [report for _, report in found]
    if devices:
        fits = fit([vm for vm, _ in found], reports[0].room, specs[0])
        _show_fit(fits, reports[0], DeviceStore(store.folder), json=json)
    return reports


class _Shown:
    def __init__(self, *, json: bool) -> None:
        self._json = json

    def looks_at(self, vm: str) -> None:
        if not self._json:
            Console().print(f"[dim]checking {vm} …[/]")

    def found(self, vm: Vm, report: Report) -> None:
        if self._json:
            print_json({**report.as_json(), "vm": vm.name})
        else:
            show(report)

    def room(self, report: Report) -> None:
        if self._json:
            fields = {"pools": {name: vars(pool) for name, pool in report.pools.items()}}
            print_json({"event": "pools", "passed": report.passed, **fields})
        elif report.findings:
            show(report)


def _show_fit(fits: Fit, report: Report, devices: DeviceStore, *, json: bool) -> None:
    if json:
        fields = {"allocated_bytes": fits.allocated, "free_bytes": fits.free, "fits": fits.fits}
        print_json({"event": "fit", **fields, "load_seconds": fits.load_seconds, "room": report.room})
        return
    rooms = [f"{devices.get(device).label} {format_size(free)}" for device, free in report.room.items()]
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"all together: {fits.words}; room: {', '.join(rooms)}", markup=False)


class Watcher:
    """What the migrations say: JSON as it comes, else a line with the VM's name before it."""

    def __init__(self, store: MigrationStore, *, json: bool) -> None:
        self._store = store
        self._json = json
        self._console = Console(highlight=False, soft_wrap=True)
        self._printed: dict[str, float] = {}

    def planned(self, migration: Migration) -> None:
        if not self._json:
            self.say(migration, f"migration {migration.id}; `drover status {migration.id}` tells its story")

    def show(self, migration: Migration, event: dict[str, Any]) -> None:
        if self._json:
            print_json(event)
            return
        kind = event.get("event")
        if kind == "message":
            self.say(migration, f"{time.strftime('%H:%M:%S')}  {event.get('text')}")
        elif kind == "progress":
            self._progress(migration, event)
        elif kind == "error":
            remedy = event.get("remedy")
            self.say(migration, f"{event.get('error')}{f' — {remedy}' if remedy else ''}", style="bold red")
        elif kind == "finished":
            show_outcome(self._store.get(migration.id))

    def _progress(self, migration: Migration, event: dict[str, Any]) -> None:
        if time.monotonic() - self._printed.get(migration.id, -_QUIET) < _QUIET:
            return
        self._printed[migration.id] = time.monotonic()
        try:
            self.say(migration, summary_line(_PROGRESS.validate_python(event)))
        except ValidationError:
            return

    def say(self, migration: Migration, words: str, *, style: str | None = None) -> None:
        """One line about a migration; with JSON, an event."""
        if self._json:
            print_json({"event": "message", "migration": migration.id, "vm": migration.spec.vm, "text": words})
            return
        self._console.print(f"{migration.spec.vm}: {words}", markup=False, style=style)
