"""What an engine says of itself: the answers of its control API as types. Sizes are bytes, durations seconds."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, computed_field

from drover.model.migration import Unreadable

CHUNK = 512 << 10
"""Bytes of a chunk; the last of a VDISK may be shorter and counts as one."""


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Fault(_Answer):
    """Why a VDISK is held."""

    code: str
    message: str
    offset: int | None = None
    length: int | None = None


class Background(_Answer):
    """`loaded`: nothing is pending, but the destination does not have all of what lies on transport devices."""

    mode: Literal["copy", "compare", "load"] | None = None
    state: Literal["idle", "running", "loaded", "done"] = "idle"
    total_bytes: int = 0
    done_bytes: int = 0
    left_bytes: int = 0
    """What the destination does not have yet, on devices or not."""
    loaded_bytes: int = 0
    """Of what is left: on transport devices and not unloaded yet."""
    devices: dict[str, int] = {}
    """The same by device."""

    @property
    def pending_bytes(self) -> int:
        """Of what is left: neither at the destination nor on a device."""
        return max(self.left_bytes - self.loaded_bytes, 0)


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


class Damage(_Answer):
    """A place of a device that does not open. Without an index it is not known whose it was."""

    pack: int
    offset: int
    bytes: int
    migration: str | None = None
    vdisk: str | None = None
    chunk: int | None = None
    why: str

    @computed_field
    def vdisk_offset(self) -> int | None:
        """Where the chunk begins in its VDISK, in bytes."""
        return None if self.chunk is None else self.chunk * CHUNK


class Load(_Answer):
    """What the writer of a device said of one VDISK on it."""

    load: str
    migration: str
    vdisk: str
    size: int
    chunks: int


class DeviceStatus(_Answer):
    """A transport device that an engine has open."""

    path: str
    purpose: Literal["load", "unload", "verify"]
    state: Literal["running", "full", "failed", "done", "closed"]
    error: str | None = None
    written_bytes: int = 0
    read_bytes: int = 0
    total_bytes: int = 0
    free_bytes: int = 0
    blocks: int = 0
    places: int = 0
    loaded_chunks: int = 0
    unloaded_chunks: int = 0
    skipped_chunks: int = 0
    refused_chunks: int = 0
    """The source does not want them: an older copy, or the destination had them already."""
    damaged: int = 0
    damages: list[Damage] = []
    """At most 64 of them."""
    loads: list[Load] = []


class TcpTotals(_Answer):
    """What TCP connections sent. Segments are those with data; bytes are without the headers of TCP and IP."""

    segments: int = 0
    """Repetitions too."""
    retransmitted_segments: int = 0
    spurious_segments: int = 0
    """Of the retransmitted: the peer had them already."""
    sent_wire_bytes: int = 0
    retransmitted_bytes: int = 0
    delivered_bytes: int = 0
    """Arrived at the peer's kernel, behind a gap too."""
    busy_seconds: float = 0
    receiver_limited_seconds: float = 0
    """Of the busy ones: the receive buffer of the peer held it up."""
    sender_limited_seconds: float = 0
    """Of the busy ones: the own send buffer held it up."""


class Tcp(TcpTotals):
    """What the kernel says of one TCP connection; 0 for what it does not tell."""

    round_trip_seconds: float = 0
    round_trip_deviation_seconds: float = 0
    min_round_trip_seconds: float = 0
    mss: int = 0
    path_mtu: int = 0
    congestion_window: int = 0
    """In segments."""
    congestion: str = ""
    delivery_rate: int = 0


class Connection(_Answer):
    """One connection of the link: `up`, `connecting`, or `waiting` to be dialled again."""

    index: int
    state: str
    since_seconds: float = 0
    reason: str | None = None
    round_trip_seconds: float | None = None
    sent_bytes: int = 0
    received_bytes: int = 0
    tcp: Tcp | None = None


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
    tcp: TcpTotals = TcpTotals()
    """Of the session, with the connections that have ended."""


class EngineStatus(_Answer):
    role: str | None = None
    link: LinkStatus
    vdisks: dict[str, VdiskStatus] = {}
    devices: dict[str, DeviceStatus] = {}

    @property
    def moved_bytes(self) -> int:
        """What a source's engine put on the link and onto the devices that are open now."""
        loading = [device.written_bytes for device in self.devices.values() if device.purpose == "load"]
        return self.link.sent_bytes + sum(loading)

    def on_device(self, device: str) -> int:
        """Bytes that are on this device and that the destination does not have; only a source's engine knows."""
        return sum(vdisk.background.devices.get(device, 0) for vdisk in self.vdisks.values())


class SampledChunk(_Answer):
    """One chunk of a sample. The bytes by method are what would travel; 0 for a chunk of zeros."""

    offset: int
    bytes: int
    zero_bytes: int
    lz4_bytes: int
    zstd_bytes: int
    hash: str


class SampleStatus(_Answer):
    """What chunks chosen at random among the allocated ones hold; figures but `read_bytes` come when it is done."""

    state: Literal["running", "done", "failed"]
    error: str | None = None
    read_bytes: int = 0
    allocated_bytes: int = 0
    """Of the whole VDISK."""
    allocated_chunks: int = 0
    sampled_chunks: int = 0
    sampled_bytes: int = 0
    zero_bytes: int = 0
    unreadable_chunks: int = 0
    """They were chosen, and are in none of the figures."""
    compressed_bytes: dict[str, int] = {}
    """By method: `lz4`, `zstd`."""
    speeds: dict[str, float] = {}
    """Bytes/s of one core, by method."""
    read_seconds: float = 0
    """Without the waiting for the rate."""
    chunks: list[SampledChunk] = []


class EngineInfo(_Answer):
    version: str
    protocol: int
    pid: int
    role: str | None = None
    memory_bytes: int = 0
