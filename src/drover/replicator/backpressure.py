"""Write backpressure: slowing the VM's writes, in steps and only with leave, until the cutover gate can open.

The limits that a VDISK had are durable before the first change. A guard process takes the limits off should Drover
die: a VM must never stay slowed because the program that slowed it is gone.
"""

from drover.model.units import format_rate
from drover.platforms.libvirt import power
from drover.platforms.libvirt.inventory import is_running
from drover.replicator.run import Run

_STEP = 0.7
"""Each step leaves the VM this share of its write rate."""


class Backpressure:
    """The write limit of one run. `limit` is bytes/s for each VDISK, or None."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.limit: int | None = None

    def tighten(self, write_rate: float) -> None:
        """One step down from `write_rate` bytes/s or from the limit now, never below the administrator's floor."""
        spec = self._run.migration.spec
        before = self.limit if self.limit is not None else max(write_rate, spec.write_floor)
        after = max(int(before * _STEP), spec.write_floor)
        if after == self.limit:
            return
        if self.limit is None:
            self._remember()
        for vdisk in self._run.vdisk_names:
            power.limit_writes(self._run.domain, vdisk, after)
        self.limit = after
        self._run.say(f"write backpressure: each VDISK of {spec.vm} is limited to {format_rate(after)} of writes")

    def lift(self) -> None:
        """Puts back the limits that the VDISKs had. Raises PlatformError."""
        if self.limit is not None:
            self.limit = None
            lift_write_limits(self._run)
            self._run.guard.disarm()

    def _remember(self) -> None:
        run = self._run
        run.facts.io_tune = {vdisk: power.io_tune(run.domain, vdisk) for vdisk in run.vdisk_names}
        run.save()
        run.guard.arm({"uri": run.source.uri, "vm": run.facts.uuid, "limits": run.facts.io_tune, "resume": False})


def lift_write_limits(run: Run) -> None:
    """Takes off the limits that this run, or one that died, put on. Raises PlatformError."""
    if not run.facts.io_tune:
        return
    if is_running(run.domain):
        for vdisk, limits in run.facts.io_tune.items():
            power.set_io_tune(run.domain, vdisk, limits)
    run.facts.io_tune = {}
    run.save()
