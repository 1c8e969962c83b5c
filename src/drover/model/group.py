"""A migration group on its way: VMs that replicate together, cut over behind one barrier and power on together.

```
gathering ── every member's gate is open ──► stopping ── every VM stands still, verified ──► leaving
    ▲                                           │                                              │
    └──────────── one failed: all run on at the source ◄───────────────────────────────────────┤
                                                                          every VM can start ──► starting
```
From `starting` no way leads back: it is the one decision, made once, in the database.
"""

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Phase(StrEnum):
    """How far a group is; no member goes ahead of it."""

    GATHERING = "gathering"
    STOPPING = "stopping"
    LEAVING = "leaving"
    STARTING = "starting"


class Mark(IntEnum):
    """How far a member is in this attempt of its group."""

    WAITING = -1
    """Its gate is open, and its maintenance window is not."""
    REPLICATING = 0
    READY = 1
    """Its gate is open."""
    VERIFIED = 2
    """Its VM stands still at the source, both sides are equal."""
    ARRIVED = 3
    """Its VM has left the source and can start at the destination."""
    RUNNING = 4
    OUT = 5
    """Nobody waits for it any more: cancelled, or back at the source after the others had started."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """One migration of a group. `turn` 0 starts first; `delay` is seconds after the turn before it has started."""

    migration: str
    vm: str
    turn: int = 0
    delay: float = 0.0
    mark: Mark = Mark.REPLICATING
    marked_at: float = 0.0
    """Unix seconds."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """A group as it stands. `attempt` counts its cutovers that were begun or taken back."""

    id: str
    name: str
    plan: str
    phase: Phase
    attempt: int
    reason: str | None
    """Why the last attempt was taken back."""
    members: tuple[Member, ...]

    def member(self, migration: str) -> Member:
        return next(member for member in self.members if member.migration == migration)

    def behind(self, mark: Mark) -> list[str]:
        """Names of the VMs that are not as far as `mark`."""
        return [member.vm for member in self.members if member.mark < mark]
