"""Sessions and API tokens: random secrets, of which the database has no more than the SHA-256."""

import hashlib
import secrets

import sqlalchemy as sa

from drover.accounts.identity import Identity
from drover.accounts.roles import Role, Scope
from drover.accounts.tables import sessions, tokens, users

SESSION_LIFE = 12 * 3600.0
SESSION_IDLE = 3600.0
"""Seconds since it was made, and since it was used last."""
USE_NOTED_EVERY = 60.0
"""Seconds, so that not every request writes to the database."""
SESSION_PREFIX = "drover_s_"
TOKEN_PREFIX = "drover_t_"


def add_session(db: sa.Connection, user: str, now: float) -> tuple[str, str]:
    """Its secret and its id. Those that have ended go."""
    db.execute(sessions.delete().where(~_alive(sessions, now)))
    secret, digest = _new_secret(SESSION_PREFIX)
    session = f"s-{secrets.token_hex(8)}"
    db.execute(sessions.insert().values(id=session, user=user, digest=digest, created_at=now, last_used_at=now))
    return secret, session


def add_token(
    db: sa.Connection, user: str, name: str, role: Role, scope: Scope, now: float, expires_at: float | None
) -> tuple[str, str]:
    """Its secret and its id."""
    secret, digest = _new_secret(TOKEN_PREFIX)
    token = f"t-{secrets.token_hex(8)}"
    row = {"id": token, "user": user, "digest": digest, "name": name, "role": role, "created_at": now}
    db.execute(tokens.insert().values(**row, plans=scope.plans, sites=scope.sites, expires_at=expires_at))
    return secret, token


def find(db: sa.Connection, secret: str, now: float) -> tuple[Identity, float | None] | None:
    """Whose secret this is, and when it was used last; None if it is nobody's, has ended, or its user is disabled."""
    table = tokens if secret.startswith(TOKEN_PREFIX) else sessions
    valid = sa.and_(table.c.digest == _digest(secret), _alive(table, now), ~users.c.disabled)
    user = [column.label(f"user_{column.name}") for column in users.c]
    row = db.execute(sa.select(table, *user).join(users).where(valid)).mappings().first()
    if row is None:
        return None
    role, scope = Role(row["user_role"]), Scope(tuple(row["user_plans"]), tuple(row["user_sites"]))
    if table is sessions:
        must_change = row["user_must_change_password"]
        return Identity(row["user"], role, scope, "session", must_change, row["id"]), row["last_used_at"]
    # The lower of the two, for the user may have been demoted since.
    role = Role(row["role"]) if role.covers(Role(row["role"])) else role
    scope = Scope(tuple(row["plans"]), tuple(row["sites"]), within=scope)
    return Identity(row["user"], role, scope, "token", False, row["id"]), row["last_used_at"]


def note_use(db: sa.Connection, identity: Identity, now: float) -> None:
    """The credential was used now."""
    table = sessions if identity.kind == "session" else tokens
    db.execute(table.update().where(table.c.id == identity.credential).values(last_used_at=now))


def end_sessions(db: sa.Connection, user: str, *, keep: str | None = None) -> None:
    """All sessions of the user, but the one with the id `keep`."""
    db.execute(sessions.delete().where(sessions.c.user == user, sessions.c.id != (keep or "")))


def _alive(table: sa.Table, now: float) -> sa.ColumnElement[bool]:
    if table is tokens:
        return sa.or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > now)
    return sa.and_(sessions.c.created_at > now - SESSION_LIFE, sessions.c.last_used_at > now - SESSION_IDLE)


def _new_secret(prefix: str) -> tuple[str, str]:
    secret = prefix + secrets.token_urlsafe(32)
    return secret, _digest(secret)


def _digest(secret: str) -> str:
    # No slow hash, since 256 random bits cannot be guessed.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
