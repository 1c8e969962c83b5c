"""Users, their sessions and API tokens, in the database that several servers may share."""

import math
import re
import time
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from drover.accounts import attempts, credentials, external, passwords
from drover.accounts.errors import AccessError
from drover.accounts.identity import Identity, Token, User
from drover.accounts.roles import EVERYTHING, Role, Scope
from drover.accounts.tables import as_token, as_user, sessions, tokens, users
from drover.errors import InputError
from drover.store.database import Database, exclusive

FIRST_USER = "admin"
TOKEN_LIFE = 90 * 86400.0
"""Seconds."""
_USER_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
_LONGEST_TOKEN_NAME = 64


class Accounts:
    """Everybody whom this Drover knows. Each change is durable, and holds for all servers, when the call returns."""

    def __init__(self, folder: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        self._database = Database(folder)
        self._clock = clock

    def first_start(self) -> str | None:
        """The one-time password of the administrator `admin`, made if there is no user at all; else None."""
        if self.users():
            return None
        password = passwords.one_time_password()
        row = self._row(FIRST_USER, Role.ADMINISTRATOR, EVERYTHING, password, one_time=True)
        with self._database.transaction() as db:
            exclusive(db, users)
            if db.execute(sa.select(users.c.name).limit(1)).first() is not None:
                return None
            db.execute(users.insert().values(row))
        return password

    def log_in(self, name: str, password: str, *, source: str) -> tuple[str, Identity]:
        """A session's secret and whose it is; `source` is the address that asks. Raises AccessError, LockedError."""
        wrong = AccessError("the name or the password is wrong", remedy="check both, and that Caps Lock is off")
        with self._database.transaction() as db:
            attempts.begin(db, self._clock(), name=name, source=source)
        with self._database.transaction() as db:
            row = _find(db, name)
        right = passwords.verify_password(row["password"] if row else None, password)
        if row is None or not right or row["disabled"]:
            raise wrong
        hashed = row["password"]
        if passwords.needs_rehash(hashed):
            hashed = passwords.hash_password(password)
        same = sa.and_(users.c.name == name, users.c.password == row["password"], ~users.c.disabled)
        with self._database.transaction() as db:
            exclusive(db, users)
            # Hashing takes a while: meanwhile the user may have been disabled, or have another password.
            if not db.execute(users.update().where(same).values(password=hashed)).rowcount:
                raise wrong
            attempts.succeeded(db, name=name, source=source)
            secret, session = credentials.add_session(db, name, self._clock())
        user = as_user(row)
        return secret, Identity(name, user.role, user.scope, "session", user.must_change_password, session)

    def vouched(self, issuer: str, subject: str, wanted_name: str, role: Role) -> str:
        """The name of a user whom an identity provider vouches for, who is made at the first time and has this role.

        Raises AccessError if they may not log in, InputError if the role cannot be theirs.
        """
        with self._database.transaction() as db:
            exclusive(db, users)
            name, new = external.known_as(db, issuer, subject, wanted_name, role, self._clock())
        if not new and self.user(name).role is not role:
            self.change_user(name, role=role)
        return name

    def session_of(self, name: str) -> tuple[str, Identity]:
        """A session's secret and whose it is, for a user whose log-in was proved. Raises AccessError."""
        with self._database.transaction() as db:
            exclusive(db, users)
            row = _find(db, name)
            if row is None or row["disabled"]:
                raise AccessError(f"{name} may not log in any more", remedy="ask an administrator of the server")
            secret, session = credentials.add_session(db, name, self._clock())
        user = as_user(row)
        return secret, Identity(name, user.role, user.scope, "session", user.must_change_password, session)

    def authenticate(self, secret: str) -> Identity:
        """Whose session or API token this secret is. Raises AccessError if nobody's, or no longer."""
        now = self._clock()
        with self._database.transaction() as db:
            found = credentials.find(db, secret, now)
        if found is None:
            raise AccessError(
                "this session or API token is not known, or has ended", remedy="log in again, or make a new token"
            )
        identity, last_used_at = found
        if last_used_at is None or last_used_at <= now - credentials.USE_NOTED_EVERY:
            with self._database.transaction() as db:
                credentials.note_use(db, identity, now)
        return identity

    def log_out(self, identity: Identity) -> None:
        """Ends this session. A token is not logged in: `revoke_token` ends it."""
        with self._database.transaction() as db:
            db.execute(sessions.delete().where(sessions.c.id == identity.credential))

    def change_password(self, name: str, old: str, new: str, *, keep: Identity | None = None) -> None:
        """Ends the user's sessions, but the one that asks (`keep`). Raises InputError, and as `log_in` for `old`."""
        passwords.check_password(name, new)
        with self._database.transaction() as db:
            attempts.begin(db, self._clock(), name=name)
        row = self._get(name)
        wrong = AccessError("the old password is wrong", remedy="check that Caps Lock is off")
        if not passwords.verify_password(row["password"], old):
            raise wrong
        with self._database.transaction() as db:
            attempts.forget(db, name)
        if passwords.verify_password(row["password"], new):
            raise InputError("the new password is the old one", remedy="take another one")
        values = {"password": passwords.hash_password(new), "must_change_password": False}
        same = sa.and_(users.c.name == name, users.c.password == row["password"])
        with self._database.transaction() as db:
            exclusive(db, users)
            if not db.execute(users.update().where(same).values(values)).rowcount:
                raise wrong
            credentials.end_sessions(db, name, keep=keep.credential if keep else None)

    def reset_password(self, name: str) -> str:
        """A one-time password; unlocks the name, ends the user's sessions, not their tokens. Raises InputError."""
        password = passwords.one_time_password()
        values = {"password": passwords.hash_password(password), "must_change_password": True}
        with self._database.transaction() as db:
            exclusive(db, users)
            if not db.execute(users.update().where(users.c.name == name).values(values)).rowcount:
                raise _no_user(name)
            credentials.end_sessions(db, name)
            attempts.forget(db, name)
        return password

    def add_user(self, name: str, role: Role, scope: Scope = EVERYTHING, password: str | None = None) -> str | None:
        """A one-time password if none is given. Raises InputError if the name is taken or of the wrong form."""
        if not _USER_NAME.fullmatch(name):
            remedy = "take up to 64 lower-case letters, digits and . _ @ -, the first a letter or digit"
            raise InputError(f"{name!r} cannot be a user's name", remedy=remedy)
        _check_scope(role, scope)
        one_time = None
        if password is None:
            one_time = passwords.one_time_password()
        else:
            passwords.check_password(name, password)
        row = self._row(name, role, scope, password or one_time or "", one_time=password is None)
        with self._database.transaction() as db:
            exclusive(db, users)
            if _find(db, name) is not None:
                raise InputError(f"there is a user {name} already", remedy="take another name, or change that user")
            db.execute(users.insert().values(row))
        return one_time

    def users(self) -> list[User]:
        """By name."""
        with self._database.transaction() as db:
            return [as_user(row) for row in db.execute(sa.select(users).order_by(users.c.name)).mappings()]

    def knows(self, name: str) -> bool:
        """Whether there is a user of this name."""
        with self._database.transaction() as db:
            return _find(db, name) is not None

    def user(self, name: str) -> User:
        """Raises InputError if there is none of this name."""
        return as_user(self._get(name))

    def change_user(
        self, name: str, *, role: Role | None = None, scope: Scope | None = None, disabled: bool | None = None
    ) -> None:
        """Changes what is given, at once. Disabling ends the sessions; tokens work again once enabled.

        Raises InputError, also if no administrator would be left who can log in.
        """
        with self._database.transaction() as db:
            exclusive(db, users)
            if (row := _find(db, name)) is None:
                raise _no_user(name)
            before = as_user(row)
            role = before.role if role is None else role
            scope = before.scope if scope is None else scope
            disabled = before.disabled if disabled is None else disabled
            _check_scope(role, scope)
            values = {"role": role, "plans": scope.plans, "sites": scope.sites, "disabled": disabled}
            db.execute(users.update().where(users.c.name == name).values(values))
            if disabled:
                credentials.end_sessions(db, name)
            _keep_an_administrator(db, name)

    def remove_user(self, name: str) -> None:
        """With all sessions and tokens. Raises InputError, also if no administrator would be left who can log in."""
        with self._database.transaction() as db:
            exclusive(db, users)
            credentials.end_sessions(db, name)
            db.execute(tokens.delete().where(tokens.c.user == name))
            if not db.execute(users.delete().where(users.c.name == name)).rowcount:
                raise _no_user(name)
            _keep_an_administrator(db, name)

    def add_token(
        self, user: str, name: str, role: Role, scope: Scope = EVERYTHING, expires_in: float | None = TOKEN_LIFE
    ) -> tuple[str, Token]:
        """A token's secret and the token; `expires_in` is seconds, None for never. Raises InputError."""
        if not (name.isprintable() and name.strip() and len(name) <= _LONGEST_TOKEN_NAME):
            raise InputError(f"{name!r} cannot be a token's name", remedy="take 1 to 64 printable characters")
        if expires_in is not None and not 0 < expires_in < math.inf:
            raise InputError(f"a token cannot expire in {expires_in} s", remedy="give a time to come, or none")
        _check_scope(role, scope)
        now = self._clock()
        expires_at = None if expires_in is None else now + expires_in
        with self._database.transaction() as db:
            exclusive(db, users)
            if (row := _find(db, user)) is None:
                raise _no_user(user)
            own = Role(row["role"])
            if not own.covers(role):
                raise InputError(f"{user} is {own}, and so cannot have a token as {role}", remedy=f"make it as {own}")
            secret, token = credentials.add_token(db, user, name, role, scope, now, expires_at)
            made = db.execute(sa.select(tokens).where(tokens.c.id == token)).mappings().one()
        return secret, as_token(made)

    def tokens(self, user: str | None = None) -> list[Token]:
        """All, or a user's, newest first; also those that have expired."""
        query = sa.select(tokens).order_by(tokens.c.created_at.desc(), tokens.c.id)
        if user is not None:
            query = query.where(tokens.c.user == user)
        with self._database.transaction() as db:
            return [as_token(row) for row in db.execute(query).mappings()]

    def revoke_token(self, id: str) -> None:
        """Ends the token at once. Raises InputError if there is none with this id."""
        with self._database.transaction() as db:
            if not db.execute(tokens.delete().where(tokens.c.id == id)).rowcount:
                raise InputError(f"there is no token {id!r}", remedy="list the tokens to see their ids")

    def _row(self, name: str, role: Role, scope: Scope, password: str, *, one_time: bool) -> dict[str, object]:
        return {
            "name": name,
            "role": role,
            "plans": scope.plans,
            "sites": scope.sites,
            "password": passwords.hash_password(password),
            "must_change_password": one_time,
            "disabled": False,
            "created_at": self._clock(),
        }

    def _get(self, name: str) -> sa.RowMapping:
        with self._database.transaction() as db:
            if (row := _find(db, name)) is None:
                raise _no_user(name)
            return row


def _find(db: sa.Connection, name: str) -> sa.RowMapping | None:
    if not _USER_NAME.fullmatch(name):
        return None
    return db.execute(sa.select(users).where(users.c.name == name)).mappings().first()


def _no_user(name: str) -> InputError:
    return InputError(f"there is no user {name!r}", remedy="list the users to see their names")


def _check_scope(role: Role, scope: Scope) -> None:
    if role is Role.ADMINISTRATOR and (scope.plans or scope.sites):
        # They could give themselves, or another, the rest.
        raise InputError("an administrator sees all plans and sites", remedy="leave the scope empty, or lower the role")


def _keep_an_administrator(db: sa.Connection, name: str) -> None:
    able = sa.and_(users.c.role == Role.ADMINISTRATOR, ~users.c.disabled)
    if db.execute(sa.select(users.c.name).where(able).limit(1)).first() is None:
        remedy = "make another user administrator first"
        raise InputError(f"{name} is the last administrator that can log in", remedy=remedy)
