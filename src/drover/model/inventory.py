"""A VM as a list of thousands shows it: what its platform says of it by events, without a look at its storage."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Power(StrEnum):
    """What a VM does. The values are what the administrator reads."""

    RUNNING = "running"
    PAUSED = "paused"
    OFF = "off"
    CRASHED = "crashed"
    ASLEEP = "asleep"


@dataclass(frozen=True, kw_only=True)
class ListedVdisk:
    """One VDISK; `size` is what the guest sees, in bytes, None if the platform could not say."""

    name: str
    size: int | None
    format: str


@dataclass(frozen=True, kw_only=True)
class ListedVm:
    """One VM at a site. `memory` is bytes; `networks` are the names that its interfaces are plugged into."""

    uuid: str
    name: str
    host: str
    state: Power
    memory: int
    processors: int
    vdisks: tuple[ListedVdisk, ...] = ()
    networks: tuple[str, ...] = ()
    folder: str = ""
    """Where the administrator filed it, as in `office/web`; empty if nowhere."""
    tags: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all VDISKs whose size is known."""
        return sum(vdisk.size or 0 for vdisk in self.vdisks)


class Watched(Protocol):
    """A site that says what changes. One thread uses it; all methods raise PlatformError when the site is gone."""

    def everything(self) -> list[ListedVm]:
        """All VMs: the only call that lists. Changes that come meanwhile are kept for `changed`."""
        ...

    def one(self, uuid: str) -> ListedVm | None:
        """This VM as it is now; None if the site does not have it any more."""
        ...

    def changed(self, timeout: float) -> Collection[str]:
        """UUIDs of VMs of which an event came; empty after so many seconds without one."""
        ...

    def close(self) -> None: ...
