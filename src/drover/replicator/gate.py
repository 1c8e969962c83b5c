"""The cutover gate: the downtime that a cutover would cost now, and whether it fits (DESIGN 6). No I/O."""

from dataclasses import dataclass

from drover.model.migration import Cutover
from drover.model.units import format_duration, format_rate, format_size

SEAL_SECONDS = 0.3
"""Pausing, sealing, exporting and the engines' turn, measured in the lab at 0.1–0.3 s."""
SAVE_SECONDS = 2.0
"""libvirt's own time to save and restore a memory image, whatever its size: 1.8–2.5 s in the lab."""
SAVE_RATE = 250e6
"""Bytes/s at which a hypervisor writes and reads memory images on ordinary disks."""
SHUTDOWN_SECONDS = 10.0
"""Allowed for a guest's own shutdown, until it has been seen; its boot at the destination is not counted."""
START_SECONDS = 1.5
"""Defining and starting the VM at the destination."""


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What the gate knows. Sizes are bytes, rates bytes/s; rates are never 0."""

    dirty: int
    """Bytes that the VM is expected to have written since the last epoch, at the p95 of the epochs seen."""
    rate: float
    """At which epochs reach the destination."""
    unverified: int
    """Bytes whose hashes are still to be compared."""
    verify_rate: float
    memory: int
    """The VM's memory, or what of it its host has ever given it: what was never touched is not in the image."""
    link_rate: float


def downtime(mode: Cutover, outlook: Outlook) -> float:
    """Predicted seconds between the stop at the source and the start at the destination."""
    last_epoch = SEAL_SECONDS + outlook.dirty / outlook.rate
    verify = (outlook.unverified + outlook.dirty) / outlook.verify_rate
    if mode is Cutover.RESUME:
        memory = SAVE_SECONDS + outlook.memory * (1 / outlook.link_rate + 2 / SAVE_RATE)
        return last_epoch + verify + memory + START_SECONDS
    return SHUTDOWN_SECONDS + last_epoch + verify + START_SECONDS


def choose(mode: Cutover, outlook: Outlook, limit: float) -> tuple[Cutover, float]:
    """The cutover to do and its predicted downtime: `auto` resumes if that fits the limit, or is the shorter one."""
    if mode is not Cutover.AUTO:
        return mode, downtime(mode, outlook)
    resume, restart = (downtime(candidate, outlook) for candidate in (Cutover.RESUME, Cutover.RESTART))
    return (Cutover.RESUME, resume) if resume <= limit or resume <= restart else (Cutover.RESTART, restart)


def room(predicted: float, limit: float, outlook: Outlook) -> float:
    """Bytes that the last epoch may hold for the downtime to fit; not above 0 if no epoch is small enough."""
    return (limit - predicted) * outlook.rate + outlook.dirty


def explain(predicted: float, limit: float, outlook: Outlook, *, mode: Cutover, backpressure: bool) -> str:
    """Why the gate is shut and what would open it."""
    fixed = predicted - outlook.dirty / outlook.rate
    words = (
        f"holding: a {mode} cutover would take {format_duration(predicted)}, "
        f"the maximum downtime is {format_duration(limit)}; "
    )
    if fixed >= limit:
        return words + f"what does not depend on writes takes {format_duration(fixed)}: raise --max-downtime above that"
    needed = outlook.dirty / (limit - fixed)
    words += (
        f"the VM writes {format_size(outlook.dirty)} per epoch and the link carries {format_rate(outlook.rate)}: "
        f"it opens at {format_rate(needed)}, or with --max-downtime {predicted * 1.1:.0f}s"
    )
    return words if backpressure else words + ", or with --write-backpressure"


def percentile(values: list[int], share: float) -> int:
    """The smallest value that at least `share` of the values do not exceed; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0
