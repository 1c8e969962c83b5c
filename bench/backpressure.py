"""(d) Replication backpressure: a guest's p99, the link and the latency budget over time, controller off and on.

The guest writes 4 KiB at random as fast as it can. Its p99 is QEMU's: what its devices wait for each request, second by
second, read by the bench itself, from the same histogram that Drover steers by.
"""

import contextlib
import itertools
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter
from tests.migration.drover import Drover
from tests.migration.drover import run as run_drover
from tests.migration.world import Vm

from bench.guest import RATE, VDISKS, carried, load_vm
from drover.lab import Lab
from drover.model.latency import LatencyBudget
from drover.platforms.libvirt.latency import LatencyHistograms

PICTURE = Path(__file__).with_name("backpressure.svg")
BUDGET = "+50%"
OFF, ON = "without a budget", f"with --max-latency {BUDGET}"
SIZE = 3 << 30
"""Bytes of the VM's VDISKs: a copy over the link outlasts the measuring."""
BEFORE = 15.0
"""Seconds of the guest alone."""
COPYING = {OFF: 40.0, ON: 75.0}
"""Seconds of background replication at most; the controller is also watched while it finds its rate."""
PATIENCE = 60.0


@dataclass
class Series:
    """One run, a sample a second; `at` are seconds since background replication began, before it below 0."""

    at: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    """Seconds; 0 where nothing was completed."""
    rate: list[float] = field(default_factory=list)
    """Bytes/s that the link carried, background and foreground."""
    limit: list[float | None] = field(default_factory=list)
    """Seconds that the budget allows, as Drover says."""
    allowed: list[float | None] = field(default_factory=list)
    """Bytes/s that the controller allows the background; 0 while it pauses."""

    def copying(self, values: list[float]) -> list[float]:
        """Those of the time in which the background went; the first seconds belong to the search for a rate."""
        going = zip(self.at, values, self.allowed, strict=True)
        return [value for at, value, allowed in going if at >= 0 and allowed != 0]

    @property
    def alone(self) -> float:
        """The median second's p99 of the guest alone, in seconds."""
        return statistics.median(p99 for at, p99 in zip(self.at, self.p99, strict=True) if at < 0)


def measure(lab: Lab, folder: Path) -> dict[str, Series]:
    """A run with the controller off and one with it on, each on a VM made anew; draws the picture."""
    lab.link.set(rate=RATE)
    result = {}
    try:
        for number, (name, seconds) in enumerate(COPYING.items()):
            with load_vm(lab, f"pressed-{number}", folder, size=SIZE) as vm:
                result[name] = _watch(vm, ["--max-latency", BUDGET] if name == ON else [], seconds)
            one = result[name]
            print(f"  {name}: p99 {1e3 * one.alone:.2f} ms alone, ", end="")
            print(f"{1e3 * statistics.median(one.copying(one.p99)):.2f} ms while copying", flush=True)
    finally:
        lab.link.set(rate=None)
    draw(result, PICTURE)
    return result


def _watch(vm: Vm, options: list[str], seconds: float) -> Series:
    series = Series()
    with _histograms(vm) as histograms:
        begun = time.monotonic()
        _sample(vm, histograms, series, begun + BEFORE, until=begun + BEFORE, process=None)
        process = vm.migrate("--max-downtime", "1ms", *options)
        try:
            process.wait_for(lambda event: event.get("event") == "progress", PATIENCE)
            begun = time.monotonic()
            _sample(vm, histograms, series, begun, until=begun + seconds, process=process)
        finally:
            process.kill()
            cancelled = run_drover(vm.data, "cancel", process.events[-1]["migration"])
        if cancelled.returncode != 0:
            raise RuntimeError(f"cancelling the migration failed: {cancelled.stderr.strip()}")
    return series


@contextlib.contextmanager
def _histograms(vm: Vm) -> Iterator[LatencyHistograms]:
    """QEMU's histograms as Drover sets them; without a budget nobody else does."""
    with vm.lab.site("alpha").connection() as connection:
        histograms = LatencyHistograms(connection.lookupByName(vm.name), VDISKS)
        try:
            yield histograms
        finally:
            histograms.stop()


def _sample(
    vm: Vm, histograms: LatencyHistograms, series: Series, zero: float, *, until: float, process: Drover | None
) -> None:
    """A sample a second until then, or until the background is done."""
    # A migration that begins removes what an earlier one could have left.
    obstacle = histograms.start()
    if obstacle is not None:
        raise RuntimeError(f"QEMU keeps no histogram: {obstacle}")
    then, before, sent = time.monotonic(), histograms.read(), carried(vm.lab)
    while time.monotonic() < until:
        time.sleep(1)
        now, total, sent_now = time.monotonic(), histograms.read(), carried(vm.lab)
        progress = _latest(process)
        if progress is not None and not sum(vdisk["left"] for vdisk in progress["vdisks"]):
            return
        latency = progress["latency"] if progress else None
        series.at.append(now - zero)
        series.p99.append(total.since(before).figure)
        series.rate.append((sent_now - sent) / (now - then))
        series.limit.append(latency["limit"] if latency else None)
        series.allowed.append((0 if latency["measuring"] else latency["background_limit"]) if latency else None)
        then, before, sent = now, total, sent_now


def _latest(process: Drover | None) -> dict[str, Any] | None:
    events = reversed(process.events) if process else []
    return next((event for event in events if event.get("event") == "progress"), None)


def within(series: Series) -> float:
    """Share of the seconds of copying whose p99 the budget allows, by what the guest alone took in the same run."""
    limit = LatencyBudget.parse(BUDGET).limit(series.alone)
    p99 = series.copying(series.p99)
    return sum(one <= limit for one in p99) / len(p99)


def draw(runs: dict[str, Series], path: Path) -> None:
    """Two columns, off and on: above the p99 and the budget, below the link and what the controller allows."""
    with matplotlib.rc_context({"svg.hashsalt": "drover", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(10, 5.5), layout="constrained")
        axes = figure.subplots(2, len(runs), sharex="col", sharey="row", squeeze=False)
        top = max(itertools.chain.from_iterable(one.p99 for one in runs.values()))
        for column, (name, one) in enumerate(runs.items()):
            above, below = axes[0][column], axes[1][column]
            above.set_title(name)
            above.plot(one.at, [1e3 * value for value in one.p99], color="tab:blue", label="guest's p99")
            above.axhline(1e3 * one.alone, color="tab:gray", linestyle=":", label="p99 alone (median)")
            if any(one.limit):
                limit = [None if value is None else 1e3 * value for value in one.limit]
                above.step(one.at, limit, color="tab:red", where="post", label=f"budget, {BUDGET}")
            below.plot(one.at, [value / 1e6 for value in one.rate], color="tab:green", label="link carries")
            if any(one.limit):
                allowed = [None if value is None else value / 1e6 for value in one.allowed]
                below.step(one.at, allowed, color="tab:red", where="post", label="background may do (0: pause)")
            below.set_xlabel("seconds since background replication began")
            for axis in (above, below):
                axis.axvline(0, color="black", linewidth=0.5)
                axis.grid(alpha=0.3)
                axis.legend(loc="upper left")
        axes[0][0].set_ylabel("ms")
        axes[0][0].set_yscale("log")
        axes[0][0].yaxis.set_major_formatter("{x:g}")
        axes[0][0].yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.4)))
        axes[0][0].set_ylim(top=2e3 * top)
        axes[1][0].set_ylabel("MB/s")
        axes[1][0].set_ylim(bottom=0, top=1.6 * RATE / 1e6)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
