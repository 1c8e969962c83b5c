"""What a user or a token may do, and to which plans and sites."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase


class Role(StrEnum):
    """Each may do what the one before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    """Runs plans and migrations."""
    ADMINISTRATOR = "administrator"
    """Manages users as well."""

    def covers(self, other: "Role") -> bool:
        """Whether this role may do all that the other may."""
        order = list(Role)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True)
class Scope:
    """The plans and sites that somebody sees and works on, by name or pattern (`web-*`); empty is all of them."""

    plans: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    within: "Scope | None" = None
    """A token's: the scope of its user, which it never goes beyond."""

    def allows_plan(self, name: str) -> bool:
        return _matches(name, self.plans) and (self.within is None or self.within.allows_plan(name))

    def allows_site(self, name: str) -> bool:
        return _matches(name, self.sites) and (self.within is None or self.within.allows_site(name))


EVERYTHING = Scope()


def _matches(name: str, entries: Sequence[str]) -> bool:
    # A name that looks like a pattern is meant too: `db[1]`.
    return not entries or any(name == entry or fnmatchcase(name, entry) for entry in entries)
