"""What the estimator saw: of a VM, of the content of its VDISKs, of the link between two sites.

Sizes are bytes, durations seconds, times Unix seconds, rates bytes/s, shares 0 to 1.
"""

from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field


class _Seen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Interval(_Seen):
    """A figure from a sample, with the limits between which the truth lies in 95 of 100 cases."""

    value: float
    low: float
    high: float

    @classmethod
    def exactly(cls, value: float) -> Self:
        return cls(value=value, low=value, high=value)


class IoSample(_Seen):
    """The hypervisor's totals of one VDISK since the VM started, at one moment."""

    vdisk: str
    at: float
    read_bytes: int
    write_bytes: int
    read_requests: int
    write_requests: int
    read_seconds: float
    write_seconds: float
    """Summed over the requests: divided by their number it is the mean latency."""


class DirtySample(_Seen):
    """Distinct bytes of one VDISK, in blocks of 64 KiB, that were written within `window` seconds until `at`.

    How much of a window is written again in the next one is in the curve: twice these bytes less those of a window
    twice as long.
    """

    vdisk: str
    at: float
    window: float
    """As it was measured: 10.02 where 10 were meant."""
    bytes: int


class Chunk(_Seen):
    """One chunk of a VDISK that was read and tried out; sizes are those of the whole chunk."""

    offset: int
    length: int
    zero_bytes: int
    lz4_bytes: int
    zstd_bytes: int
    hash: str
    """The first half of its BLAKE3, hexadecimal."""


class VdiskSample(_Seen):
    """Chunks of one VDISK, taken at random, each at most once, from those that hold allocated bytes."""

    vdisk: str
    at: float
    size: int
    allocated: int
    allocated_chunks: int | None = None
    """Chunks that hold allocated bytes; None: as few as can hold them."""
    read_bytes: int
    read_seconds: float
    """While the reading was not held back."""
    speeds: dict[str, float]
    """Bytes/s that one core compresses, by method."""
    chunks: list[Chunk] = Field(default=[], repr=False)


class Content(_Seen):
    """What a random sample of one VDISK's allocated chunks holds."""

    vdisk: str
    at: float
    size: int
    allocated: int
    """By `base:allocation`; everything else reads as zeros at no cost."""
    chunks: int
    """How many chunks of 512 KiB were read."""
    zero: Interval
    """Share of the allocated bytes that are zeros."""
    duplicate: Interval
    """Share of the allocated bytes that de-duplication over the VM would spare: of equal chunks all but one."""
    ratios: dict[str, Interval]
    """Bytes after compression for each byte of what is not zero, by method: `lz4`, `zstd`."""
    speeds: dict[str, float]
    """Bytes/s that one core of the host compresses, by method."""
    read_rate: float
    """Bytes/s at which the sample was read while it was not held back; what the disks give at least."""


class Workload(StrEnum):
    """What a link probe sent."""

    BULK = "bulk"
    EPOCH = "epoch"


class Probe(_Seen):
    """One measurement of the link between two hosts, encrypted and by the engines' own protocol."""

    at: float
    workload: Workload
    connections: int
    congestion: str = ""
    """The congestion control in force, as `cubic` or `bbr`."""
    bytes: int
    """On the wire."""
    seconds: float
    rate: Interval
    """Bytes/s on the wire. Of the bulk, without the slow start."""
    windows: list[float] = []
    """Bytes/s of each window of `max(RTT, 250 ms)`: the spread."""
    blocks: int = 0
    """Of an epoch: how many blocks of 64 KiB it held."""
    cpu_seconds: float | None = None
    """Of both engines together."""


class LinkState(_Seen):
    """What the TCP of the probes' connections said, all of them together."""

    at: float
    round_trip: Interval
    """Seconds; `low` is the smallest that was seen, `high` the p95."""
    busy: Interval | None = None
    """Seconds of a round trip while bulk fills the link, `low` and `high` of 90 of 100 looks: what others wait then."""
    loss: float
    """Share of segments that were sent again."""
    segments: int
    mtu: int
    retransmitted: int


class LinkObservation(_Seen):
    """Everything that was measured of one link at one time, between the source's host and the destination's."""

    source: str
    destination: str
    at: float
    state: LinkState
    probes: list[Probe]
    advice: list[str] = []
    """What holds the link back that an administrator could change, as a sysctl."""

    @property
    def bulk(self) -> dict[int, Probe]:
        """The best bulk probe by number of connections."""
        best: dict[int, Probe] = {}
        for probe in self.probes:
            known = best.get(probe.connections)
            if probe.workload is Workload.BULK and (known is None or probe.rate.value > known.rate.value):
                best[probe.connections] = probe
        return best

    @property
    def knee(self) -> int:
        """The fewest connections whose rate is at least 95 % of the best; 1 if nothing was measured."""
        bulk = self.bulk
        best = max((probe.rate.value for probe in bulk.values()), default=0.0)
        return min((n for n, probe in bulk.items() if probe.rate.value >= 0.95 * best), default=1)


class VmObservation(_Seen):
    """One VM as it was seen over a time; what a forecast is made of."""

    id: str
    vm: str
    uuid: str
    site: str
    began_at: float
    ended_at: float | None
    """None while it goes on, or if whoever observed was killed."""
    ended_because: str = ""
    """Why before its time, if so."""
    memory: int
    resident: int | None = None
    """What of the VM's memory its hypervisor process has touched so far, where the platform tells."""
    sizes: dict[str, int]
    """Bytes of each VDISK, by name."""
    io: list[IoSample] = Field(default=[], repr=False)
    dirty: list[DirtySample] = Field(default=[], repr=False)
    content: list[Content] = Field(default=[], repr=False)

    @property
    def seconds(self) -> float:
        """How long it was looked at so far."""
        times = [sample.at for sample in self.io]
        return max(times) - min(times) if times else 0.0
