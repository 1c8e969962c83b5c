"""The accounts' tables. Whoever changes more than one row takes `users` or `attempts` first (`exclusive`)."""

import sqlalchemy as sa

from drover.accounts.identity import Token, User
from drover.accounts.roles import Role, Scope
from drover.store.database import metadata

users = sa.Table(
    "users",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("role", sa.String, nullable=False),
    sa.Column("plans", sa.JSON, nullable=False),
    sa.Column("sites", sa.JSON, nullable=False),
    sa.Column("password", sa.String, nullable=False),
    sa.Column("must_change_password", sa.Boolean, nullable=False),
    sa.Column("disabled", sa.Boolean, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
)
sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("user", sa.String, sa.ForeignKey("users.name"), nullable=False, index=True),
    sa.Column("digest", sa.String, nullable=False, unique=True),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("last_used_at", sa.Float, nullable=False),
)
tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("user", sa.String, sa.ForeignKey("users.name"), nullable=False, index=True),
    sa.Column("digest", sa.String, nullable=False, unique=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("role", sa.String, nullable=False),
    sa.Column("plans", sa.JSON, nullable=False),
    sa.Column("sites", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("expires_at", sa.Float),
    sa.Column("last_used_at", sa.Float),
)
attempts = sa.Table(
    "log_in_attempts",
    metadata,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)


def as_user(row: sa.RowMapping) -> User:
    return User(
        name=row["name"],
        role=Role(row["role"]),
        scope=as_scope(row),
        disabled=row["disabled"],
        must_change_password=row["must_change_password"],
        created_at=row["created_at"],
    )


def as_token(row: sa.RowMapping) -> Token:
    return Token(
        id=row["id"],
        user=row["user"],
        name=row["name"],
        role=Role(row["role"]),
        scope=as_scope(row),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        last_used_at=row["last_used_at"],
    )


def as_scope(row: sa.RowMapping) -> Scope:
    return Scope(plans=tuple(row["plans"]), sites=tuple(row["sites"]))
