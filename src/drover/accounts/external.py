"""Users whom an identity provider vouches for (OIDC): each is known by the provider's own name for them, for good."""

import re

import sqlalchemy as sa

from drover.accounts.errors import AccessError
from drover.accounts.roles import Role
from drover.accounts.tables import users
from drover.store.database import metadata

NO_PASSWORD = "!"
"""In the place of a hash: no password is right."""
_links = sa.Table(
    "external_users",
    metadata,
    sa.Column("issuer", sa.String, primary_key=True),
    sa.Column("subject", sa.String, primary_key=True),
    sa.Column("name", sa.String, nullable=False, unique=True),
)
_USELESS = re.compile(r"[^a-z0-9._@-]+")


def name_from(wanted: str) -> str:
    """What a provider calls somebody, as a user's name here; empty if nothing of it can be."""
    return _USELESS.sub("-", wanted.lower()).lstrip("._@-")[:64]


def known_as(db: sa.Connection, issuer: str, subject: str, wanted: str, role: Role, now: float) -> tuple[str, bool]:
    """The user's name, and whether they are new. Raises AccessError if another has the name already.

    To be called with `users` taken exclusively: a name is given once.
    """
    here = sa.and_(_links.c.issuer == issuer, _links.c.subject == subject)
    name = db.execute(sa.select(_links.c.name).where(here)).scalar()
    if name is not None and _exists(db, name):
        return name, False
    name = name_from(wanted)
    if not name:
        raise AccessError("the identity provider says no name that could be a user's", remedy="ask its administrator")
    if _exists(db, name):
        # Whoever may choose a name there must not become somebody here.
        raise AccessError(
            f"there is a user {name} already whom the identity provider does not vouch for",
            remedy="an administrator of this server removes that user, or the provider gives another name",
        )
    db.execute(_links.delete().where(sa.or_(here, _links.c.name == name)))
    db.execute(_links.insert().values(issuer=issuer, subject=subject, name=name))
    row = {"name": name, "role": role, "plans": (), "sites": (), "password": NO_PASSWORD, "disabled": False}
    db.execute(users.insert().values(**row, must_change_password=False, created_at=now))
    return name, True


def _exists(db: sa.Connection, name: str) -> bool:
    return db.execute(sa.select(users.c.name).where(users.c.name == name)).first() is not None
