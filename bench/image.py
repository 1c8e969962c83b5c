"""The images that copies move: a mix like real VDISKs, or bytes that nothing can make fewer; the same for each seed.

Each is on the disk when it is made, or the first copy would wait for that.
"""

import random
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from bench.measure import sync

PIECE = 1 << 20
_TEXTS = 64
"""Pieces of text of which each is cut anew: enough that no compressor's window sees one twice."""
_WORDS = [b"order", b"invoice", b"shipped", b"customer", b"error", b"timeout", b"retry", b"queue", b"session", b"index"]


def make(path: Path, size: int, *, seed: int = 1) -> None:
    """Writes a sparse file of `size` bytes: a quarter never written, a half text, a quarter random, in 1 MiB pieces."""
    dice, texts, noise = random.Random(seed), _texts(seed), incompressible(seed)
    with path.open("wb") as file:
        file.truncate(size)
        for offset in range(0, size, PIECE):
            kind = dice.choice(("hole", "text", "text", "random"))
            if kind == "hole":
                continue
            file.seek(offset)
            if kind == "random":
                file.write(next(noise))
            else:
                text, cut = dice.choice(texts), dice.randrange(PIECE)
                file.write(text[cut:] + text[:cut])
    sync(path)


def make_incompressible(path: Path, size: int, *, seed: int = 1) -> None:
    """Writes a file of `size` bytes, a multiple of 1 MiB, without a hole."""
    noise = incompressible(seed)
    with path.open("wb") as file:
        for _ in range(0, size, PIECE):
            file.write(next(noise))
    sync(path)


def make_spread(path: Path, size: int, data: int, *, seed: int = 1) -> None:
    """Writes a sparse file of `size` bytes in which `data` bytes, incompressible, lie evenly in pieces of 1 MiB."""
    noise, count = incompressible(seed), data // PIECE
    with path.open("wb") as file:
        file.truncate(size)
        for number in range(count):
            file.seek(number * (size // count) // PIECE * PIECE)
            file.write(next(noise))
    sync(path)


def alter(path: Path, share: float, *, seed: int = 1) -> int:
    """Overwrites runs of 64 KiB to 1 MiB at random places, `share` of the file together; how many bytes those were."""
    dice, noise, size, altered = random.Random(seed), incompressible(seed + 1000), path.stat().st_size, 0
    taken: set[int] = set()
    block = 64 << 10
    with path.open("r+b") as file:
        while altered < share * size:
            length = dice.randint(1, 16)
            first = dice.randrange(size // block - length)
            run = set(range(first, first + length))
            if run & taken:
                continue
            taken |= run
            file.seek(first * block)
            file.write(next(noise)[: length * block])
            altered += length * block
    return altered


def incompressible(seed: int) -> Iterator[bytes]:
    """Endless pieces of 1 MiB, AES in counter mode: as random as it takes, and faster than any disk."""
    stream = Cipher(AES(seed.to_bytes(16, "big")), CTR(bytes(16))).encryptor()
    zeros = bytes(PIECE)
    while True:
        yield stream.update(zeros)


def _texts(seed: int) -> list[bytes]:
    dice = random.Random(seed)
    lines = [
        b"2026-11-%02d %s id=%x\n" % (i % 30 + 1, b" ".join(dice.choices(_WORDS, k=6)), dice.getrandbits(40))
        for i in range(PIECE // 56 + 1000)
    ]
    texts = []
    for _ in range(_TEXTS):
        dice.shuffle(lines)
        texts.append(b"".join(lines)[:PIECE])
    return texts
