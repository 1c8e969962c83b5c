"""A migration's life: its states, what was asked for, and the facts that a later run needs to go on."""

import time
from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from drover.model.bandwidth import LimitedHours, limit_at
from drover.model.hours import Hours
from drover.model.latency import LatencyBudget
from drover.model.profile import Profile
from drover.model.texts import refused
from drover.model.totals import Totals

INTERRUPTED = "interrupted"
"""The reason of a migration that the administrator stopped."""


class State(StrEnum):
    """Where a migration is. The values are what the administrator reads."""

    PLANNED = "planned"
    PREPARING = "preparing"
    REPLICATING = "replicating"
    READY = "ready"
    CUTTING_OVER = "cutting over"
    VERIFYING = "verifying"
    STARTING = "starting"
    FINISHED = "finished"
    PAUSED = "paused"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in (State.FINISHED, State.CANCELLED)


COPIED = (State.READY, State.CUTTING_OVER, State.VERIFYING, State.STARTING)
"""All is copied and compared, the VM has not arrived."""
_ANYWHERE = {State.PAUSED, State.FAILED, State.CANCELLED}
_NEXT: dict[State, set[State]] = {
    State.PLANNED: {State.PREPARING},
    State.PREPARING: {State.REPLICATING, State.CUTTING_OVER, State.STARTING},
    State.REPLICATING: {State.READY, State.PREPARING, State.CUTTING_OVER},
    State.READY: {State.CUTTING_OVER, State.REPLICATING, State.PREPARING},
    State.CUTTING_OVER: {State.VERIFYING, State.REPLICATING, State.PREPARING},
    State.VERIFYING: {State.STARTING, State.REPLICATING, State.PREPARING},
    State.STARTING: {State.FINISHED, State.REPLICATING, State.PREPARING},
    State.PAUSED: {State.PREPARING, State.STARTING},
    State.FAILED: {State.PREPARING, State.STARTING},
    State.FINISHED: set(),
    State.CANCELLED: set(),
}


def may_follow(before: State, after: State) -> bool:
    """Whether a migration in `before` may enter `after`; everything that is not listed may not."""
    if before == after:
        return True
    if before.ended:
        return False
    return after in _NEXT[before] or after in _ANYWHERE


class Cutover(StrEnum):
    """How the VM changes sides (DESIGN 6)."""

    AUTO = "auto"
    MANUAL = "manual"
    RESTART = "restart"
    RESUME = "resume"


class OnReadError(StrEnum):
    """What to do about places of a source VDISK that cannot be read."""

    STOP = "stop"
    ZERO = "zero"


class Spec(BaseModel):
    """What the administrator asked for. Rates are bytes/s, durations seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vm: str
    source: str
    destination: str
    networks: dict[str, str] = {}
    pools: dict[str, str] = {}
    """Destination pool by VDISK name; the key `""` is the default."""
    formats: dict[str, str] = {}
    """Destination format by VDISK name; the key `""` is the default."""
    cutover: Cutover = Cutover.AUTO
    max_downtime: float = Field(default=30.0, gt=0)
    target_time: float | None = Field(default=None, gt=0)
    """Seconds after which a gate that did not open holds the migration; None waits on."""
    shutdown_timeout: float = Field(default=120.0, gt=0)
    bandwidth: int | None = Field(default=None, gt=0)
    """At the hours that the schedule says nothing of."""
    bandwidth_schedule: tuple[LimitedHours, ...] = ()
    max_latency: LatencyBudget = LatencyBudget()
    """What background replication may add to the VM's I/O latency."""
    write_backpressure: bool = False
    write_floor: int = Field(default=1 << 20, gt=0)
    """Write backpressure never slows a VDISK below this, bytes/s."""
    on_read_error: OnReadError = OnReadError.STOP
    connections: int = Field(default=8, ge=1, le=64)
    compression: str = "auto"
    destination_address: str | None = None
    """Where the destination's engine listens for the source's; None finds an address that works."""
    devices: list[str] = []
    """Ids of the transport devices that carry the background; without any it goes over the network."""
    rest_by_network: bool = False
    """What does not fit onto the devices goes over the network instead of waiting for another device."""
    windows: tuple[Hours, ...] = ()
    """When it may cut over; without any, at any time."""

    profile: Profile = Profile()
    """What is different of it at the destination."""

    @model_validator(mode="after")
    def _memory_fits_what_continues(self) -> Self:
        if self.cutover is Cutover.RESUME and (self.profile.off or self.profile.changes(self.vm)):
            words = ", ".join([*self.profile.changes(self.vm), *(["start: off"] if self.profile.off else [])])
            raise refused(
                f"{self.vm} continues with its memory, so that its profile cannot change ({words})",
                "use cutover: restart, or auto, or leave that out of its profile",
            )
        return self

    @property
    def name_there(self) -> str:
        """The VM's name at the destination."""
        return self.profile.named(self.vm)

    @property
    def way(self) -> Cutover:
        """The cutover that is asked for: what its profile changes leaves no other."""
        if self.profile.off:
            return Cutover.MANUAL
        changed = self.cutover is Cutover.AUTO and self.profile.changes(self.vm)
        return Cutover.RESTART if changed else self.cutover

    def bandwidth_at(self, at: float) -> int | None:
        """Bytes/s of the link that it may use at an instant (Unix seconds); None for no limit."""
        return limit_at(self.bandwidth, self.bandwidth_schedule, at)


