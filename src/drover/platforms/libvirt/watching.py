"""A libvirt host that says what changes: its domain events, and single VMs read anew when one came.

libvirt has no event for a VDISK that was resized: its new size shows with the VM's next event or the next full list.
"""

import contextlib
import queue
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import libvirt

from drover.errors import PlatformError
from drover.model.inventory import ListedVdisk, ListedVm, Power
from drover.platforms.libvirt.connection import doing, open_uri
from drover.platforms.libvirt.inventory import network_of
from drover.platforms.libvirt.labels import labels_of

_EVENTS = (
    libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
    libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED,
    libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
    libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE,
    libvirt.VIR_DOMAIN_EVENT_ID_DISK_CHANGE,
    libvirt.VIR_DOMAIN_EVENT_ID_MEMORY_DEVICE_SIZE_CHANGE,
)
_STATES = {
    libvirt.VIR_DOMAIN_RUNNING: Power.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: Power.RUNNING,
    libvirt.VIR_DOMAIN_SHUTDOWN: Power.RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: Power.PAUSED,
    libvirt.VIR_DOMAIN_SHUTOFF: Power.OFF,
    libvirt.VIR_DOMAIN_CRASHED: Power.CRASHED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: Power.ASLEEP,
}
# Not that of Drover's own notes: `virsh metadata` replaces what a VM has of a namespace.
_GONE = None
"""In the queue: the connection has ended."""


class LibvirtWatched:
    """A connection of its own. Opening raises InputError if the URI leads nowhere, PlatformError if it takes no
    callbacks.
    """

    def __init__(self, uri: str, open_connection: Callable[[str], libvirt.virConnect] = open_uri) -> None:
        self._uri = uri
        self._happened: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._connection = open_connection(uri)
        with doing(f"listening to the events of {uri}"):
            self._host = self._connection.getHostname()
            self._callbacks = [
                self._connection.domainEventRegisterAny(None, event, self._note, None) for event in _EVENTS
            ]
        with contextlib.suppress(libvirt.libvirtError):
            # Drivers within this process have nothing that could be cut.
            self._connection.registerCloseCallback(self._cut, None)

    def everything(self) -> list[ListedVm]:
        with doing(f"listing the VMs of {self._uri}"):
            domains = self._connection.listAllDomains()
        return [vm for domain in domains if (vm := self._listed(domain)) is not None]

    def one(self, uuid: str) -> ListedVm | None:
        with doing(f"looking up the VM {uuid} at {self._uri}"):
            try:
                domain = self._connection.lookupByUUIDString(uuid)
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                    return None
                raise
        return self._listed(domain)

    def changed(self, timeout: float) -> set[str]:
        found: set[str] = set()
        with contextlib.suppress(queue.Empty):
            while True:
                # The first is waited for; what came with it is taken along.
                uuid = self._happened.get(timeout=0 if found else timeout)
                if uuid is _GONE:
                    raise PlatformError(f"the connection to {self._uri} has ended", remedy="see that libvirtd runs")
                found.add(uuid)
        with doing(f"asking for the connection to {self._uri}"):
            if not self._connection.isAlive():
                raise PlatformError(f"the connection to {self._uri} is dead", remedy="see that libvirtd runs")
        return found

    def close(self) -> None:
        # A connection that is cut says so, and is closed all the same.
        with contextlib.suppress(libvirt.libvirtError):
            for callback in self._callbacks:
                self._connection.domainEventDeregisterAny(callback)
        with contextlib.suppress(libvirt.libvirtError):
            self._connection.unregisterCloseCallback()
        with contextlib.suppress(libvirt.libvirtError):
            self._connection.close()

    def _note(self, _connection: object, domain: libvirt.virDomain, *_details: object) -> None:
        # On the thread of libvirt's event loop, where nothing may be asked of libvirt.
        self._happened.put(domain.UUIDString())

    def _cut(self, *_: object) -> None:
        self._happened.put(_GONE)

    def _listed(self, domain: libvirt.virDomain) -> ListedVm | None:
        """None if the VM went meanwhile."""
        with doing(f"reading the profile of {domain.name()}"):
            try:
                profile = ET.fromstring(domain.XMLDesc(0))
                state, memory, _, processors, _ = domain.info()
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                    return None
                raise
        networks = filter(None, map(network_of, profile.findall("devices/interface")))
        labels = labels_of(profile)
        return ListedVm(
            uuid=domain.UUIDString(),
            name=domain.name(),
            host=self._host,
            state=_STATES.get(state, Power.OFF),
            memory=memory * 1024,
            processors=processors,
            vdisks=tuple(_vdisks(domain, profile)),
            networks=tuple(dict.fromkeys(networks)),
            folder=labels.folder.strip("/"),
            tags=tuple(sorted(labels.tags)),
        )


def _vdisks(domain: libvirt.virDomain, profile: ET.Element) -> list[ListedVdisk]:
    found = []
    for disk in profile.findall("devices/disk"):
        target, driver = disk.find("target"), disk.find("driver")
        if target is None or disk.get("device", "disk") in ("cdrom", "floppy") or disk.find("readonly") is not None:
            continue
        name = target.get("dev", "")
        kind = "raw" if driver is None else driver.get("type", "raw")
        found.append(ListedVdisk(name=name, size=_size(domain, name), format=kind))
    return found


def _size(domain: libvirt.virDomain, vdisk: str) -> int | None:
    try:
        answer: Any = domain.blockInfo(vdisk)
    except libvirt.libvirtError:
        # Its file is gone, or it is on storage that libvirt cannot ask: the VM is listed all the same.
        return None
    return int(answer[0])
