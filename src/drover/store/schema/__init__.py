"""The schema of Drover's tables, in versions: one revision file each (Alembic). A database is brought up when opened.

Revisions have numbers, in one line: the newest file is the newest revision. A revision only adds, so that processes
of the version before go on with it; what is not needed any more goes a release later.
"""

import logging
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from drover.errors import DroverError, InputError

FOLDER = Path(__file__).parent
_LOCK = 0x64726F766572
"""Key of PostgreSQL's advisory lock while the schema changes."""


def revisions() -> list[str]:
    """All that this Drover knows, oldest first."""
    return sorted(file.name.partition("_")[0] for file in (FOLDER / "versions").glob("[0-9]*_*.py"))


def revision_of(db: sa.Connection) -> str | None:
    """What a database is at; None if it has no version, being new or from before versions."""
    if not sa.inspect(db).has_table("alembic_version"):
        return None
    found = db.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def open(connect: Callable[[], sa.Connection], name: str) -> None:
    """Brings a database up to this Drover, if need be. Raises DroverError if a newer one wrote it."""
    with connect() as db:
        found = revision_of(db)
    if found != revisions()[-1]:
        _refuse_newer(found, name)
        change(connect, name, revisions()[-1])


def change(connect: Callable[[], sa.Connection], name: str, target: str) -> tuple[str | None, str]:
    """Takes a database up or down to a revision, wholly or not at all: from which, to which. Raises DroverError.

    Whoever does the same at the same time is waited for.
    """
    if target not in revisions():
        raise InputError(f"there is no revision {target!r}", remedy=f"take one of {', '.join(revisions())}")
    with connect() as db, db.begin():
        if db.dialect.name == "postgresql":
            db.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        else:
            # The driver begins no transaction before what changes tables.
            db.exec_driver_sql("BEGIN IMMEDIATE")
        found = revision_of(db)
        _refuse_newer(found, name)
        if found != target:
            _run(db, target, down=found is not None and found > target)
    return found, target


def _run(db: sa.Connection, target: str, *, down: bool) -> None:
    # A third of a second that is spent when there is something to change, not by every command.
    from alembic import command
    from alembic.config import Config

    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = db
    (command.downgrade if down else command.upgrade)(config, target)


def _refuse_newer(found: str | None, name: str) -> None:
    known = revisions()
    if found is not None and found not in known:
        raise DroverError(
            f"the database {name} is at revision {found}, which is newer than this Drover: it knows up to {known[-1]}",
            remedy=f"use the Drover that wrote it; its `drover database downgrade --to {known[-1]}` takes it back",
        )
