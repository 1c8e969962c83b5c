"""A simulated site says what changes: what happened in its world, looked at in the file instead of a socket."""

import time
from pathlib import Path

from drover.model.inventory import ListedVm
from drover.platforms.simulated.uri import parse
from drover.platforms.simulated.vm import listed
from drover.platforms.simulated.world import World

_LOOK = 0.25


class SimulatedWatched:
    """See `drover.model.inventory.Watched`."""

    def __init__(self, uri: str, folder: Path) -> None:
        self._site = parse(uri)
        self._world = World(folder)
        self._seen = self._world.newest()

    def everything(self) -> list[ListedVm]:
        return [listed(self._site, one.profile, one.state) for one in self._world.vms(self._site).values()]

    def one(self, uuid: str) -> ListedVm | None:
        found = self._world.vm(self._site, uuid)
        return None if found is None else listed(self._site, found.profile, found.state)

    def changed(self, timeout: float) -> set[str]:
        deadline = time.monotonic() + timeout
        while True:
            self._seen, uuids = self._world.happened(self._site, self._seen)
            left = deadline - time.monotonic()
            if uuids or left <= 0:
                return uuids
            time.sleep(min(_LOOK, left))

    def close(self) -> None:
        self._world.close()
