"""The image that bulk copies move: a quarter never written, a half text-like, a quarter random, in 1 MiB pieces."""

import random
from pathlib import Path

PIECE = 1 << 20
_WORDS = [b"order", b"invoice", b"shipped", b"customer", b"error", b"timeout", b"retry", b"queue", b"session", b"index"]


def make(path: Path, size: int, *, seed: int = 1) -> None:
    """Writes a sparse file of `size` bytes; the same for each seed."""
    source = random.Random(seed)
    lines = [
        b"2026-11-%02d %s id=%x\n" % (i % 30 + 1, b" ".join(source.choices(_WORDS, k=6)), source.getrandbits(40))
        for i in range(PIECE // 56 + 1000)
    ]
    with path.open("wb") as file:
        file.truncate(size)
        for offset in range(0, size, PIECE):
            kind = source.choice(("hole", "text", "text", "random"))
            if kind == "hole":
                continue
            if kind == "text":
                source.shuffle(lines)
            file.seek(offset)
            file.write(b"".join(lines)[:PIECE] if kind == "text" else source.randbytes(PIECE))
