"""Stopping, saving, restoring and starting a VM at a libvirt site."""

import contextlib
import threading
import time
from collections.abc import Iterator

import libvirt

from drover.errors import PlatformError
from drover.platforms.libvirt.connection import doing
from drover.platforms.libvirt.profile import mark_migrated

_PRESS_AGAIN = 5.0
"""Seconds between presses of the power button."""
_RESUME = "resume it by hand with `virsh resume` if it stays paused"


def suspend(domain: libvirt.virDomain) -> None:
    """Pauses the VM; QEMU completes every write that is under way before this returns."""
    if domain.state()[0] != libvirt.VIR_DOMAIN_PAUSED:
        with doing(f"pausing {domain.name()}"):
            domain.suspend()


def resume(domain: libvirt.virDomain) -> None:
    """Lets a paused VM run on; one that runs is left alone."""
    if domain.isActive() and domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED:
        try:
            with doing(f"resuming {domain.name()}"):
                domain.resume()
        except PlatformError as error:
            raise PlatformError(error.message, remedy=_RESUME) from error


def shut_down_and_hold(domain: libvirt.virDomain, *, timeout: float) -> float:
    """Lets the guest shut down in order and holds its QEMU process paused, bitmaps and all; Unix time of the stop.

    A plain shutdown would end the QEMU process, and with it the bitmap that knows the last writes. So the guest is
    asked, by the power button, for what libvirt calls a reboot: it flushes and powers off, libvirt resets the machine
    instead of ending it, and this function pauses it at the reset, while the firmware still counts its memory. Should
    the pause come late, nothing is lost: whatever the guest writes as it boots is captured like every other write.

    Raises PlatformError if the guest does not answer within `timeout` seconds or its process is gone afterwards.
    """
    with _on_reset(domain) as reset:
        deadline = time.monotonic() + timeout
        while not _press_and_wait(domain, reset):
            if not domain.isActive():
                raise PlatformError(
                    f"{domain.name()} ended its hypervisor process while shutting down",
                    remedy="`drover resume` goes on with the stopped VM by comparing hashes",
                )
            if time.monotonic() > deadline:
                raise PlatformError(
                    f"{domain.name()} did not shut down within {timeout:.0f} s of the power button",
                    remedy="let its system react to ACPI events, raise --shutdown-timeout, or use --cutover resume",
                )
        stopped = time.time()
        suspend(domain)
    return stopped


def _press_and_wait(domain: libvirt.virDomain, reset: threading.Event) -> bool:
    """Presses the power button; true once the machine is reset. A guest that is just booting needs it pressed again."""
    with doing(f"asking {domain.name()} to shut down"):
        domain.reboot(libvirt.VIR_DOMAIN_REBOOT_ACPI_POWER_BTN)
    deadline = time.monotonic() + _PRESS_AGAIN
    while time.monotonic() < deadline and domain.isActive():
        if reset.wait(0.2):
            return True
    return reset.is_set()


def destroy(domain: libvirt.virDomain) -> None:
    """Ends the hypervisor process of a VM that was stopped in order; its VDISKs stay."""
    if not domain.isActive():
        return
    try:
        with doing(f"ending the process of {domain.name()}"):
            domain.destroyFlags(libvirt.VIR_DOMAIN_DESTROY_GRACEFUL)
    except PlatformError:
        if domain.isActive():
            raise


def save(domain: libvirt.virDomain, path: str) -> None:
    """Writes a paused VM's memory to a file on its host and ends its hypervisor process."""
    with doing(f"saving the memory of {domain.name()} to {path}"):
        domain.saveFlags(path, None, libvirt.VIR_DOMAIN_SAVE_PAUSED)


def saved_profile(connection: libvirt.virConnect, path: str) -> str:
    """The profile inside a memory image."""
    with doing(f"reading the profile in {path}"):
        return str(connection.saveImageGetXMLDesc(path, libvirt.VIR_DOMAIN_SAVE_IMAGE_XML_SECURE))


def restore(connection: libvirt.virConnect, path: str, xml: str | None) -> None:
    """Continues a VM from a memory image, with another profile if one is given."""
    with doing(f"continuing the VM from {path}"):
        connection.restoreFlags(path, xml, libvirt.VIR_DOMAIN_SAVE_RUNNING)


def start(domain: libvirt.virDomain) -> None:
    """Boots the VM; one that runs is left alone."""
    if not domain.isActive():
        with doing(f"starting {domain.name()}"):
            domain.create()


def define(connection: libvirt.virConnect, xml: str) -> libvirt.virDomain:
    """Makes a profile known at a site, or replaces the one of the same name and UUID."""
    with doing(f"defining the VM at {connection.getURI()}"):
        return connection.defineXML(xml)


def undefine(domain: libvirt.virDomain) -> None:
    """Forgets a stopped VM's profile; its VDISKs stay."""
    with doing(f"removing the profile of {domain.name()}"):
        domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM)


def leave_behind(domain: libvirt.virDomain, *, migration: str, destination: str) -> None:
    """Marks a stopped source VM so that neither a host boot nor a hand starts it by accident."""
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with doing(f"marking {domain.name()} as migrated"):
        domain.setAutostart(0)
        xml = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
        domain.connect().defineXML(mark_migrated(xml, migration=migration, destination=destination, when=when))


def persistent_profile(domain: libvirt.virDomain) -> str:
    """The profile that the VM would start with next time."""
    with doing(f"reading the profile of {domain.name()}"):
        return str(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE))


def limited(limits: dict[str, int], rate: int) -> dict[str, int]:
    """Limits like these with at most `rate` bytes/s of writes, as `set_io_tune` takes them; none is loosened by it.

    QEMU takes no limit on writes beside one on the total: such a total is shared out, what is not for writes for reads.
    """
    total, writes = limits.get("total_bytes_sec", 0), limits.get("write_bytes_sec", 0)
    rate = min([rate, *(limit for limit in (writes, total * 9 // 10) if limit)])
    reads = total - rate if total else limits.get("read_bytes_sec", 0)
    # A burst would let through what the limit shall hold back; QEMU refuses one without a limit of its own kind.
    bursts = {f"{kind}_bytes_sec_max{length}": 0 for kind in ("total", "write") for length in ("", "_length")}
    if total:
        bursts |= {"read_bytes_sec_max": 0, "read_bytes_sec_max_length": 0}
    return limits | bursts | {"total_bytes_sec": 0, "read_bytes_sec": reads, "write_bytes_sec": rate}


def io_tune(domain: libvirt.virDomain, vdisk: str) -> dict[str, int]:
    """The limits on a VDISK now: total_bytes_sec, write_bytes_sec and the rest, 0 for none."""
    with doing(f"reading the limits of {domain.name()}/{vdisk}"):
        limits = domain.blockIoTune(vdisk, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    return {name: value for name, value in limits.items() if isinstance(value, int)}


def set_io_tune(domain: libvirt.virDomain, vdisk: str, limits: dict[str, int]) -> None:
    """Sets all limits of a running VM's VDISK."""
    with doing(f"setting the limits of {domain.name()}/{vdisk}"):
        domain.setBlockIoTune(vdisk, limits, libvirt.VIR_DOMAIN_AFFECT_LIVE)


@contextlib.contextmanager
def _on_reset(domain: libvirt.virDomain) -> Iterator[threading.Event]:
    """An event that is set when the VM's machine is reset."""
    reset = threading.Event()
    connection = domain.connect()
    handle = connection.domainEventRegisterAny(domain, libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, lambda *_: reset.set(), None)
    try:
        yield reset
    finally:
        connection.domainEventDeregisterAny(handle)
