"""Files for their owner alone, written whole or not at all."""

import os
import secrets
from pathlib import Path


def make(path: Path, text: str) -> None:
    """Writes a file unless it is there. Two processes that are first at once end up with one. Raises OSError."""
    part = _part(path, text)
    try:
        try:
            os.link(part, path)
        except FileExistsError:
            return
        _sync(path.parent)
    finally:
        part.unlink()


def replace(path: Path, text: str) -> None:
    """Writes a file; whoever reads it meanwhile sees the old text or the new. Raises OSError."""
    part = _part(path, text)
    part.replace(path)
    _sync(path.parent)


def _part(path: Path, text: str) -> Path:
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        part.unlink()
        raise
    return part


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
