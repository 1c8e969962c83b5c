"""Backup and restore of all that a server knows: its database, its workflows, its keys and certificates."""

import fcntl
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import sqlalchemy as sa

from drover import __version__
from drover.errors import DroverError, InputError
from drover.server import archive, pg_programs
from drover.store import schema
from drover.store.claims import Claims
from drover.store.database import Database, make_folder
from drover.store.location import FILE, SQLITE, shown
from drover.store.migrations import advance_tokens
from drover.workflows import durable
from drover.workflows.executor import working_with

_DUMP = "database/postgresql.dump"
_DATABASES = (durable.SQLITE, SQLITE)
"""The workflows first: what they believe to be done must be in the other, which is copied later."""
_LEFT_OUT = ("*.lock", "*.log", "*.sqlite", "*.sqlite-*", "*.new", "*.part", FILE)
"""What belongs to this host or this moment."""
_ASIDE = "replaced-"


def backup(folder: Path, target: Path) -> archive.Manifest:
    """Writes a backup, also while servers and migrations run. Raises DroverError; there is no file then."""
    database = Database(folder)
    try:
        with tempfile.TemporaryDirectory(dir=target.absolute().parent, prefix=".drover-backup-") as temporary:
            copies = Path(temporary)
            files = {
                f"files/{path.relative_to(folder)}": path for path in _own_files(folder) if path != target.absolute()
            }
            for number, (name, path) in enumerate(list(files.items())):
                # They may be renewed while they are read.
                files[name] = Path(shutil.copyfile(path, copies / str(number)))
            if database.shared:
                pg_programs.dump(database.url, copies / "dump")
                files[_DUMP] = copies / "dump"
            else:
                for name in _DATABASES:
                    if (folder / name).exists():
                        _copy_sqlite(folder / name, copies / name)
                        files[f"database/{name}"] = copies / name
            manifest = archive.Manifest(
                drover=__version__,
                made_at=time.time(),
                database=_kind(database),
                revision=schema.revisions()[-1],
                files={},
            )
            archive.write(target.absolute(), manifest, files)
    except (OSError, sqlite3.Error) as error:
        raise DroverError(
            f"the backup {target} cannot be written: {error}", remedy="take a folder with room that this user may write"
        ) from error
    return manifest


def restore(folder: Path, source: Path, *, force: bool) -> archive.Manifest:
    """Puts a backup in place. Raises InputError, with nothing changed, if it is damaged or something is in the way.

    With `force` what is there is replaced: files are set aside in a folder of their own, a PostgreSQL database is not.
    """
    make_folder(folder)
    database = Database(folder, bring_up=False)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".restore-") as temporary:
        unpacked = Path(temporary)
        manifest = archive.unpack(source, unpacked)
        _check(folder, database, unpacked, manifest, source, force=force)
        if database.shared:
            pg_programs.restore(database.url, unpacked / _DUMP, _emptying(database))
        database.forget()
        _put(folder, unpacked)
    _take_over(folder)
    return manifest


def _check(
    folder: Path, database: Database, unpacked: Path, manifest: archive.Manifest, source: Path, *, force: bool
) -> None:
    kind = _kind(database)
    if manifest.database != kind:
        raise InputError(
            f"{source} is of a {manifest.database} database, and this Drover's is {kind}: {shown(database.url)}",
            remedy="restore it where the database is of the same kind",
        )
    if manifest.revision not in schema.revisions():
        raise InputError(
            f"{source} was made by Drover {manifest.drover}, which is newer than this one", remedy="use that Drover"
        )
    for path in (unpacked / "database").glob("*.sqlite"):
        with sqlite3.connect(path) as copy:
            if copy.execute("PRAGMA quick_check").fetchone() != ("ok",):
                raise InputError(f"{source} is damaged: {path.name}", remedy="take another one: nothing was changed")
    if (who := working_with(folder)) or (who := _migrating(folder, database)):
        raise InputError(f"something still works with this data: {who}", remedy="stop it first")
    there = [path.name for path in folder.iterdir() if path.name in _DATABASES] + [
        str(path.relative_to(folder)) for path in _own_files(folder)
    ]
    if database.shared and _tables(database):
        there.append(shown(database.url))
    if there and not force:
        raise InputError(
            f"there is something already: {', '.join(sorted(there)[:3])}{' …' if len(there) > 3 else ''}",
            remedy="restore into an empty folder and database, or say --force to replace what is there",
        )


def _migrating(folder: Path, database: Database) -> str | None:
    if database.shared:
        living = Claims(database).living("m-") if database.revision() == schema.revisions()[-1] else []
        return f"the migration {living[0]}" if living else None
    for lock in folder.glob("m-*.lock"):
        with lock.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return f"the migration {lock.stem}"
    return None


def _put(folder: Path, unpacked: Path) -> None:
    """What was unpacked comes in, what it replaces is set aside."""
    aside = folder / f"{_ASIDE}{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
    old = [path for path in folder.iterdir() if any(path.match(f"{name}*") for name in _DATABASES)]
    for path in [*old, *_own_files(folder)]:
        target = aside / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.rename(target)
    for root, pattern in ((unpacked / "files", "**/*"), (unpacked / "database", "*.sqlite")):
        for path in sorted(root.glob(pattern)):
            if path.is_file():
                target = folder / path.relative_to(root)
                target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                path.rename(target)
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _take_over(folder: Path) -> None:
    """Engines heard tokens after the backup was made: those that are given out now are above them all."""
    advance_tokens(Database(folder))


def _own_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith((".", _ASIDE)) for part in path.relative_to(folder).parts)
        if path.is_file() and not path.is_symlink() and not hidden and not any(path.match(one) for one in _LEFT_OUT):
            yield path


def _copy_sqlite(source: Path, target: Path) -> None:
    with sqlite3.connect(source) as live, sqlite3.connect(target) as copy:
        live.backup(copy)
        # One file: nothing of it is left in a log.
        copy.execute("PRAGMA journal_mode=DELETE")
    live.close()
    copy.close()


def _kind(database: Database) -> Literal["sqlite", "postgresql"]:
    return "postgresql" if database.shared else "sqlite"


def _tables(database: Database) -> list[str]:
    with database.transaction(fenced=False) as db:
        return sa.inspect(db).get_table_names()


def _emptying(database: Database) -> str:
    """SQL that removes what is in the database, whatever schema of whatever Drover that is."""
    quote = database.engine.dialect.identifier_preparer.quote
    drops = [f"DROP TABLE {quote(name)} CASCADE;" for name in _tables(database)]
    return "\n".join([*drops, "DROP FUNCTION IF EXISTS audit_refuse();", "DROP SCHEMA IF EXISTS dbos CASCADE;", ""])