class ReplicaVdisk(BaseModel):
    """A VDISK and where its copy lives at the destination."""

    name: str
    size: int
    source_path: str
    source_format: str
    pool: str
    volume: str
    format: str
    path: str | None = None
    """Set once the volume exists; what is named here is ours to delete on cancel."""


class Place(BaseModel):
    """A place of a VDISK, in bytes."""

    model_config = ConfigDict(frozen=True)

    offset: int
    length: int


class Unreadable(BaseModel):
    """Places of a source VDISK that could not be read and arrive as zeros; sizes are bytes."""

    model_config = ConfigDict(frozen=True)

    bytes: int = 0
    places: int = 0
    first: list[Place] = []
    """At most 64 of them, in order."""


class CutoverFacts(BaseModel):
    """How far a cutover went. The order of the fields is the order of events; times are Unix seconds."""

    mode: Cutover
    attempt: int | None = None
    """Of its group, if it is in one."""
    was_off: bool = False
    """The VM had been shut off before: nothing starts it."""
    stopping_at: float
    stopped_at: float | None = None
    last_epoch_bytes: int | None = None
    last_epoch_seconds: float | None = None
    verified_at: float | None = None
    roots: dict[str, tuple[str, str]] = {}
    """Root hashes by VDISK, as the source and as the destination worked them out."""
    memory_bytes: int | None = None
    memory_wire_bytes: int | None = None
    """What its image took on the wire."""
    left_at: float | None = None
    """When the source VM had ended, its memory saved."""
    source_off: bool = False
    """The source VM is, or is about to be, stopped for good: from here the way leads forward, or back by a start."""
    memory_moved: bool = False
    memory_moved_at: float | None = None
    handed_over: bool = False
    """The VM is, or is about to be, the destination's: whoever starts it there may write, so nothing leads back."""
    started_at: float | None = None

    @property
    def downtime(self) -> float | None:
        """Seconds between the stop at the source and the start at the destination."""
        if self.started_at is None or self.stopped_at is None:
            return None
        return self.started_at - self.stopping_at


class Timings(BaseModel):
    """When the phases of a migration ended, Unix seconds, and what they moved, bytes: later forecasts learn from it."""

    begun_at: float | None = None
    """When its first run began; before, it was recorded and waited for its turn."""
    replicating_at: float | None = None
    copied_at: float | None = None
    compared_at: float | None = None
    """When the hashes of all VDISKs had been compared once while the VM runs."""
    content_bytes: int = 0
    """What the background sent that was not zeros, before compression."""
    wire_bytes: int = 0
    """What had gone over the link when all was copied."""
    looks: int = 0
    """While copying, those at which something limited the copy,"""
    unhindered_looks: int = 0
    """and those at which that was a disk or a processor, not the link."""
    memory: int = 0
    """The VM's, as it is configured."""


class Facts(BaseModel):
    """What a later run of Drover must know to go on with this migration."""

    uuid: str = ""
    vdisks: list[ReplicaVdisk] = []
    token: int = 0
    """Fencing token: grows with every run, so that an engine of an older run cannot write."""
    epoch: int = 0
    """Number of the bitmap that captures writes now."""
    epochs_done: int = 0
    captured: bool = False
    """Bitmaps were started once; if they are gone now, hashes must be compared."""
    compare: bool = False
    """The background must compare hashes, because capture was interrupted and this is not made good yet."""
    domain_xml: str = ""
    """The VM's own profile at the source, before anything of ours was in it."""
    autostart: bool = False
    io_tune: dict[str, dict[str, int]] = {}
    """The limits that a slowed VDISK had before write backpressure."""
    address: str | None = None
    """Address of the destination engine that the source engine reached."""
    cutover: CutoverFacts | None = None
    certificate: str | None = None
    unreadable: dict[str, Unreadable] = {}
    """By VDISK name; those that have none are left out."""
    timings: Timings = Timings()
    totals: Totals = Totals()
    sent_bytes: int = 0
    """Bytes that earlier engines of this migration put on the wire."""
    device_paths: dict[str, str] = {}
    """By transport device: where it is, or was, plugged in at the source's host."""


class Migration(BaseModel):
    """One VM on its way from one site to another, as it is stored. Times are Unix seconds."""

    id: str
    spec: Spec
    state: State = State.PLANNED
    reason: str | None = None
    remedy: str | None = None
    facts: Facts = Facts()
    created_at: float = Field(default_factory=time.time)
    updated_at: float = Field(default_factory=time.time)

    @property
    def begun_at(self) -> float:
        """When its first run began, as far as that is known."""
        return self.facts.timings.begun_at or self.created_at

    @model_validator(mode="after")
    def _id_is_a_file_name(self) -> Self:
        if not self.id.replace("-", "").isalnum():
            raise ValueError(f"{self.id!r} is not a migration's id")
        return self
