"""Write backpressure: slowing the VM's writes, in small steps and only with leave, while replication does not converge.

The limits that a VDISK had are durable before the first change. A guard process takes ours off should Drover die: a VM
must never stay slowed because the program that slowed it is gone.
"""

import time

from drover.model.units import format_rate
from drover.platforms.libvirt import power
from drover.platforms.libvirt.inventory import is_running
from drover.replicator.convergence import FINE, Load, Verdict, WriteLimit, advise, judge
from drover.replicator.events import Slowed
from drover.replicator.run import Run
from drover.replicator.speed import Writes

_STEP_SECONDS = 6.0
"""Between two steps: what the last one did must be seen first."""
_SURE = 10.0
"""Seconds that a bad forecast for the background must last: the rates of a start, or of a healed link, say little."""


class Backpressure:
    """The forecast and the write limit of one run. `limit` is bytes/s for each VDISK, or None."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._control = WriteLimit(floor=run.migration.spec.write_floor)
        self._applied: int | None = None
        self._before = Writes()
        self._slowed_at = 0.0
        self._stepped_at = 0.0
        self._bad_since: float | None = None
        self._told = False
        self.prediction: str | None = None
        """What cannot be met at today's write rate, and what would help; None if all is well."""

    @property
    def limit(self) -> int | None:
        return self._applied

    def look(self, load: Load, writes: Writes, *, held: bool) -> bool:
        """Forecasts, and slows the VM or frees it by a step; true if it was slowed more. Raises PlatformError.

        If the gate was `held` already a bad forecast needs no time to become certain.
        """
        spec, now = self._run.migration.spec, time.monotonic()
        verdict = judge(load)
        sure = self._is_sure(verdict, now, at_once=held)
        shown = verdict if sure else FINE
        self.prediction = advise(
            shown, write_rate=writes.rate, leave=spec.write_backpressure, floor=spec.write_floor, limit=self._applied
        )
        if self.prediction and not self._told:
            self._run.say(self.prediction)
            self._told = True
        waiting = not sure and verdict.reason is not None
        if not spec.write_backpressure or waiting or now - self._stepped_at < _STEP_SECONDS:
            return False
        return self._step(verdict, writes, now)

    def cost(self, writes: Writes) -> Slowed | None:
        """What is taken from the VM now; None if nothing is."""
        if self._applied is None:
            return None
        return Slowed(
            limit=self._applied,
            bytes_per_second=max(self._before.rate - writes.rate, 0.0),
            requests_per_second=max(self._before.requests - writes.requests, 0.0),
            seconds=time.monotonic() - self._slowed_at,
        )

    def lift(self) -> None:
        """Puts back the limits that the VDISKs had. Raises PlatformError."""
        if self._applied is not None:
            self._applied = self._control.limit = None
            lift_write_limits(self._run)
            self._run.guard.arm(limits={})

    def _is_sure(self, verdict: Verdict, now: float, *, at_once: bool) -> bool:
        self._bad_since = (self._bad_since or now) if verdict.reason else None
        return self._bad_since is not None and (at_once or now - self._bad_since >= _SURE)

    def _step(self, verdict: Verdict, writes: Writes, now: float) -> bool:
        before, limit = self._applied, self._control.step(writes.busiest, verdict)
        if limit == before:
            return False
        self._stepped_at = now
        if limit is None:
            self.lift()
            self._run.say(f"write backpressure: {self._run.migration.spec.vm} writes freely again")
            return False
        if before is None:
            self._before, self._slowed_at = writes, now
            self._remember()
        for vdisk, limits in self._run.facts.io_tune.items():
            power.set_io_tune(self._run.domain, vdisk, power.limited(limits, limit))
        self._applied = limit
        words = f"write backpressure: each VDISK of {self._run.migration.spec.vm} is limited to {format_rate(limit)}"
        self._run.say(f"{words} of writes")
        return before is None or limit < before

    def _remember(self) -> None:
        run = self._run
        run.facts.io_tune = {vdisk: power.io_tune(run.domain, vdisk) for vdisk in run.vdisk_names}
        run.save()
        run.guard.arm(limits=run.facts.io_tune)


def lift_write_limits(run: Run) -> None:
    """Takes off the limits that this run, or one that died, put on. Raises PlatformError."""
    if not run.facts.io_tune:
        return
    if is_running(run.domain):
        for vdisk, limits in run.facts.io_tune.items():
            power.set_io_tune(run.domain, vdisk, limits)
    run.facts.io_tune = {}
    run.save()
