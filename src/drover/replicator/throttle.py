"""Replication backpressure: the background's rate follows the VM's I/O latency, where the administrator set a budget.

Without one nothing is measured and nothing is held back: engines run at a lower priority than VMs anyway, and what may
be added to whose latency is not ours to guess.
"""

import time

from drover.engine.status import EngineStatus
from drover.model.units import format_rate
from drover.platforms.libvirt.inventory import is_running
from drover.platforms.libvirt.latency import LatencyHistograms
from drover.replicator.events import Latency
from drover.replicator.pacer import Pacer, Phase
from drover.replicator.run import Run


class Throttle:
    """The background's rate of one run. Methods raise PlatformError and EngineError."""

    def __init__(self, run: Run) -> None:
        self._run = run
        spec = run.migration.spec
        self._pacer = Pacer(spec.max_latency, ceiling=run.bandwidth or float("inf"))
        self._histograms = LatencyHistograms(run.domain, run.vdisk_names)
        self._on = False
        self._obstacle: str | None = None
        self._applied: int | None = None
        self._writes = True

    def begin(self) -> None:
        """Before the background goes, or goes on with another engine or hypervisor process."""
        if not self._run.migration.spec.max_latency:
            return
        self._run.guard.arm(histograms=True)
        obstacle = self._histograms.start()
        if obstacle and obstacle != self._obstacle:
            self._run.say(f"the VM's latency is only known as a mean, which the budget is held against: {obstacle}")
        self._on, self._obstacle = True, obstacle
        self._pacer.restart()
        self._apply(force=True)

    def look(self, status: EngineStatus, *, copied: bool, writes_slowed: bool) -> None:
        """Paces the background by what the VM's requests took since the last look."""
        if not self._on:
            return
        if copied:
            self.end()
            self._run.pace(background=None)
            return
        self._pacer.ceiling = self._run.bandwidth or float("inf")
        writes = not writes_slowed
        if status.link.state != "up" or writes != self._writes:
            # Writes that are slowed on purpose wait for that, not for the background.
            self._writes = writes
            self._pacer.restart()
        else:
            self._pacer.look(time.monotonic(), self._histograms.read(writes=writes), status.moved_bytes)
        self._apply()

    def end(self) -> None:
        """Leaves QEMU as it was. A background that still goes keeps its rate, since nobody watches it. Repeatable."""
        if not self._on:
            return
        self._on = False
        if is_running(self._run.domain):
            self._histograms.stop()
        self._run.guard.arm(histograms=False)

    @property
    def held(self) -> str | None:
        """What holds the background down, if the budget does."""
        if not self._on or not self._pacer.binding:
            return None
        return f"--max-latency {self._run.migration.spec.max_latency} holds it at {format_rate(self._pacer.rate)}"

    @property
    def progress(self) -> Latency | None:
        """What was measured, and the rate that follows from it; None without a budget."""
        if not self._on:
            return None
        return Latency(
            measure="mean" if self._obstacle else "p99",
            now=self._pacer.p99,
            baseline=self._pacer.baseline,
            limit=self._pacer.limit,
            background_limit=int(self._pacer.rate),
            measuring=self._pacer.phase is Phase.PAUSING,
        )

    def _apply(self, *, force: bool = False) -> None:
        wanted = self._pacer.allowed
        # An engine fills its bucket anew each time it is told a rate.
        if force or wanted != self._applied:
            self._run.pace(background=wanted)
            self._applied = wanted


def remove_histograms(run: Run) -> None:
    """Takes those away that a run that died left. Raises PlatformError."""
    if is_running(run.domain):
        LatencyHistograms(run.domain, run.vdisk_names).stop()
