"""The timeline of a plan that is not being carried out: as it would go if it began now."""

import time
from pathlib import Path

from drover.model.timeline import Timeline
from drover.planner.parts import parts_of
from drover.planner.timeline import look, work_out
from drover.plans.site import Resolved


def foresee(resolved: Resolved, folder: Path | None = None) -> Timeline:
    """What was begun by an earlier run goes on where it stands. Raises InputError that names a pin not to be kept."""
    parts = parts_of(resolved, folder)
    return work_out(
        resolved.plan.plan,
        parts,
        at_once=resolved.plan.at_once,
        limits=resolved.plan.limits,
        now=time.time(),
        sights=look([number for part in parts.parts for number in part.migrations], folder),
    )
