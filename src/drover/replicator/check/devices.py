"""Checks of the transport devices that are to carry the bulk: they are there, open, and have room."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drover.devices.known import open_device
from drover.errors import InputError
from drover.model.migration import Spec
from drover.model.units import format_duration, format_rate, format_size
from drover.model.vm import Vm
from drover.platforms.libvirt.host import Host
from drover.replicator.check.report import Report
from drover.store import DeviceStore, MigrationStore

_LEAST = 32 << 20
"""Bytes below which a device carries nothing worth the way."""
_DISK = 100e6
"""Bytes/s of an ordinary disk on USB; how fast this one is only loading it shows."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What is to go by road against the room for it; bytes, seconds."""

    allocated: int
    free: int
    load_seconds: float
    words: str

    @property
    def fits(self) -> bool:
        """As it is; compression may make it fit all the same."""
        return self.allocated <= self.free


def check(report: Report, host: Host, paths: Sequence[str], vm: Vm, spec: Spec, migrations: MigrationStore) -> None:
    """Also says what fits, and roughly how long loading takes."""
    for path in paths:
        with report.looking_at(f"device {path}"):
            _device(report, host, path, spec.source, migrations)
    report.good("by road", fit([vm], report.room, spec).words)


def fit(vms: Sequence[Vm], room: Mapping[str, int], spec: Spec) -> Fit:
    """What fits of these VMs together; `room` is what each device has left."""
    allocated = sum(vdisk.allocated for vm in vms for vdisk in vm.vdisks if vdisk.replicable)
    free = sum(room.values())
    fits = min(free, allocated)
    seconds = fits / _DISK
    words = f"{format_size(allocated)} by road, about {format_duration(seconds)} to load at {format_rate(_DISK)}"
    if limit := spec.bandwidth_at(time.time()):
        words += f"; over the network {format_duration(allocated / limit)} at {format_rate(limit)}"
    if fits < allocated:
        rest = format_size(allocated - fits)
        words += f"; unless it can be compressed {rest} do not fit and " + (
            "go over the network" if spec.rest_by_network else "wait for another device (or --rest-by-network)"
        )
    return Fit(allocated=allocated, free=free, load_seconds=seconds, words=words)


def _device(report: Report, host: Host, path: str, site: str, migrations: MigrationStore) -> None:
    store = DeviceStore(migrations.folder)
    opened = open_device(host, path, store)
    label, room = opened.label, opened.folder.room()
    if label.id in report.devices:
        raise InputError(f"the device {label.label} was named twice", remedy="name each device once")
    store.saw(label.id, label.label, site=site, path=opened.folder.path)
    report.devices[label.id] = opened.folder.path
    report.room[label.id] = room.free
    if room.free < _LEAST:
        report.bad(
            f"device {label.label}",
            f"it has {format_size(room.free)} left",
            f"`drover device wipe {opened.folder.path}` if what is on it is not needed, or use another",
        )
    else:
        report.good(f"device {label.label}", f"{format_size(room.free)} left at {opened.folder.path}")
