"""Users, their API tokens, and who somebody proved to be. None of them holds a secret."""

from dataclasses import dataclass
from typing import Literal

from drover.accounts.roles import Role, Scope


@dataclass(frozen=True)
class Identity:
    """Who is asking, and what they may do at this moment."""

    name: str
    role: Role
    scope: Scope
    kind: Literal["session", "token"]
    must_change_password: bool
    """Only a session's: its user logged in with a one-time password, and may do nothing but change it."""
    credential: str
    """The id of the session or token, never its secret."""


@dataclass(frozen=True, kw_only=True)
class User:
    """Somebody who can log in, unless `disabled`."""

    name: str
    role: Role
    scope: Scope
    disabled: bool
    must_change_password: bool
    created_at: float
    """Unix seconds."""


@dataclass(frozen=True, kw_only=True)
class Token:
    """An API token as it was made; what it may do now is never more than what its user may. Times are Unix seconds."""

    id: str
    user: str
    name: str
    role: Role
    scope: Scope
    created_at: float
    expires_at: float | None
    last_used_at: float | None
    """To the minute."""
