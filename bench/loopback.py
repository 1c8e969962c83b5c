"""Bulk copies over loopback TCP: bytes that nothing can make fewer, and a mix like real VDISKs. Drover encrypts."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import copiers, image
from bench.copiers import Task
from bench.places import loopback
from bench.rounds import Copier, Result, take_turns

SIZE = 8 << 30
QUICK_SIZE = 512 << 20

OURS = "Drover"
NBDCOPY = "nbdcopy"
NBDCOPY_TLS = "nbdcopy, TLS"
_MOST = 3


@dataclass(frozen=True)
class Copies:
    """What each copier took for so many bytes of VDISK."""

    size: int
    results: dict[str, Result]


def measure(folder: Path, *, quick: bool) -> dict[str, Copies]:
    """The copies by content: `incompressible` and `mix`."""
    size = QUICK_SIZE if quick else SIZE
    makers: dict[str, Callable[[Path, int], None]] = {"incompressible": image.make_incompressible, "mix": image.make}
    found = {}
    for content, make in makers.items():
        print(f"  {content}, {size >> 20} MiB", flush=True)
        source = folder / "source.img"
        make(source, size)
        taking_part = _copiers(tls_rounds=_MOST if content == "incompressible" else 1)
        found[content] = Copies(size, take_turns(taking_part, Task(source, folder / "target.img", loopback())))
    return found


def _copiers(*, tls_rounds: int) -> list[Copier]:
    """All of them; those that the goals of this content name take part in most rounds."""
    return [
        Copier(OURS, copiers.drover, _MOST),
        Copier(NBDCOPY, copiers.nbdcopy, _MOST),
        Copier(NBDCOPY_TLS, copiers.nbdcopy_tls, tls_rounds),
        Copier("qemu-img convert -W", copiers.convert),
        Copier("QEMU mirror", copiers.mirror),
        Copier("rsync over ssh", copiers.rsync),
        Copier("dd over ssh", copiers.dd),
    ]
