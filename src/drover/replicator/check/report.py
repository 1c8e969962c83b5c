"""What the checks found."""

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from drover.errors import CheckError, DroverError
from drover.model.migration import ReplicaVdisk


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One check: what was looked at, what was seen, and what to do if it is not good."""

    subject: str
    passed: bool
    detail: str
    remedy: str | None = None


@dataclass(frozen=True, kw_only=True)
class PoolRoom:
    """What VDISKs take of a destination pool now and what it has left, in bytes."""

    needed: int
    free: int


@dataclass
class Report:
    """All findings, where each VDISK would go, and by which devices (complete only if every check passed)."""

    findings: list[Finding] = field(default_factory=list)
    vdisks: list[ReplicaVdisk] = field(default_factory=list)
    devices: dict[str, str] = field(default_factory=dict)
    """Paths at the source's host by transport device."""
    room: dict[str, int] = field(default_factory=dict)
    """Bytes that each transport device has left."""
    pools: dict[str, PoolRoom] = field(default_factory=dict)
    """By destination pool."""

    @property
    def passed(self) -> bool:
        return all(finding.passed for finding in self.findings)

    def good(self, subject: str, detail: str) -> None:
        self.findings.append(Finding(subject=subject, passed=True, detail=detail))

    def bad(self, subject: str, detail: str, remedy: str | None) -> None:
        self.findings.append(Finding(subject=subject, passed=False, detail=detail, remedy=remedy))

    @contextlib.contextmanager
    def looking_at(self, subject: str) -> Iterator[None]:
        """An error while looking is a finding, not the end of the checks."""
        try:
            yield
        except DroverError as error:
            self.bad(subject, error.message, error.remedy)

    def require(self) -> None:
        """Raises CheckError with every check that failed."""
        failed = [finding for finding in self.findings if not finding.passed]
        if not failed:
            return
        first = failed[0]
        more = "".join(f"; {finding.subject}: {finding.detail}" for finding in failed[1:])
        raise CheckError(f"{first.subject}: {first.detail}{more}", remedy=first.remedy)

    def as_json(self) -> dict[str, Any]:
        return {
            "event": "check",
            "passed": self.passed,
            "findings": [asdict(finding) for finding in self.findings],
            "vdisks": [vdisk.model_dump() for vdisk in self.vdisks],
            "devices": self.devices,
            "room": self.room,
            "pools": {name: asdict(pool) for name, pool in self.pools.items()},
        }
