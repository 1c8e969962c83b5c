"""A forecast: what was asked, what is to be expected, how sure that is.

Sizes are bytes, durations seconds, rates bytes/s, shares 0 to 1.
"""

from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from drover.model.hours import Hours
from drover.model.latency import LatencyBudget
from drover.model.migration import Cutover
from drover.model.observation import Interval


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Method(StrEnum):
    """How the bulk of a VM travels."""

    NETWORK = "network"
    DEVICE = "transport device + network"
    STOPPED = "stopped export"


class Range(_Frozen):
    """The middle of what is to be expected, and the limits within which it lies in 80 of 100 cases."""

    p10: float
    p50: float
    p90: float

    @classmethod
    def of(cls, values: list[float]) -> Self:
        """The quantiles of drawn values, which must not be empty."""
        ordered = sorted(values)
        return cls(**{name: quantile(ordered, share) for name, share in (("p10", 0.1), ("p50", 0.5), ("p90", 0.9))})

    def scaled(self, factors: "Range") -> Self:
        return type(self)(p10=self.p10 * factors.p10, p50=self.p50 * factors.p50, p90=self.p90 * factors.p90)


class VmQuestion(_Frozen):
    """What a plan asks of one VM."""

    vm: str
    cutover: Cutover = Cutover.AUTO
    max_downtime: float = Field(gt=0)
    target_time: float | None = Field(default=None, gt=0)
    bandwidth: float | None = Field(default=None, gt=0)
    """The VM's own limit, beside the one of all."""
    starts_after: float = Field(default=0.0, ge=0)
    """Seconds after the first of its group that it is started."""


class Batch(_Frozen):
    """VMs of a plan that begin together: a group, which cuts over behind one barrier, or one VM."""

    name: str
    group: bool
    vms: tuple[VmQuestion, ...] = Field(min_length=1)
    after: tuple[str, ...] = ()
    """Batches that must have finished before this one begins."""
    windows: tuple[Hours, ...] = ()
    """When it may cut over; without any, at any time."""


class Question(_Frozen):
    """Under which conditions the forecast is to hold; what is None follows from what was measured."""

    cutover: Cutover = Cutover.AUTO
    max_downtime: float | None = Field(default=None, gt=0)
    target_time: float | None = Field(default=None, gt=0)
    bandwidth: float | None = Field(default=None, gt=0)
    """At most this much of the link."""
    link_rate: float | None = Field(default=None, gt=0)
    """What if the link carried this."""
    compression: str = "auto"
    connections: int | None = Field(default=None, ge=1, le=64)
    write_backpressure: bool = False
    max_latency: LatencyBudget = LatencyBudget()
    """If there is one, none is recommended."""
    together: bool = False
    """The VMs are one group: they cut over behind one barrier."""
    batches: tuple[Batch, ...] = ()
    """Of a plan; what they say of a VM holds instead of what is said here of all. Their VMs are those of the forecast,
    in its order."""
    at_once: int | None = Field(default=None, ge=1)
    """How many VMs of a plan replicate at the same time."""
    hour: float | None = Field(default=None, ge=0, lt=24)
    """What if it began at this hour of the day, local time."""
    shipping: Range | None = None
    """How long a transport device travels; None considers none."""
    device_rate: float = Field(default=100e6, gt=0)
    """At which a transport device is written and read."""


class VmForecast(_Frozen):
    """What is to be expected of one VM, of a group, or of all of them together."""

    vm: str
    duration: Range
    """From the beginning until the VM runs at the destination and everything is tidied up."""
    downtime: Range
    wire_bytes: Range
    cutover: Cutover
    epochs: Range
    opens: float
    """Share of the draws in which the cutover gate opens, that is: replication converges and the downtime fits."""
    begins: Range | None = None
    """In a plan: when its turn comes, from the beginning."""


class Option(_Frozen):
    """One way to do it."""

    method: Method
    duration: Range
    downtime: Range
    wire_bytes: Range
    device_bytes: float = 0.0
    note: str


class TradeOff(_Frozen):
    """What a maximum downtime costs."""

    max_downtime: float
    cutover: Cutover
    duration: Range
    downtime: Range
    opens: float
    write_share: float
    """What the VM may write of what it writes now, for the gate to open; 1: it need not be slowed."""


class Sharing(_Frozen):
    """Shares of a VM's allocated content that need not be stored again, each with the limits of 95 of 100 cases."""

    vm: str
    alone: Interval
    """Occurs in the VM more than once; of equal chunks all but one."""
    together: Interval | None
    """The same over all VMs of the question, `alone` included; None if it is one VM."""
    destination: Interval | None
    """Is at the destination already, as far as VMs there were sampled; None if none was."""


class Forecast(_Frozen):
    """The answer of `drover estimate`. `whole` is for all VMs together, however they begin."""

    at: float
    source: str
    destination: str
    question: Question
    vms: list[VmForecast]
    groups: list[VmForecast] = []
    """Of a plan."""
    whole: VmForecast
    recommended: Method
    options: list[Option]
    trade_off: list[TradeOff] = []
    break_even: float | None = None
    """Link rate below which a transport device is sooner done; None if none was considered, or it never is."""
    settings: dict[str, str] = {}
    """By option of `drover migrate`."""
    reasons: list[str] = []
    warnings: list[str] = []
    corrected_by: int = 0
    """How many finished migrations the intervals were corrected by."""
    horizon: float = 0.0
    """Seconds of observation behind it."""
    sharing: list[Sharing] = []
    """Of the VMs whose content was sampled."""


def quantile(ordered: list[float], share: float) -> float:
    """By linear interpolation between the order statistics of a sorted, non-empty list."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
