"""Preparing: volumes at the destination, engines on both hosts, the VDISKs told to both. Each step can be repeated."""

from drover.errors import MigrationError
from drover.model.migration import State
from drover.platforms.libvirt.inventory import is_running
from drover.platforms.libvirt.storage import create_volume, volume_path
from drover.replicator.run import Run
from drover.replicator.side import MEMORY


def prepare(run: Run) -> bool:
    """Readies everything for replication; true if the VM runs, and its writes are captured from now on.

    Bitmaps come before the first read of background replication, so that no write can fall between.
    Raises DroverError; the source VM is not touched but for the bitmaps.
    """
    run.enter(State.PREPARING)
    create_volumes(run)
    run.connect_engines()
    _drop_strangers(run)
    run.put_destination()
    running = is_running(run.domain)
    if running:
        start_capture(run)
        run.put_source(run.live_endpoints(run.capture()))
    else:
        if run.facts.captured:
            run.say(f"{run.migration.spec.vm} is shut off at the source: comparing hashes instead of bitmaps")
            run.facts.compare = True
        run.put_source(run.stopped_endpoints())
    run.save()
    for engine in (run.destination.engine, run.source.engine):
        for name, vdisk in engine.status().vdisks.items():
            if vdisk.state == "held":
                engine.retry(name)
    run.wait_for_link(30)
    return running


def _drop_strangers(run: Run) -> None:
    """Memory images of a cutover that was taken back are no part of what is replicated now."""
    for side in (run.source, run.destination):
        for name in set(side.engine.status().vdisks) - set(run.vdisk_names):
            side.engine.remove_vdisk(name)
    run.destination.host.run("rm", "-f", run.destination.home.file(MEMORY))


def create_volumes(run: Run) -> None:
    """Makes the destination VDISKs that do not exist yet."""
    connection = run.destination.connection
    for vdisk in run.vdisks:
        found = volume_path(connection, vdisk.pool, vdisk.volume)
        if found is None:
            if vdisk.path is not None:
                raise MigrationError(
                    f"the destination VDISK {vdisk.path} has vanished from the pool {vdisk.pool}",
                    remedy=f"bring it back, or `drover cancel {run.migration.id}` and migrate anew",
                )
            found = create_volume(connection, vdisk.pool, vdisk.volume, size=vdisk.size, format=vdisk.format)
        if vdisk.path is None:
            vdisk.path = found
            run.save()


def start_capture(run: Run) -> None:
    """Starts the bitmaps, or takes up those of an earlier run; if they are gone, hashes must be compared."""
    capture, facts = run.capture(), run.facts
    recording = capture.recording() if facts.captured else None
    if recording is not None:
        facts.epoch = recording
        if capture.recover(recording):
            run.save()
            return
    if facts.captured:
        run.say(
            "the bitmaps are gone (the VM was power-cycled): comparing hashes of both sides instead of starting over"
        )
        facts.compare = True
    capture.stop()
    facts.epoch += 1
    capture.start(facts.epoch)
    facts.captured = True
    run.save()
