"""What `drover device` shows: progress, what was unloaded, what is damaged or missing."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from drover.cli.output import print_json
from drover.devices.manifest import Verdict
from drover.devices.reading import Reading
from drover.devices.unload import Unloaded
from drover.engine.status import Damage, DeviceStatus
from drover.model.units import format_duration, format_rate, format_size

_QUIET = 5.0
"""Seconds between progress lines where there is no terminal to redraw."""


def new_console() -> Console:
    """Standard output, for words that may hold anything."""
    return Console(highlight=False, soft_wrap=True)


def show_unloaded(done: Unloaded) -> None:
    """What one migration got from a device."""
    status, console = done.status, new_console()
    words = f"{done.vm} ({done.migration}): {status.unloaded_chunks} chunks unloaded"
    words += f", {status.skipped_chunks} of other migrations or there already" if status.skipped_chunks else ""
    words += f", {status.refused_chunks} overtaken by later writes" if status.refused_chunks else ""
    console.print(words + ".", markup=False)
    if status.damaged:
        show_damages(status, {done.migration: done.vm})
    if done.by_network:
        console.print(f"  {format_size(done.by_network)} could not be had from it and go over the network.")


def show_verdict(verdict: Verdict, own: str) -> None:
    """Whether what a manifest lists is there; `own` is this Drover's public key."""
    console, signed = new_console(), verdict.signed
    if signed is None:
        words = f"  manifest of {verdict.migration}: "
        if verdict.broken is None:
            console.print(words + "there is none, not finished or deleted: completeness unknown", markup=False)
        else:
            console.print(words + f"it cannot be believed: {verdict.broken}", markup=False, style="bold red")
        return
    name = f"{signed.manifest.vm} ({verdict.migration})"
    who = "this Drover" if signed.public_key == own else f"another Drover, whose key is {signed.public_key}"
    console.print(f"  manifest of {name}: made {signed.manifest.created}, signed by {who}", markup=False)
    for missing in verdict.missing:
        lacks = f"{missing.listed - missing.found} of {missing.listed} chunks are missing"
        console.print(f"  VDISK {missing.vdisk} of {name}: {lacks}", markup=False, style="bold red")
    if not verdict.missing:
        chunks = sum(vdisk.chunks for vdisk in signed.manifest.vdisks)
        console.print(f"  {name} is complete: all {chunks} chunks are there", markup=False)


def show_damages(status: DeviceStatus, names: Mapping[str, str]) -> None:
    """The damaged places that are listed. `names` are the VMs by their migrations, as far as known."""
    console = new_console()
    places = "1 place is damaged" if status.damaged == 1 else f"{status.damaged} places are damaged"
    console.print(f"[bold red]{places}:[/]")
    for damage in status.damages:
        whose = "" if damage.vdisk is None else f"{_whose(damage, names)}: "
        console.print(
            f"  {whose}{damage.bytes} bytes at {damage.offset} of pack {damage.pack:08d}: {damage.why}", markup=False
        )
    if status.damaged > len(status.damages):
        console.print(f"  and {status.damaged - len(status.damages)} more")


def _whose(damage: Damage, names: Mapping[str, str]) -> str:
    """The VM, the VDISK and where in it."""
    migration = damage.migration or "?"
    vm = f"{names[migration]} ({migration})" if migration in names else migration
    place = "" if damage.chunk is None else f", at {damage.vdisk_offset}"
    return f"VDISK {damage.vdisk} of {vm}{place}"


def figures(status: DeviceStatus) -> dict[str, Any]:
    """What was read of a device, as JSON has it."""
    return {**status.model_dump(), "complete": not status.damaged}


class Bar:
    """One line that changes on a terminal, some lines elsewhere, JSON on demand."""

    def __init__(self, json: bool) -> None:
        self._json = json
        self._console = new_console()
        self._live = Live(console=self._console, refresh_per_second=4, transient=True)
        self._printed = 0.0

    def __enter__(self) -> "Bar":
        if self._console.is_terminal and not self._json:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, reading: Reading) -> None:
        """How far reading is."""
        if self._json:
            self._now_and_then(lambda: print_json(reading.as_json()))
            return
        left = "" if reading.time_left is None else f", {format_duration(reading.time_left)} left"
        done = f"{format_size(reading.read)} of {format_size(reading.total)}"
        self.say(f"{reading.device}: {done} read, {format_rate(reading.rate)}{left}")

    def say(self, words: str) -> None:
        """Words in place of the last ones; none where JSON is asked for."""
        if self._json:
            return
        if self._console.is_terminal:
            self._live.update(Text(words))
        else:
            self._now_and_then(lambda: self._console.print(words, markup=False))

    def _now_and_then(self, tell: Callable[[], None]) -> None:
        if time.monotonic() - self._printed >= (0.5 if self._json else _QUIET):
            self._printed = time.monotonic()
            tell()
