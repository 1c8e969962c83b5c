"""A VM and its VDISKs as Drover sees them at a site."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Vdisk:
    """One virtual disk of a VM. `name` is its target in the guest (`vda`); sizes are bytes."""

    name: str
    size: int
    format: str
    path: str
    """Where the site keeps it: a file, a block device, or a network disk's own address."""
    kind: str
    """`file`, `block` or `network`, as the platform says."""
    allocated: int
    """Bytes that it takes at the site now."""
    replicable: bool = True
    obstacle: str | None = None
    """Why it cannot be replicated, if it cannot."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What somebody wrote down about a VM at its site; empty where nothing was."""

    tags: tuple[str, ...] = ()
    folder: str = ""
    """As a path, as in `/shop/web`."""
    title: str = ""
    description: str = ""


UNLABELLED = Labels()


@dataclass(frozen=True, kw_only=True)
class Vm:
    """One VM at a site. `memory` is bytes; `networks` are the names that its interfaces are plugged into."""

    name: str
    uuid: str
    running: bool
    memory: int
    resident: int | None = None
    """Bytes of the host's memory that the VM takes now; None if it does not run or the platform does not say."""
    machine: str
    arch: str
    virtualisation: str
    vdisks: tuple[Vdisk, ...]
    networks: tuple[str, ...]
    labels: Labels = UNLABELLED

    @property
    def size(self) -> int:
        """Bytes of all VDISKs together."""
        return sum(vdisk.size for vdisk in self.vdisks)


@dataclass(frozen=True, kw_only=True)
class IoStatistics:
    """What a VM has done to its VDISKs since it started: totals of bytes and requests, seconds spent."""

    read_bytes: int
    write_bytes: int
    read_requests: int
    write_requests: int
    read_seconds: float
    write_seconds: float
