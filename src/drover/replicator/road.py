"""By road or by network: how each VDISK's background goes, when devices are opened, closed and given up. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

from drover.model.device import Use

Mode = Literal["copy", "compare", "load"]


@dataclass(frozen=True, kw_only=True)
class Vdisk:
    """One VDISK at the source's engine."""

    mode: Mode | None
    state: Literal["idle", "running", "loaded", "done"]


@dataclass(frozen=True, kw_only=True)
class Device:
    """One device that was given to the migration."""

    use: Use
    opened: Literal["running", "full", "failed"] | None = None
    """At the source's engine; None if it does not have it open."""
    here: bool = False
    """It is plugged in at the source's host; looked at only where that matters."""
    bytes: int = 0
    """On the device, and not at the destination."""

    @property
    def may_load(self) -> bool:
        """Whether more can be loaded onto it, now or when it is plugged in."""
        return self.use in (Use.PLANNED, Use.LOADING) and self.opened != "full"


class Waiting(Enum):
    """What the migration waits for until somebody does it."""

    CARRY = auto()
    """All that is left is on devices."""
    PLUG_IN = auto()
    """None of the devices that could take more is plugged in."""
    NO_ROOM = auto()
    """All devices are full, or on their way, and something is left."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What to do now, in the order of the fields; names of VDISKs, ids of devices."""

    mode: Mode
    """How backgrounds go that begin now."""
    close: tuple[str, ...] = ()
    """Finish their packs; what they then hold says whether they are loaded or not needed."""
    forget: tuple[str, ...] = ()
    """Copy again what was on them alone."""
    open: tuple[str, ...] = ()
    switch: tuple[str, ...] = ()
    """Backgrounds under way that have to go the other way."""
    waiting: Waiting | None = None


def decide(
    vdisks: Mapping[str, Vdisk], devices: Mapping[str, Device], *, compare: bool, rest_by_network: bool
) -> Decision:
    """What follows from where VDISKs and devices stand.

    While hashes are compared nothing is loaded: what differs goes over the network. Devices are closed when nothing
    more can be loaded, all at once: a block that is stored already may still get a place on any of them. When none can
    take more, what is left waits for another, unless it may go over the network, one was given up, or no device is on
    its way any more.
    """
    settled = all(vdisk.state in ("loaded", "done") for vdisk in vdisks.values())
    finished = all(vdisk.state == "done" for vdisk in vdisks.values())
    loading = any(device.may_load for device in devices.values())
    over = settled or not (compare or loading)
    mode = _mode(devices, loading=loading, compare=compare, rest_by_network=rest_by_network)
    loads = mode == "load"
    waiting = None
    if settled and not finished and not compare:
        waiting = Waiting.CARRY
    elif loads and not settled and not loading:
        waiting = Waiting.NO_ROOM
    elif loads and not settled and not any(d.may_load and (d.opened == "running" or d.here) for d in devices.values()):
        waiting = Waiting.PLUG_IN
    return Decision(
        mode=mode,
        close=tuple(name for name, device in devices.items() if _is_closed(device, settled, finished, over)),
        forget=tuple(name for name, device in devices.items() if device.use.ended and device.bytes),
        open=tuple(
            name
            for name, device in devices.items()
            if loads and not settled and device.may_load and device.here and device.opened != "running"
        ),
        switch=()
        if compare
        else tuple(name for name, vdisk in vdisks.items() if vdisk.state in ("idle", "running") and vdisk.mode != mode),
        waiting=waiting,
    )


def _mode(devices: Mapping[str, Device], *, loading: bool, compare: bool, rest_by_network: bool) -> Mode:
    if compare:
        return "compare"
    on_the_way = any(not device.use.ended for device in devices.values())
    # What an unloaded device did not bring, or a lost one had, goes over the network without waiting for the others.
    ended = any(device.use.ended for device in devices.values())
    return "load" if loading or (on_the_way and not rest_by_network and not ended) else "copy"


def _is_closed(device: Device, settled: bool, finished: bool, over: bool) -> bool:
    if device.opened is not None:
        return over or device.use not in (Use.PLANNED, Use.LOADING)
    # Its engine was started again after the last of it was loaded, or whoever unloaded it did not come to say so.
    return (device.use is Use.LOADING and settled) or (device.use is Use.LOADED and finished and not device.bytes)
