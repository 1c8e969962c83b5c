"""Transport devices of a running migration: opened at the source, loaded, closed, and waited for (road.py decides)."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from drover.devices.folder import DeviceFolder, open_host, utc_now
from drover.devices.known import identity_of, open_device, open_key
from drover.devices.manifest import manifest_of, seal_manifest
from drover.devices.needs import loading_too
from drover.devices.signing import own_signer
from drover.engine.client import UNKNOWN_DEVICE
from drover.engine.status import EngineStatus
from drover.errors import DroverError, EngineError, HostError
from drover.model.device import Use
from drover.model.migration import Migration
from drover.model.units import format_size
from drover.replicator import road
from drover.replicator.epochs import is_gone
from drover.replicator.run import Run
from drover.store import DeviceStore, MigrationStore

_LOOK = 5.0
"""Seconds between two looks for a device that is not plugged in, and between two tries of what failed."""


class Transport:
    """The devices of one run. Without any it only begins backgrounds."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._store = DeviceStore(run.store.folder)
        self._labels = {device.id: device.label for device in self._store.all()}
        self._looked_at = -_LOOK
        self._here: set[str] = set()
        self._due = False
        """Whether what is plugged in was looked at just now, so that opening it is worth a try."""
        self._told: dict[str, str] = {}
        self._waiting: road.Waiting | None = None
        self.by_road = False
        """Whether backgrounds go onto devices now: what the link carries says nothing of them then."""

    def begin(self) -> None:
        """Begins the background of every VDISK, on the devices that are plugged in. Raises EngineError."""
        self._looked_at = -_LOOK
        status = self._run.source.engine.status()
        decision = self._decide(status)
        self._do(decision)
        for vdisk in self._run.vdisk_names:
            self._run.source.engine.background(vdisk, decision.mode)

    def look(self, status: EngineStatus) -> str | None:
        """Does what has become due; what the migration waits for, if somebody has to do it. Raises EngineError."""
        if not self._run.migration.spec.devices:
            return None
        self._tell_failures(status)
        decision = self._decide(status)
        if decision.switch and decision.mode == "copy":
            left = sum(vdisk.background.pending_bytes for vdisk in status.vdisks.values())
            self._run.say(f"{format_size(left)} that are on no device go over the network")
        self._do(decision)
        for vdisk in decision.switch:
            self._run.source.engine.background(vdisk, decision.mode)
        words = self._explain(decision.waiting, status)
        if decision.waiting is not self._waiting and words is not None:
            self._run.say(words)
        self._waiting = decision.waiting
        return words

    def _decide(self, status: EngineStatus) -> road.Decision:
        run, uses = self._run, self._store.uses(self._run.migration.id)
        devices = {
            device: road.Device(
                use=uses.get(device, Use.PLANNED), opened=_opened(status, device), bytes=status.on_device(device)
            )
            for device in run.migration.spec.devices
        }
        absent = [name for name, device in devices.items() if device.may_load and device.opened != "running"]
        self._due = bool(absent) and not run.facts.compare and time.monotonic() - self._looked_at >= _LOOK
        if self._due:
            self._looked_at = time.monotonic()
            self._here = {device for device in absent if self._is_here(device)}
        devices = {name: replace(device, here=name in self._here) for name, device in devices.items()}
        decision = road.decide(
            {
                name: road.Vdisk(mode=status.vdisks[name].background.mode, state=status.vdisks[name].background.state)
                for name in run.vdisk_names
            },
            devices,
            compare=run.facts.compare,
            rest_by_network=run.migration.spec.rest_by_network,
        )
        finished = all(status.vdisks[name].background.state == "done" for name in run.vdisk_names)
        self.by_road = decision.mode == "load" and not finished
        return decision

    def _do(self, decision: road.Decision) -> None:
        for device in decision.close:
            self._close(device)
        for device in decision.forget:
            self._forget(device)
        for device in decision.open if self._due else ():
            self._open(device)

    def _open(self, device: str) -> None:
        run, path = self._run, self._run.facts.device_paths[device]
        folder = DeviceFolder(run.source.host, path)
        try:
            key = open_key(folder, folder.require(), identity_of(self._store, None))
            run.source.engine.put_device(device, path=folder.packs_path, key=key, purpose="load")
        except EngineError as error:
            if is_gone(error):
                raise
            self._tell(device, f"it cannot be loaded: {error}")
        except DroverError as error:
            self._tell(device, f"it cannot be loaded: {error}")
        else:
            self._store.use([device], run.migration.id, Use.LOADING)
            self._tell(device, f"it is loaded at {path}")

    def _close(self, device: str) -> None:
        run = self._run
        try:
            run.source.engine.remove_device(device)
        except EngineError as error:
            if is_gone(error):
                raise
            if error.code != UNKNOWN_DEVICE:
                self._tell(device, f"its packs cannot be finished: {error}")
                return
        status = run.source.engine.status()
        held = status.on_device(device)
        if self._store.uses(run.migration.id).get(device, Use.PLANNED).ended:
            return
        if held:
            self._write_manifest(device, status)
        self._store.use([device], run.migration.id, Use.LOADED if held else Use.UNLOADED)
        if not held:
            self._tell(device, "nothing that is on it is needed")
            return
        safe = self._sync(device)
        others = self._loading_too(device)
        wait = f"wait until {', '.join(others)} is on it too, then " if others else ""
        self._tell(
            device,
            f"it holds {format_size(held)} of {run.migration.spec.vm}: {wait}{safe} and carry it; then "
            "`drover device unload PATH`, with its path at the destination's host",
        )

    def _write_manifest(self, device: str, status: EngineStatus) -> None:
        """Without one `drover device verify` cannot say what is missing; nothing else needs it."""
        run = self._run
        folder = DeviceFolder(run.source.host, run.facts.device_paths[device])
        try:
            if folder.require().id != device:
                raise HostError(f"another one is at {folder.path}")
            manifest = manifest_of(run.migration, device, status, created=utc_now())
            recipients = [identity_of(self._store, None).recipient, *self._store.get(device).recipients]
            sealed = seal_manifest(manifest, own_signer(self._store.folder), list(dict.fromkeys(recipients)))
            folder.write_manifest(run.migration.id, sealed)
        except DroverError as error:
            self._tell(device, f"its manifest cannot be written: {error.message}")

    def _forget(self, device: str) -> None:
        left = self._run.source.engine.status().on_device(device)
        try:
            self._run.source.engine.forget_device(device)
        except EngineError as error:
            if is_gone(error):
                raise
            self._tell(device, f"what was on it cannot be given up: {error}")
        else:
            self._tell(device, f"{format_size(left)} that were on it alone are copied again")

    def _sync(self, device: str) -> str:
        """What to do with the device to take it away."""
        try:
            DeviceFolder(self._run.source.host, self._run.facts.device_paths[device]).sync()
        except DroverError:
            return "unmount it"
        return "unplug it"

    def _is_here(self, device: str) -> bool:
        path = self._run.facts.device_paths[device]
        try:
            label = DeviceFolder(self._run.source.host, path).read()
        except DroverError as error:
            self._tell(device, f"it is not to be had: {error}")
            return False
        if label is None or label.id != device:
            other = "" if label is None else f", the device {label.label} is there"
            self._tell(device, f"it is not at {path}{other}: plug it in again, and it goes on")
            return False
        return True

    def _tell_failures(self, status: EngineStatus) -> None:
        for device in self._run.migration.spec.devices:
            if device in status.devices and status.devices[device].state == "failed":
                why = status.devices[device].error or "no reason given"
                path = self._run.facts.device_paths[device]
                self._tell(device, f"it failed while it was loaded ({why}): plug it in again at {path}, and it goes on")
            elif device in status.devices and status.devices[device].state == "full":
                self._tell(device, "it is full")

    def _explain(self, waiting: road.Waiting | None, status: EngineStatus) -> str | None:
        run, migration = self._run, self._run.migration
        backgrounds = [vdisk.background for vdisk in status.vdisks.values()]
        left = format_size(sum(background.pending_bytes for background in backgrounds))
        if waiting is road.Waiting.CARRY:
            held = [device for device in migration.spec.devices if status.on_device(device)]
            size = format_size(sum(background.loaded_bytes for background in backgrounds))
            others = dict.fromkeys(vm for device in held for vm in self._loading_too(device))
            wait = f"wait until {', '.join(others)} is loaded too, then " if others else ""
            return (
                f"{size} are on {self._names(held)}: {wait}carry to the destination, then `drover device unload PATH` "
                "there; what the VM writes meanwhile goes over the network"
            )
        if waiting is road.Waiting.NO_ROOM:
            return (
                f"no device has room for the {left} that are left: interrupt this, then `drover resume {migration.id} "
                "--device PATH` adds one, or --rest-by-network sends them over the network"
            )
        if waiting is road.Waiting.PLUG_IN:
            uses = self._store.uses(migration.id)
            wanted = [d for d in migration.spec.devices if uses.get(d, Use.PLANNED) in (Use.PLANNED, Use.LOADING)]
            places = ", ".join(f"{self._names([device])} at {run.facts.device_paths[device]}" for device in wanted)
            return f"{left} wait for {places}: plug in, or `drover device forget` what will not come"
        return None

    def _loading_too(self, device: str) -> list[str]:
        """Other VMs that still go onto this device."""
        run = self._run
        return [m.spec.vm for m in loading_too(self._store.get(device), run.store, but_for=run.migration.id)]

    def _names(self, devices: Sequence[str]) -> str:
        return ", ".join(self._labels.get(device, device) for device in devices) or "devices"

    def _tell(self, device: str, words: str) -> None:
        """Says it once until something else is to be said of this device."""
        if self._told.get(device) != words:
            self._told[device] = words
            self._run.say(f"device {self._names([device])}: {words}")


