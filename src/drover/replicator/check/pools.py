"""Whether the destination's pools have room for several VMs at once: each may fit alone, and not beside the others."""

from collections.abc import Mapping

from drover.model.units import format_size
from drover.replicator.check.report import PoolRoom, Report


def room_for_all(reports: Mapping[str, Report]) -> Report:
    """The pools' room for VMs of the same destination together; `reports` are theirs, by name."""
    found = Report()
    for name in dict.fromkeys(name for report in reports.values() for name in report.pools):
        rooms = {vm: report.pools[name] for vm, report in reports.items() if name in report.pools}
        room = PoolRoom(
            needed=sum(room.needed for room in rooms.values()), free=min(room.free for room in rooms.values())
        )
        found.pools[name] = room
        if room.needed > room.free:
            found.bad(
                f"pool {name}",
                f"it has {format_size(room.free)} left, and the VDISKs of {', '.join(rooms)} together take "
                f"{format_size(room.needed)} now",
                "make room there, give some VDISKs another pool, or begin with fewer VMs",
            )
        else:
            found.good(f"pool {name}", f"{format_size(room.free)} left for {format_size(room.needed)} of all VMs")
    return found
