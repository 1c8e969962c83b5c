"""The destination's part of a cutover: fence the engines, define the VM, start it; or take everything back."""

import contextlib
import time

import libvirt

from drover.engine.volume import close_volume
from drover.errors import DroverError, InputError, MigrationError, PlatformError
from drover.model.migration import Cutover
from drover.model.profile import Autostart
from drover.platforms.libvirt import power
from drover.platforms.libvirt.connection import doing
from drover.platforms.libvirt.inventory import find_domain, is_running
from drover.platforms.libvirt.profile import NewDisk, translate
from drover.platforms.libvirt.storage import find_pool
from drover.replicator.run import Run
from drover.replicator.side import MEMORY


def get_ready(run: Run) -> libvirt.virDomain:
    """Hands the VDISKs over to the destination's hypervisor and defines the VM there. Repeatable."""
    release_vdisks(run)
    return power.define(run.destination.connection, destination_profile(run, run.facts.domain_xml))


def arrive(run: Run, domain: libvirt.virDomain) -> None:
    """Starts the VM at the destination.

    Raises MigrationError if it does not start; then it has been started at the source again.
    """
    cutover = run.facts.cutover
    assert cutover is not None and cutover.source_off
    try:
        if cutover.mode is Cutover.RESUME:
            path = run.destination.home.file(MEMORY)
            saved = power.saved_profile(run.destination.connection, path)
            power.restore(run.destination.connection, path, destination_profile(run, saved))
        elif cutover.mode is Cutover.RESTART:
            power.start(domain)
    except PlatformError as error:
        if is_running_at_destination(run):
            return
        turn_back(run)
        raise MigrationError(
            f"{run.migration.spec.vm} did not start at the destination and runs at the source again: {error.message}",
            remedy=f"cure that, then `drover resume {run.migration.id}`",
        ) from error
    if cutover.mode is not Cutover.MANUAL:
        cutover.started_at = time.time()
    wanted = run.migration.spec.profile.autostart or Autostart.KEEP
    with doing(f"setting the autostart of {domain.name()}"):
        domain.setAutostart(int(run.facts.autostart if wanted is Autostart.KEEP else wanted is Autostart.ON))
    run.save()


def is_running_at_destination(run: Run) -> bool:
    """Whether the VM has a hypervisor process at the destination. Raises PlatformError if that cannot be told."""
    with doing(f"looking for {run.migration.spec.vm} at the destination"), contextlib.suppress(InputError):
        return is_running(find_domain(run.destination.connection, run.facts.uuid))
    return False


def release_vdisks(run: Run) -> None:
    """After this no engine, and no server of ours, writes to the destination VDISKs."""
    run.destination.engine.fence(run.facts.token)
    close_vdisks(run)


def close_vdisks(run: Run) -> None:
    """The destination's engine lets go of the VM's VDISKs, and our servers of them end with everything on the disk.

    Repeatable; also at the same time as the source VM is stopped for good, since both wait for disks.
    """
    for name in set(run.destination.engine.status().vdisks) & set(run.vdisk_names):
        run.destination.engine.remove_vdisk(name)
    for vdisk in run.vdisks:
        close_volume(run.destination.home, vdisk.name)


def destination_profile(run: Run, xml: str) -> str:
    """A profile of the VM, translated for the destination."""
    disks = {}
    for vdisk in run.vdisks:
        assert vdisk.path is not None
        block = not find_pool(run.destination.connection, vdisk.pool).holds_files
        disks[vdisk.name] = NewDisk(path=vdisk.path, format=vdisk.format, block=block)
    spec = run.migration.spec
    return translate(
        xml, disks=disks, networks=spec.networks, emulator=None, changes=spec.profile, seed=run.migration.id
    )


def turn_back(run: Run) -> None:
    """The way back after `source_off`, as long as the VM never ran at the destination: it runs at the source again.

    A VM that had been shut off before stays so. Raises PlatformError if the source does not start it.
    """
    cutover = run.facts.cutover
    assert cutover is not None
    with contextlib.suppress(DroverError):
        stale = find_domain(run.destination.connection, run.facts.uuid)
        power.undefine(stale)
    domain = power.define(run.source.connection, run.facts.domain_xml)
    with doing(f"setting the autostart of {domain.name()}"):
        domain.setAutostart(1 if run.facts.autostart else 0)
    if not domain.isActive() and not cutover.was_off:
        if cutover.mode is Cutover.RESUME:
            power.restore(run.source.connection, run.source.home.file(MEMORY), None)
        else:
            power.start(domain)
    run.facts.cutover = None
    run.save()
