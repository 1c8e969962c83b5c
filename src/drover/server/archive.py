"""The format of a backup: a tar file whose first member says what is in it, with the hash of each."""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from drover.errors import InputError

_MANIFEST = "manifest.json"
_LARGEST_MANIFEST = 16 << 20
_PIECE = 1 << 20


class Entry(BaseModel):
    """A file: bytes, SHA-256."""

    model_config = ConfigDict(extra="forbid")
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(BaseModel):
    """What a backup holds. `made_at` is Unix seconds."""

    model_config = ConfigDict(extra="forbid")
    format: Literal[1] = 1
    drover: str
    made_at: float
    database: Literal["sqlite", "postgresql"]
    revision: str
    files: dict[str, Entry]


def write(target: Path, manifest: Manifest, files: Mapping[str, Path]) -> None:
    """Whole or not at all, and for this user only. `files` by their names in the archive; they must not change."""
    entries = {name: Entry(size=path.stat().st_size, sha256=_hash(path)) for name, path in files.items()}
    manifest = manifest.model_copy(update={"files": entries})
    unfinished = target.with_name(f"{target.name}.part")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            text = json.dumps(manifest.model_dump(), indent=1).encode()
            first = tarfile.TarInfo(_MANIFEST)
            first.size, first.mode, first.mtime = len(text), 0o600, int(manifest.made_at)
            tar.addfile(first, io.BytesIO(text))
            for name, path in files.items():
                member = tarfile.TarInfo(name)
                member.size, member.mode, member.mtime = entries[name].size, 0o600, int(manifest.made_at)
                with path.open("rb") as content:
                    tar.addfile(member, content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(target)


def unpack(source: Path, folder: Path) -> Manifest:
    """Every file of a backup below `folder`, each as it was when it was made. Raises InputError if one is not."""
    damaged = f"{source} is damaged, or no backup of Drover"
    remedy = "take another one: nothing was changed"
    try:
        with tarfile.open(source, "r:") as tar:
            first = tar.next()
            if first is None or first.name != _MANIFEST or not 0 < first.size <= _LARGEST_MANIFEST:
                raise InputError(f"{damaged}: it does not begin with what is in it", remedy=remedy)
            manifest = Manifest.model_validate_json(_content(tar, first).read())
            missing = dict(manifest.files)
            while (member := tar.next()) is not None:
                entry = missing.pop(member.name, None)
                if entry is None or not member.isreg() or member.size != entry.size or not _is_below(member.name):
                    raise InputError(f"{damaged}: {member.name!r} does not belong there", remedy=remedy)
                if _extract(tar, member, folder / member.name) != entry.sha256:
                    raise InputError(f"{damaged}: {member.name} is not what was backed up", remedy=remedy)
    except FileNotFoundError:
        raise InputError(f"there is no file {source}", remedy="name a backup") from None
    except (OSError, tarfile.TarError, ValidationError) as error:
        said = "what it says of itself cannot be read" if isinstance(error, ValidationError) else str(error)
        raise InputError(f"{damaged}: {said}", remedy=remedy) from error
    if missing:
        raise InputError(f"{damaged}: {next(iter(missing))} is missing", remedy=remedy)
    return manifest


def _is_below(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and str(path) == name


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> str:
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    hashed = hashlib.sha256()
    content = _content(tar, member)
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        while piece := content.read(_PIECE):
            hashed.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return hashed.hexdigest()


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> "tarfile.ExFileObject":
    content = tar.extractfile(member)
    if content is None:
        raise tarfile.ReadError(f"{member.name} is no file")
    return content  # type: ignore[return-value]


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
