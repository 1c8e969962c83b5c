"""What a running migration tells whoever watches it: messages, changes of state, progress."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from drover.estimator.remaining import Expected
from drover.model.migration import State


@dataclass(frozen=True, kw_only=True)
class VdiskProgress:
    """One VDISK on its way; all in bytes. `done` counts what need not travel any more."""

    name: str
    size: int
    done: int
    left: int
    dirty: int
    """Written by the VM since the last sealed epoch."""
    loaded: int = 0
    """Of what is left: on transport devices, on its way."""


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Replication backpressure: the VM's I/O latency in seconds, and the rate in bytes/s that follows from it."""

    measure: Literal["p99", "mean"]
    """Means are all there is where QEMU keeps no histogram of ours."""
    now: float | None
    baseline: float | None
    """Without background replication."""
    limit: float | None
    """What the administrator's budget makes of the baseline."""
    background_limit: int
    measuring: bool
    """The background pauses so that the baseline can be measured."""


@dataclass(frozen=True, kw_only=True)
class Slowed:
    """Write backpressure: the limit of each VDISK in bytes/s, and what it takes from the VM per second since when."""

    limit: int
    bytes_per_second: float
    requests_per_second: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a migration is. Sizes are bytes, rates bytes/s, times seconds; None where nothing is known yet."""

    migration: str
    vm: str
    state: State
    vdisks: list[VdiskProgress] = field(default_factory=list)
    rate: float = 0.0
    """VDISK bytes dealt with per second, zeros and all."""
    wire_rate: float = 0.0
    vm_write_rate: float = 0.0
    sent: int = 0
    """Bytes put on the wire so far."""
    epoch: int = 0
    epoch_bytes: int = 0
    epoch_seconds: float = 0.0
    predicted_downtime: float | None = None
    time_left: float | None = None
    """Until the background is through at today's rate."""
    expected: Expected | None = None
    """Until the end, and the downtime, with the limits of 80 of 100 cases."""
    link: str = "connecting"
    latency: Latency | None = None
    """None without a latency budget, and when all is copied."""
    slowed: Slowed | None = None
    """None while the VM writes freely."""
    prediction: str | None = None
    """What cannot be met at today's write rate, and what would help."""
    verified: int = 0
    limited_by: str | None = None
    """What keeps the background from being faster: source, destination, link, processor, pacing, device."""
    unreadable: int = 0
    """Bytes that could not be read and arrive as zeros."""
    holding: str | None = None
    """Why the cutover gate is shut, or what devices wait for."""
    at: float = field(default_factory=time.time)
    """Unix seconds."""

    @property
    def size(self) -> int:
        return sum(vdisk.size for vdisk in self.vdisks)

    @property
    def done(self) -> int:
        return sum(vdisk.done for vdisk in self.vdisks)

    @property
    def loaded(self) -> int:
        return sum(vdisk.loaded for vdisk in self.vdisks)

    def as_json(self) -> dict[str, Any]:
        totals = {"size": self.size, "done": self.done, "loaded": self.loaded}
        return {"event": "progress", **asdict(self), **totals, "expected": self._expected()}

    def _expected(self) -> dict[str, Any] | None:
        if self.expected is None:
            return None
        left = self.expected.time_left
        return {
            "time_left": left.model_dump() if left else None,
            "downtime": self.expected.downtime.model_dump(),
        }


@dataclass(frozen=True, kw_only=True)
class Message:
    """Something worth a line: a change of state, a repair, a hold."""

    migration: str
    text: str
    state: State
    at: float = field(default_factory=time.time)
    """Unix seconds."""

    def as_json(self) -> dict[str, Any]:
        return {"event": "message", **asdict(self)}


Event = Progress | Message
Observer = Callable[[Event], None]
