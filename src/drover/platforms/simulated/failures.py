"""What goes wrong in a simulated migration: chosen by the seed, the VM and the run, so that it goes wrong again."""

import random
from enum import Enum, auto

from drover.platforms.simulated.uri import SimulatedSite

ARRIVE = "arrive"


class Failure(Enum):
    """What befalls one step."""

    LINK = auto()
    """The link is gone for a while: the step waits."""
    DAMAGE = auto()
    """A block arrives damaged: its hash tells, and it is sent again."""
    DEATH = auto()
    """The process that migrates is killed."""
    START = auto()
    """The destination does not start the VM: it starts at the source again."""


def befalls(site: SimulatedSite, uuid: str, token: int, step: str) -> Failure | None:
    """What befalls this step of the run with this token."""
    chance = random.Random(f"{site.seed}/{uuid}/{token}/{step}")
    if chance.random() >= site.failures:
        return None
    if step.startswith(ARRIVE):
        return Failure.START
    # A course gives up a process that is killed a fourth time: later runs are not killed.
    kinds = [Failure.LINK, Failure.DAMAGE] + ([Failure.DEATH] if token <= 2 else [])
    return chance.choice(kinds)
