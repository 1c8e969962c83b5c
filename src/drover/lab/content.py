"""What the lab's VDISKs hold before the guest writes: text, random bytes, zeros and holes, the same for each seed.

Real VDISKs are such a mixture, and each kind takes another way through an engine: text compresses, random bytes do
not, zeros are found by looking, holes without.
"""

import os
import random
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from drover.errors import HostError

PIECE_BYTES = 1 << 20
# Shares of the pieces in percent; what is left to 100 is never written.
TEXT_SHARE = 30
RANDOM_SHARE = 20
ZERO_SHARE = 15

_WORDS = (
    b"info warning error request answered from to session opened closed order invoice shipped customer paid "
    b"timeout retry queue worker started finished cache hit miss user login logout table index rows updated"
).split()


def records_image(path: Path, size: int, *, seed: str, first: int) -> list[tuple[int, int]]:
    """Makes a sparse file of `size` bytes at `path`, filled from the byte `first` on.

    Returns where zeros (offset, bytes) are to be written in the volume: a copy of the image loses them.
    """
    zeros = []
    with path.open("wb") as file:
        file.truncate(size)
        for offset, piece in _pieces(first, size, seed):
            file.seek(offset)
            file.write(piece)
            if not any(piece):
                zeros.append((offset, len(piece)))
    return zeros


def system_image(path: Path, size: int, *, seed: str) -> None:
    """Makes a file of `size` bytes at `path` with an ext4 file system that is about half full of files at most."""
    tree = path.with_suffix(".tree")
    (tree / "srv").mkdir(parents=True)
    for number, (_offset, piece) in enumerate(_pieces(0, size * 5 // 8, seed)):
        (tree / "srv" / f"{number:05}").write_bytes(piece)
    with path.open("wb") as file:
        file.truncate(size)
    # Nothing is left for the guest's kernel to initialize: it would write by itself.
    extended = "lazy_itable_init=0,lazy_journal_init=0"
    command = ["mke2fs", "-q", "-t", "ext4", "-L", "system", "-m", "0", "-E", extended, "-d", str(tree), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HostError(f"making the file system of {path}: {done.stderr.strip()}", remedy="give a larger --size")


def fill_volume(image: Path, volume: Path, volume_format: str, zeros: Sequence[tuple[int, int]] = ()) -> None:
    """Copies `image` into the fresh, empty `volume`: holes stay holes, in qcow2 unallocated. Then writes `zeros`."""
    _run_on(volume, ["qemu-img", "convert", "-n", "--target-is-zero", "-O", volume_format, "-f", "raw", str(image)])
    writes = [word for offset, size in zeros for word in ("-c", f"write -q -P 0 {offset} {size}")]
    if writes:
        _run_on(volume, ["qemu-io", "-f", volume_format, *writes])


def _run_on(volume: Path, command: list[str]) -> None:
    done = subprocess.run([*command, str(volume)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HostError(f"filling the volume {volume}: {done.stderr.strip()}", remedy="look for free space with df")


def _pieces(first: int, end: int, seed: str) -> Iterator[tuple[int, bytes]]:
    """The pieces to write between two offsets, with theirs."""
    source = random.Random(seed)
    lines = [_line(source) for _ in range(PIECE_BYTES // 48)]
    for offset in range(first, end, PIECE_BYTES):
        size = min(PIECE_BYTES, end - offset)
        lot = source.randrange(100)
        if lot < TEXT_SHARE:
            source.shuffle(lines)
            yield offset, b"".join(lines)[:size]
        elif lot < TEXT_SHARE + RANDOM_SHARE:
            yield offset, source.randbytes(size)
        elif lot < TEXT_SHARE + RANDOM_SHARE + ZERO_SHARE:
            yield offset, bytes(size)


def _line(source: random.Random) -> bytes:
    words = b" ".join(source.choices(_WORDS, k=source.randint(4, 10)))
    return b"2026-11-%02d %s id=%x\n" % (source.randint(1, 30), words, source.getrandbits(40))


def takes_direct_io(folder: Path) -> bool:
    """Whether files in `folder` can be opened past the page cache (O_DIRECT)."""
    probe = folder / ".direct"
    try:
        os.close(os.open(probe, os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o600))
    except OSError:
        return False
    finally:
        probe.unlink(missing_ok=True)
    return True
