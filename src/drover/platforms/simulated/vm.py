"""A simulated VM: made from the site's seed and its number; its writes are numbered and follow from how long it ran."""

import hashlib
import random
from dataclasses import dataclass
from functools import lru_cache

from drover.model.inventory import ListedVdisk, ListedVm, Power
from drover.model.vm import Vdisk, Vm
from drover.platforms.simulated.uri import SimulatedSite

BLOCKS = 32
"""Of all VDISKs of a VM: the unit in which it is copied."""
_CYCLE = 64
"""Writes after which a VM writes the same blocks again, in the same order."""
_RATES = (0.0, 0.02, 0.1, 0.5)
"""Writes in a virtual second."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What stays the same of a VM wherever it runs; sizes are bytes."""

    uuid: str
    name: str
    memory: int
    processors: int
    size: int
    network: str
    folder: str
    runs: bool
    """At the beginning."""
    rate: float
    cycle: tuple[int, ...]
    """The blocks that it writes, over and over: write n goes to `cycle[n % 64]`."""

    def content(self, written: int) -> list[int]:
        """By block the number of the newest of so many writes; 0 for blocks that were never written."""
        newest = [0] * BLOCKS
        for number in range(max(1, written - _CYCLE + 1), written + 1):
            newest[self.cycle[number % _CYCLE]] = number
        return newest

    def dirty(self, after: int, until: int) -> set[int]:
        """The blocks that the writes after one and until another went to."""
        return {self.cycle[number % _CYCLE] for number in range(max(after + 1, until - _CYCLE + 1), until + 1)}


@lru_cache(maxsize=200_000)
def profile(site: str, seed: int, number: int) -> Profile:
    """The VM with this number that was born at this site."""
    chance = random.Random(f"{seed}/{site}/{number}")
    hot = [chance.randrange(BLOCKS) for _ in range(BLOCKS)]
    return Profile(
        uuid=uuid_of(site, seed, number),
        name=f"sim-{site}-{number:05}",
        memory=chance.choice((1, 2, 4, 8)) << 30,
        processors=chance.choice((1, 2, 4)),
        size=chance.choice((8, 20, 40, 100)) << 30,
        network=f"net-{chance.randrange(4)}",
        folder=chance.choice(("office/web", "office/mail", "plant", "")),
        runs=chance.random() < 0.95,
        rate=chance.choice(_RATES),
        cycle=tuple(chance.choice(hot) for _ in range(_CYCLE)),
    )


def uuid_of(site: str, seed: int, number: int) -> str:
    """Of a VM; its last digits are its number."""
    digits = hashlib.sha256(f"{seed}/{site}".encode()).hexdigest()[:24] + f"{number:08x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def listed(site: SimulatedSite, one: Profile, state: Power) -> ListedVm:
    """As an inventory shows it."""
    return ListedVm(
        uuid=one.uuid,
        name=one.name,
        host=f"simulated-{site.name}-{int(one.uuid[-8:], 16) % site.hosts}",
        state=state,
        memory=one.memory,
        processors=one.processors,
        vdisks=(ListedVdisk(name="vda", size=one.size, format="raw"),),
        networks=(one.network,),
        folder=one.folder,
        tags=("simulated",),
    )


def described(one: Profile, *, running: bool) -> Vm:
    """As plans and checks take it."""
    vdisk = Vdisk(name="vda", size=one.size, format="raw", path=f"/simulated/{one.uuid}", kind="file", allocated=0)
    return Vm(
        name=one.name, uuid=one.uuid, running=running, memory=one.memory, machine="simulated", arch="x86_64",
        virtualisation="simulated", vdisks=(vdisk,), networks=(one.network,),
    )  # fmt: skip
