"""(a) Bulk copy of a mixed image from a QEMU NBD export to a file, over loopback TCP: Drover against its peers.

Drover encrypts and hashes, and acknowledges only what is stable; the peers do neither.
"""

from pathlib import Path

from bench import copiers, image
from bench.copiers import Task
from bench.places import loopback
from bench.rounds import Copier, Result, take_turns

SIZE = 4 << 30
RUNS = 3


def measure(folder: Path) -> dict[str, Result]:
    """The median of each copier."""
    source = folder / "source.img"
    image.make(source, SIZE)
    taking_part = [
        Copier("nbdcopy", copiers.nbdcopy, RUNS),
        Copier("qemu-img convert -W", copiers.convert, RUNS),
        Copier("QEMU mirror", copiers.mirror, RUNS),
        Copier("Drover", copiers.drover, RUNS),
    ]
    return take_turns(taking_part, Task(source, folder / "target.img", loopback()))