def add_devices(store: MigrationStore, migration: Migration, paths: Sequence[str]) -> None:
    """Gives a migration more devices, or those again that it had. Raises DroverError and leaves it as it was then."""
    devices = DeviceStore(store.folder)
    host = open_host(migration.spec.source)
    try:
        opened = [open_device(host, path, devices) for path in paths]
    finally:
        host.close()
    ids = [device.label.id for device in opened]
    known = devices.uses(migration.id)
    for device in opened:
        devices.saw(device.label.id, device.label.label, site=migration.spec.source, path=device.folder.path)
    for device in opened:
        migration.facts.device_paths[device.label.id] = device.folder.path
        again = known.get(device.label.id) in (Use.LOADING, Use.LOADED)
        devices.use([device.label.id], migration.id, Use.LOADING if again else Use.PLANNED)
    migration.spec = migration.spec.model_copy(update={"devices": list(dict.fromkeys([*migration.spec.devices, *ids]))})
    store.save(migration)


def plug_in(store: MigrationStore, migration: Migration, paths: Sequence[str]) -> list[str]:
    """Looks which devices are at `paths` of the source's host now, and says what follows; new ones are added.

    Those that the migration was given are known by their ids, wherever they are mounted now. Raises nothing for a path
    without a device: it may be on its way, or unloaded. Raises DroverError for one that cannot be opened.
    """
    host = open_host(migration.spec.source)
    found: dict[str, str] = {}
    words = []
    try:
        for path in paths:
            label = DeviceFolder(host, path).read()
            if label is None:
                words.append(f"no transport device is at {path} now: what is on its way is waited for")
            else:
                found[label.id] = path
                before = migration.facts.device_paths.get(label.id)
                if before not in (None, path):
                    words.append(f"device {label.label}: it is at {path} now, not at {before}")
    finally:
        host.close()
    uses = DeviceStore(store.folder).uses(migration.id)
    given = [path for device, path in found.items() if not uses.get(device, Use.PLANNED).ended]
    if given:
        add_devices(store, migration, given)
    return words


def _opened(status: EngineStatus, device: str) -> Literal["running", "full", "failed"] | None:
    known = status.devices.get(device)
    if known is None or known.purpose != "load" or known.state not in ("running", "full", "failed"):
        return None
    return known.state
