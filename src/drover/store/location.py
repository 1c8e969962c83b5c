"""Where the database is: SQLite in the data folder, or PostgreSQL that several servers share."""

import os
import stat
from pathlib import Path

import sqlalchemy as sa

from drover.errors import InputError

ADDRESS = "DROVER_DATABASE_URL"
"""Environment variable with the database's address; it goes before the file."""
FILE = "database-url"
"""In the data folder: the address, so that every command of this folder finds the same database."""
SQLITE = "drover.sqlite"


def data_folder() -> Path:
    """The administrator's data folder: `DROVER_DATA`, else the XDG data folder."""
    if given := os.environ.get("DROVER_DATA"):
        return Path(given).absolute()
    share = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(share) / "drover"


def location(folder: Path) -> sa.URL:
    """The database of a data folder. Raises InputError if what names it cannot be meant."""
    if given := os.environ.get(ADDRESS):
        return postgresql(given, ADDRESS)
    file = folder / FILE
    try:
        text = file.read_text().strip()
        others = stat.S_IMODE(file.stat().st_mode) & 0o077
    except FileNotFoundError:
        return sa.URL.create("sqlite", database=str(folder / SQLITE))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {file}: {error}", remedy="it holds the address of the database") from error
    url = postgresql(text, str(file))
    if url.password is not None and others:
        raise InputError(f"{file} holds a password and others may read it", remedy=f"chmod 600 {file}")
    return url


def postgresql(text: str, where: str) -> sa.URL:
    """A PostgreSQL address as Drover's driver takes it. Raises InputError; what it says has no password in it."""
    remedy = "write postgresql://USER@HOST:PORT/DATABASE; without it the database is SQLite in the data folder"
    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        raise InputError(f"{where} is not the address of a database", remedy=remedy) from None
    if url.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise InputError(f"{where} names a {url.drivername} database, and Drover needs PostgreSQL", remedy=remedy)
    if "password" in url.query:
        raise InputError(
            f"{where} has its password at the end", remedy="write postgresql://USER:PASSWORD@HOST/DATABASE"
        )
    return url.set(drivername="postgresql+psycopg")


def plain(url: sa.URL) -> str:
    """As libpq and its programs take it, without the password."""
    bare = sa.URL.create("postgresql", url.username, None, url.host, url.port, url.database, url.query)
    return bare.render_as_string()


def shown(url: sa.URL) -> str:
    """For people: a path, or an address without its password."""
    return str(url.database) if url.drivername == "sqlite" else plain(url)
