"""Watching a migration: a live view on a terminal, plain lines elsewhere, JSON lines on demand."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from drover.cli.options import changed
from drover.cli.output import print_json
from drover.model.forecast import Range
from drover.model.migration import Cutover, Migration
from drover.model.units import format_duration, format_rate, format_size
from drover.replicator.attended import attended
from drover.replicator.events import Event, Message, Progress
from drover.replicator.migrate import migrate
from drover.replicator.run import Run
from drover.replicator.transport import add_devices
from drover.store import MigrationStore

_LIMITS = {
    "source": "source's disk",
    "destination": "destination's disk",
    "link": "link",
    "processor": "source host's processors",
    "pacing": "bandwidth that was set",
    "device": "transport device",
}
_QUIET = 5.0
"""Seconds between progress lines where there is no terminal to redraw."""


def watch(
    store: MigrationStore,
    migration: Migration,
    *,
    json: bool,
    changes: Mapping[str, Any] | None = None,
    devices: Sequence[str] = (),
) -> None:
    """Runs a migration to its end and shows it.

    `changes` are settings that replace those of its specification, `devices` paths of transport devices to add.
    """
    with store.running(migration):
        if devices:
            add_devices(store, migration, devices)
        if changes:
            migration.spec = changed(migration.spec, dict(changes))
            store.save(migration)
        if json:
            show = attended(store, migration, lambda event: print_json(event.as_json()))
            with show as observe, Run(store, migration, observe) as run:
                migrate(run)
            print_json({"event": "finished", **_outcome(migration)})
            return
        view = View(migration)
        with view, attended(store, migration, view.show) as observe, Run(store, migration, observe) as run:
            migrate(run)
        show_outcome(migration)


class View:
    """The live view: a line for what happened, bars for how far it is."""

    def __init__(self, migration: Migration) -> None:
        self._console = Console(highlight=False)
        self._migration = migration
        self._live = Live(console=self._console, refresh_per_second=4, transient=True)
        self._printed = 0.0

    def __enter__(self) -> "View":
        self._console.print(
            f"[bold]{self._migration.id}[/]: {self._migration.spec.vm} goes from {self._migration.spec.source} "
            f"to {self._migration.spec.destination}",
            soft_wrap=True,
        )
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def show(self, event: Event) -> None:
        if isinstance(event, Message):
            stamp = time.strftime("%H:%M:%S")
            self._console.print(Text.assemble((stamp, "dim"), "  ", event.text), soft_wrap=True)
        elif self._console.is_terminal:
            self._live.update(_picture(event))
        elif time.monotonic() - self._printed >= _QUIET:
            self._printed = time.monotonic()
            self._console.print("          " + summary_line(event), markup=False, soft_wrap=True)


def _picture(progress: Progress) -> Group:
    bars = Table(box=None, pad_edge=False, show_header=False)
    rows = [(vdisk.name, vdisk.done, vdisk.size, vdisk.left, vdisk.dirty) for vdisk in progress.vdisks]
    if len(rows) > 1:
        done, size, left, dirty = (sum(column) for column in zip(*(row[1:] for row in rows), strict=True))
        rows.append(("total", done, size, left, dirty))
    for name, done, size, left, dirty in rows:
        share = f"{100 * done / size:.0f} %" if size else ""
        words = f"{format_size(done)} of {format_size(size)}, {format_size(left)} left, {format_size(dirty)} dirty"
        bars.add_row(name, ProgressBar(total=max(size, 1), completed=done, width=36), share, words)
    return Group(bars, Text(_facts(progress), style="dim"), *map(Text, _backpressure(progress)))


def _facts(progress: Progress) -> str:
    left = _left(progress)
    slow = "" if progress.limited_by is None else f", limited by the {_LIMITS[progress.limited_by]}"
    road = "" if not progress.loaded else f" · {format_size(progress.loaded)} on devices"
    zeros = "" if not progress.unreadable else f" · {format_size(progress.unreadable)} unreadable, sent as zeros"
    return (
        f"{progress.state}{left} · {format_rate(progress.rate)}, {format_rate(progress.wire_rate)} on the wire{slow} · "
        f"VM writes {format_rate(progress.vm_write_rate)} · epoch {progress.epoch}: "
        f"{format_size(progress.epoch_bytes)} in {format_duration(progress.epoch_seconds)} · "
        f"{_downtime(progress)} · link {progress.link}{road}{zeros}"
    )


def _left(progress: Progress) -> str:
    """Until the end if that can be said, else until the background is through."""
    expected = progress.expected
    if expected is not None and expected.time_left is not None:
        return f" · {_range(expected.time_left)} left"
    return "" if progress.time_left is None else f" · {format_duration(progress.time_left)} to copy"


def _downtime(progress: Progress) -> str:
    """What is to be expected, and what the gate, which must not be wrong, reckons with."""
    at_most = "?" if progress.predicted_downtime is None else format_duration(progress.predicted_downtime)
    if progress.expected is None:
        return f"predicted downtime {at_most}"
    return f"downtime {_range(progress.expected.downtime)}, at most {at_most}"


def _range(expected: Range) -> str:
    low, middle, high = map(format_duration, (expected.p10, expected.p50, expected.p90))
    return f"{middle} ({low} – {high})"


def _backpressure(progress: Progress) -> list[str]:
    """What is held back, why, and what it costs."""
    words = [progress.holding, progress.prediction]
    if (slowed := progress.slowed) is not None:
        words.append(
            f"write backpressure: each VDISK at {format_rate(slowed.limit)} at most; costs the VM "
            f"{format_rate(slowed.bytes_per_second)}, {slowed.requests_per_second:.0f} writes/s, "
            f"for {format_duration(slowed.seconds)} so far"
        )
    if (latency := progress.latency) is not None:
        now, baseline, limit = map(_latency, (latency.now, latency.baseline, latency.limit))
        rate = "paused to measure" if latency.measuring else f"at {format_rate(latency.background_limit)} at most"
        words.append(
            f"replication backpressure: background {rate}; the VM's {latency.measure} {now}, "
            f"{baseline} without background, {limit} allowed"
        )
    return [line for line in words if line]


def _latency(seconds: float | None) -> str:
    return "?" if seconds is None else f"{1000 * seconds:.2f} ms"


def summary_line(progress: Progress) -> str:
    """How far it is, in one line."""
    share = 100 * progress.done / progress.size if progress.size else 0
    return " · ".join([f"{share:3.0f} % of {format_size(progress.size)}", _facts(progress), *_backpressure(progress)])


def _outcome(migration: Migration) -> dict[str, Any]:
    cutover = migration.facts.cutover
    return {
        "migration": migration.id,
        "vm": migration.spec.vm,
        "state": migration.state,
        "cutover": cutover.mode if cutover else None,
        "downtime_seconds": cutover.downtime if cutover else None,
        "sent_bytes": migration.facts.sent_bytes,
        "epochs": migration.facts.epochs_done,
        "certificate": migration.facts.certificate,
    }


def show_outcome(migration: Migration) -> None:
    """What came of a migration that is finished."""
    cutover, console = migration.facts.cutover, Console(highlight=False, soft_wrap=True)
    if cutover is None:
        return
    vm, there = migration.spec.name_there, migration.spec.destination
    if cutover.mode is Cutover.MANUAL:
        console.print(
            f"[bold green]{vm} is at the destination, shut off.[/] Start it with `virsh -c {there} start {vm}`."
        )
    else:
        console.print(
            f"[bold green]{vm} runs at the destination.[/] Downtime {format_duration(cutover.downtime or 0)}."
        )
    epochs, sent = migration.facts.epochs_done, format_size(migration.facts.sent_bytes)
    console.print(f"{epochs} epochs, {sent} on the wire; every chunk of both sides compared by hash.")
    for name, unreadable in migration.facts.unreadable.items():
        console.print(
            f"[bold red]VDISK {name}: {unreadable.bytes} bytes in {unreadable.places} places could not be read[/] and "
            f"are zeros; `drover status {migration.id}` lists them."
        )
    console.print(f"Certificate: {migration.facts.certificate}", markup=False)
    console.print(
        f"The source VM is kept, shut off and locked against an accidental start, at {migration.spec.source}."
    )
