"""The sites that an organisation has: names for what libvirt calls by a URI."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import sqlalchemy as sa

from drover.errors import InputError
from drover.store import vault
from drover.store.database import Database, insert, lasting, metadata

SECRET = "site/"
"""What the names of secrets of sites begin with (`store/credentials.py`)."""

_sites = sa.Table(
    "sites",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("uri", sa.String, nullable=False),
)


@dataclass(frozen=True, kw_only=True)
class Site:
    """A place where VMs run."""

    name: str
    uri: str
    """As libvirt names it."""


class SiteStore:
    """Each change is durable when the call returns."""

    def __init__(self, folder: Path | None = None) -> None:
        self._database = Database(folder)

    def put(self, site: Site) -> bool:
        """Adds a site, or changes it, which forgets its credentials; True if it is new. Raises InputError."""
        _check(site.uri)
        with self._database.transaction() as db:
            here = _sites.c.name == site.name
            made = insert(db, _sites).values(**vars(site)).on_conflict_do_nothing().returning(_sites.c.name)
            if db.execute(made).first() is not None:
                return True
            if db.execute(_sites.update().where(here, _sites.c.uri != site.uri).values(uri=site.uri)).rowcount:
                # They were given for another place.
                vault.forget(db, SECRET + site.name)
            return False

    def get(self, name: str) -> Site:
        """Raises InputError."""
        for site in self.all():
            if site.name == name:
                return site
        raise InputError(f"there is no site {name!r}", remedy="`GET /v1/sites` lists them")

    def named(self, word: str) -> Site:
        """The site with this name or URI. Raises InputError."""
        sites = self.all()
        for site in sites:
            if word in (site.name, site.uri):
                return site
        names = ", ".join(site.name for site in sites)
        raise InputError(
            f"{word!r} is no site of this server",
            remedy=f"its sites are {names}" if names else "an administrator adds sites: `PUT /v1/sites/NAME`",
        )

    @lasting
    def all(self) -> list[Site]:
        """By name."""
        with self._database.transaction() as db:
            return [Site(**row) for row in db.execute(sa.select(_sites).order_by(_sites.c.name)).mappings()]

    def remove(self, name: str) -> None:
        """Forgets a site, and its credentials; nothing at it changes."""
        with self._database.transaction() as db:
            db.execute(_sites.delete().where(_sites.c.name == name))
            vault.forget(db, SECRET + name)


def _check(uri: str) -> None:
    try:
        secret = urlsplit(uri).password
    except ValueError:
        raise InputError("this is not a URI", remedy="write it as in qemu+ssh://root@host/system") from None
    if secret is not None:
        # Anybody may read a URI, and libvirt makes nothing of it.
        raise InputError(
            "a site's URI has no place for a password", remedy="leave it out, and use `drover site credentials`"
        )
