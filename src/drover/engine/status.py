"""What an engine says of itself: the answers of its control API as types. Sizes are bytes, durations seconds."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from drover.model.migration import Unreadable


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Fault(_Answer):
    """Why a VDISK is held."""

    code: str
    message: str
    offset: int | None = None
    length: int | None = None


class Background(_Answer):
    mode: Literal["copy", "compare"] | None = None
    state: Literal["idle", "running", "done"] = "idle"
    total_bytes: int = 0
    done_bytes: int = 0
    left_bytes: int = 0


class Epoch(_Answer):
    number: int
    state: Literal["reading", "sending", "acknowledged", "failed"]
    dirty_bytes: int = 0
    left_bytes: int = 0
    seconds: float = 0
    error: str | None = None


class Verify(_Answer):
    state: Literal["idle", "running", "done"] = "idle"
    checked_bytes: int = 0
    total_bytes: int = 0
    verified_bytes: int = 0
    differing_chunks: int = 0
    differing_offsets: list[int] = []


class Sent(_Answer):
    """What a source engine sent of one VDISK since it started."""

    raw_bytes: int = 0
    wire_bytes: int = 0
    zero_bytes: int = 0
    skipped_bytes: int = 0
    foreground_bytes: int = 0
    resent_bytes: int = 0


class Roots(_Answer):
    source: str
    destination: str


class VdiskStatus(_Answer):
    """One VDISK at an engine of either side."""

    size: int
    state: str
    error: Fault | None = None
    unreadable: Unreadable = Unreadable()
    limited_by: str | None = None
    background: Background = Background()
    epoch: Epoch | None = None
    verify: Verify = Verify()
    sent: Sent = Sent()
    root: Roots | None = None
    stable_chunks: int = 0
    total_chunks: int = 0


class Connection(_Answer):
    """One connection of the link: `up`, `connecting`, or `waiting` to be dialled again."""

    index: int
    state: str
    since_seconds: float = 0
    reason: str | None = None
    round_trip_seconds: float | None = None
    sent_bytes: int = 0
    received_bytes: int = 0


class LinkStatus(_Answer):
    state: str
    since_seconds: float = 0
    reason: str | None = None
    connections: int = 0
    wanted_connections: int = 0
    each_connection: list[Connection] = []
    lost_connections: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    round_trip_seconds: float | None = None
    reconnects: int = 0


class EngineStatus(_Answer):
    role: str | None = None
    link: LinkStatus
    vdisks: dict[str, VdiskStatus] = {}


class EngineInfo(_Answer):
    version: str
    protocol: int
    pid: int
    role: str | None = None
    memory_bytes: int = 0
