"""Where the two ends of a copy run: both on loopback, or in two network namespaces with the lab's link between them."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from drover.lab import Lab
from drover.lab.link import Link


@dataclass(frozen=True)
class Place:
    """One end: its address for the other, and the command line that runs a command there."""

    address: str
    enter: Callable[..., list[str]]


@dataclass(frozen=True)
class Route:
    """Both ends. `carried` says how many bytes went from the source to the destination, and back, so far."""

    source: Place
    destination: Place
    carried: Callable[[], tuple[int, int]]


def loopback() -> Route:
    """Both ends here. Nobody counts bytes."""
    here = Place("127.0.0.1", lambda *command: list(command))
    return Route(here, here, lambda: (0, 0))


@contextlib.contextmanager
def line(folder: Path, *, rate: float, round_trip: float, loss: float = 0.0) -> Iterator[tuple[Route, Link]]:
    """Two namespaces and the emulated line: `rate` in bytes/s each way, `round_trip` in seconds, `loss` 0 to 1."""
    lab = Lab(folder)
    lab.reset()
    try:
        for site in lab.sites:
            site.namespace.ensure()
        lab.link.ensure()
        lab.link.set(rate=rate, delay=round_trip / 2, loss=loss)
        alpha, beta = (Place(site.address, site.enter) for site in lab.sites)
        yield Route(alpha, beta, lambda: _carried(lab.link)), lab.link
    finally:
        lab.reset()


def _carried(link: Link) -> tuple[int, int]:
    counters = link.describe()["counters"]
    return int(counters["alpha_to_beta"]["bytes"]), int(counters["beta_to_alpha"]["bytes"])


@contextlib.contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """The folder, made empty, and gone afterwards."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
