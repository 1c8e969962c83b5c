"""The timeline of a plan: when what begins, cuts over and ends, as it is worked out. Times are Unix seconds."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from drover.model.order import Pin


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Basis(StrEnum):
    """What an expectation is made of."""

    FORECAST = "forecast"
    """The one that was made when its migration began."""
    OBSERVATION = "observation"
    """How much there is to copy, and how well it compresses, was observed."""
    SIZE = "size"
    """What its VDISKs take, and what is usual."""


class Progressing(StrEnum):
    """How far a batch is."""

    WAITING = "waiting"
    RUNNING = "running"
    STOPPED = "stopped"
    """Paused or failed: it goes on when the administrator says so."""
    FINISHED = "finished"


class TimelineVm(_Frozen):
    """One VM of a batch."""

    vm: str
    migration: str | None
    basis: Basis
    wire_bytes: float
    """What is expected to travel, all in all."""


class TimelineRow(_Frozen):
    """A batch: a group, or a VM that goes for itself. A time is None if it never comes."""

    name: str
    group: bool
    vms: list[TimelineVm]
    after: list[str] = []
    priority: int = 0
    pin: Pin | None = None
    state: Progressing
    begin: float | None
    copied: float | None
    """When all is copied: from then on it waits for its cutover, if it waits."""
    cutover: float | None
    end: float | None
    waits_for: str | None = None
    """What it waits for now, or why it will not end."""


class Timeline(_Frozen):
    """A plan's batches in the order in which they begin."""

    plan: str
    at: float
    """When it was worked out."""
    link_rate: float
    """Bytes/s that were reckoned with."""
    link_known: bool
    """Whether that was measured; else it is assumed."""
    end: float | None
    """When the last ends; None if one never does."""
    rows: list[TimelineRow]
