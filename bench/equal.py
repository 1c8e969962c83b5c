"""Whether two files hold the same bytes, without reading what neither ever held."""

import os
from collections.abc import Iterator
from pathlib import Path

_PIECE = 4 << 20


def are_equal(one: Path, other: Path) -> bool:
    """Byte by byte; a hole is zeros."""
    size = one.stat().st_size
    if other.stat().st_size != size:
        return False
    with one.open("rb") as first, other.open("rb") as second:
        handles = first.fileno(), second.fileno()
        ranges = sorted(part for handle in handles for part in _data(handle, size))
        seen = 0
        for begin, end in ranges:
            if not _is_same(*handles, max(begin, seen), end):
                return False
            seen = max(seen, end)
    return True


def _is_same(first: int, second: int, begin: int, end: int) -> bool:
    return all(
        os.pread(first, min(_PIECE, end - offset), offset) == os.pread(second, min(_PIECE, end - offset), offset)
        for offset in range(begin, end, _PIECE)
    )


def _data(handle: int, size: int) -> Iterator[tuple[int, int]]:
    """The ranges of a file that are no holes."""
    end = 0
    while end < size:
        try:
            begin = os.lseek(handle, end, os.SEEK_DATA)
        except OSError:
            return
        end = os.lseek(handle, begin, os.SEEK_HOLE)
        yield begin, end
