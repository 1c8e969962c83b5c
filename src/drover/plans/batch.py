"""What a plan comes to: VMs with their specifications, in batches that begin together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from drover.errors import InputError
from drover.model.migration import Spec
from drover.model.order import Pin


@dataclass(frozen=True, kw_only=True)
class Member:
    """One VM of a batch."""

    vm: str
    uuid: str
    spec: Spec
    turn: int = 0
    """0 starts first at the destination."""
    delay: float = 0.0
    """Seconds after the turn before."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """VMs that are replicated together: a group, or one VM by itself."""

    name: str
    group: bool
    members: tuple[Member, ...]
    after: tuple[str, ...] = ()
    """Batches that must have finished before this one begins."""
    approval: bool | None = None
    """Whether its cutover waits for somebody's leave; None if the plan does not say."""
    priority: int = 0
    """Larger goes first."""
    pin: Pin | None = None


def of_group(batches: Sequence[Batch], group: str) -> list[Batch]:
    """This group alone, which then waits for none. Raises InputError if there is no such group."""
    found = [replace(batch, after=(), pin=None) for batch in batches if batch.group and batch.name == group]
    if not found:
        names = ", ".join(batch.name for batch in batches if batch.group)
        raise InputError(
            f"the plan has no group {group!r}", remedy=f"its groups are {names}" if names else "it has no groups"
        )
    return found
