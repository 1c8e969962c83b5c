"""Sites without hypervisors: simulated VMs in numbers that no machine of ours could run. For tests and benches."""

from drover.platforms.simulated.uri import SimulatedSite, is_simulated, parse
from drover.platforms.simulated.vm import described
from drover.platforms.simulated.watching import SimulatedWatched
from drover.platforms.simulated.world import World

__all__ = ["SimulatedSite", "SimulatedWatched", "World", "described", "is_simulated", "parse"]
