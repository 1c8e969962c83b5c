"""Second copy: the destination holds all but 5 % already, and no journal that says so."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import copiers, image
from bench.copiers import Task
from bench.loopback import Copies
from bench.measure import run, sync
from bench.places import line
from bench.rounds import Copier, take_turns

SIZE = 1 << 30
QUICK_SIZE = 128 << 20
RATE = 25e6
"""Bytes/s: 200 Mbit/s."""
ROUND_TRIP = 0.04
ALTERED = 0.05
PATIENCE = 120.0

FULL = "Drover, first copy"
SECOND = "Drover, second copy"
RSYNC = "rsync --inplace, second copy"


@dataclass(frozen=True)
class Second:
    """The copies by content, of which `altered` bytes were not there."""

    altered: dict[str, int]
    copies: dict[str, Copies]


def measure(folder: Path, *, quick: bool) -> Second:
    """The copies by content: `incompressible` and `mix`."""
    size = QUICK_SIZE if quick else SIZE
    source, held = folder / "source.img", folder / "held.img"
    makers: dict[str, Callable[[Path, int], None]] = {"incompressible": image.make_incompressible, "mix": image.make}
    found = Second({}, {})

    def hold(task: Task) -> None:
        _copy(held, task.target)

    taking_part = [
        Copier(SECOND, partial(copiers.drover, mode="compare"), 2, prepare=hold),
        Copier(FULL, copiers.drover),
        Copier(RSYNC, lambda task: copiers.rsync(task, "--no-whole-file"), prepare=hold),
    ]
    with line(folder / "lab", rate=RATE, round_trip=ROUND_TRIP) as (route, _):
        for content, make in makers.items():
            print(f"  {content}, {size >> 20} MiB", flush=True)
            make(source, size)
            _copy(source, held)
            found.altered[content] = image.alter(held, ALTERED)
            task = Task(source, folder / "target.img", route, PATIENCE)
            found.copies[content] = Copies(size, take_turns(taking_part, task))
    return found


def _copy(one: Path, other: Path) -> None:
    """With its holes, as an earlier copy left it, and on the disk."""
    run("cp", "--sparse=always", one, other)
    sync(other)
