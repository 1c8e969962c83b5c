"""Whether this process may still act: asked before each act on a hypervisor, a host or an engine, and in the database.

Who was stopped, or cut off, for longer than others wait for it has been replaced, and must do nothing any more. What
it may do it holds as a permit (`store/claims.py`); one that holds none has nobody who could replace it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from drover.errors import DroverError


class FencedError(DroverError):
    """Another process was given what this one was doing."""


class Permit(Protocol):
    """Something that only one process may do at a time."""

    def require(self) -> None:
        """Raises FencedError if another may do it by now."""

    def require_in(self, db: Any) -> None:
        """The same for a database transaction, and nobody else gets it before that has ended."""


_held: list[Permit] = []


def require() -> None:
    """Raises FencedError if this process lost one of its permits."""
    for permit in tuple(_held):
        permit.require()


def held() -> tuple[Permit, ...]:
    """Every permit of this process."""
    return tuple(_held)


@contextmanager
def under(permit: Permit) -> Iterator[None]:
    """All that this process does meanwhile needs the permit."""
    _held.append(permit)
    try:
        yield
    finally:
        _held.remove(permit)
