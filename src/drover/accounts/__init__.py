"""Who may do what on the management server: users, their sessions and API tokens, and the audit trail."""

from drover.accounts.accounts import Accounts
from drover.accounts.audit import Audit, Entry
from drover.accounts.errors import AccessError, LockedError
from drover.accounts.identity import Identity, Token, User
from drover.accounts.roles import Role, Scope

__all__ = ["AccessError", "Accounts", "Audit", "Entry", "Identity", "LockedError", "Role", "Scope", "Token", "User"]
