"""PostgreSQL's own programs that dump and restore. Passwords reach them by their environment, not as arguments."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import IO

import sqlalchemy as sa

from drover.errors import DroverError
from drover.store.location import plain


def dump(url: sa.URL, target: Path) -> None:
    """Everything in a database as it is at one moment. Raises DroverError."""
    # Comments and owners belong to who made the database.
    command = [_program("pg_dump"), "--format=custom", "--no-owner", "--no-privileges", "--no-comments"]
    _run(url, [*command, f"--file={target}", f"--dbname={plain(url)}"], "backing up the database")


def restore(url: sa.URL, source: Path, first: str) -> None:
    """Runs the SQL `first` and restores a dump, in one transaction: all or nothing. Raises DroverError."""
    script = source.with_suffix(".restore-sql")
    _run(
        url,
        [_program("pg_restore"), "--no-owner", "--no-privileges", f"--file={script}", str(source)],
        "reading the backup",
    )
    begin = source.with_suffix(".first-sql")
    begin.write_text(first)
    command = [_program("psql"), "--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1"]
    files = [f"--file={begin}", f"--file={script}"]
    with Path(os.devnull).open("w") as nothing:
        _run(url, [*command, *files, f"--dbname={plain(url)}"], "restoring the database", nothing)


def _program(name: str) -> str:
    newest = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    # Debian's wrapper would take the version of a cluster on this host; the newest reads every older server.
    found = str(newest[-1]) if newest else shutil.which(name)
    if found is None:
        raise DroverError(f"{name} is not installed here", remedy="install PostgreSQL's client programs")
    return found


def _run(url: sa.URL, command: list[str], what: str, output: IO[str] | None = None) -> None:
    env = {**os.environ, **({"PGPASSWORD": str(url.password)} if url.password is not None else {})}
    done = subprocess.run(
        command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        words = " ".join(done.stderr.split())
        raise DroverError(
            f"{what} failed: {words}", remedy="check that the database can be reached; nothing was changed"
        )
