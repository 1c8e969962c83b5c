"""Finishing: the certificate of what was proved, and nothing of ours left at either site. Also: cancelling."""

import contextlib
import json
import time
from pathlib import Path
from typing import Any

from drover import __version__
from drover.errors import DroverError, MigrationError
from drover.model.migration import Cutover, State, Unreadable
from drover.platforms.libvirt import power
from drover.platforms.libvirt.inventory import find_domain, is_running
from drover.platforms.libvirt.storage import delete_volume
from drover.replicator.arrive import is_running_at_destination, turn_back
from drover.replicator.backpressure import lift_write_limits
from drover.replicator.cutover import give_back
from drover.replicator.run import Run
from drover.replicator.throttle import remove_histograms


def finish(run: Run) -> Path:
    """Writes the certificate and removes the engines. Repeatable. Raises DroverError."""
    path = write_certificate(run)
    run.facts.certificate = str(path)
    remove_engines(run)
    run.enter(State.FINISHED)
    return path


def write_certificate(run: Run) -> Path:
    """A JSON file that says what arrived and how that was proved; bytes, seconds, times in UTC."""
    folder = run.store.folder / "certificates"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{run.migration.spec.vm}-{run.migration.id}.json"
    part = path.with_suffix(".part")
    part.write_text(json.dumps(_certificate(run), indent=2) + "\n")
    part.replace(path)
    return path


def remove_engines(run: Run) -> None:
    """Ends the engines and deletes their folders on both hosts."""
    for side in (run.source, run.destination):
        side.drop_engine()
        side.home.remove()


def cancel(run: Run) -> None:
    """Leaves the source as it was, with nothing of ours in it, and deletes the copies made at the destination.

    Raises MigrationError if the VM runs at the destination already: then its copies are the VM.
    """
    if is_running_at_destination(run) or (run.facts.cutover and run.facts.cutover.handed_over):
        raise MigrationError(
            f"{run.migration.spec.vm} has been handed over to the destination already, where it may have run",
            remedy=f"`drover resume {run.migration.id}` finishes the migration",
        )
    if run.facts.cutover and run.facts.cutover.source_off:
        if is_running(run.domain):
            give_back(run)
        else:
            turn_back(run)
    else:
        give_back(run)
    lift_write_limits(run)
    remove_histograms(run)
    run.barrier.leave()
    if is_running(run.domain) and run.facts.captured:
        run.capture().stop()
    remove_engines(run)
    with contextlib.suppress(DroverError):
        power.undefine(find_domain(run.destination.connection, run.facts.uuid))
    for vdisk in run.vdisks:
        if vdisk.path is not None:
            delete_volume(run.destination.connection, vdisk.pool, vdisk.volume)
    run.enter(State.CANCELLED)


def _certificate(run: Run) -> dict[str, Any]:
    migration, cutover = run.migration, run.facts.cutover
    assert cutover is not None
    return {
        "drover": __version__,
        "migration": migration.id,
        "vm": migration.spec.vm,
        "uuid": run.facts.uuid,
        "source": migration.spec.source,
        "destination": migration.spec.destination,
        "method": "BLAKE3 of every 512 KiB chunk, read back at both sides with the VM stopped or since unchanged; "
        "root = BLAKE3 of the chunk hashes in order",
        "vdisks": [
            {
                "name": vdisk.name,
                "size": vdisk.size,
                "source": {
                    "path": vdisk.source_path,
                    "format": vdisk.source_format,
                    "root": cutover.roots[vdisk.name][0],
                },
                "destination": {"path": vdisk.path, "format": vdisk.format, "root": cutover.roots[vdisk.name][1]},
                "zeros_for_unreadable": run.facts.unreadable.get(vdisk.name, Unreadable()).model_dump(),
            }
            for vdisk in run.vdisks
        ],
        "epochs": run.facts.epochs_done,
        "sent_bytes": run.facts.sent_bytes,
        "cutover": cutover.mode,
        "last_epoch": {"bytes": cutover.last_epoch_bytes, "seconds": cutover.last_epoch_seconds},
        "memory_bytes": cutover.memory_bytes,
        "started": _utc(migration.created_at),
        "stopping": _utc(cutover.stopping_at),
        "stopped": _utc(cutover.stopped_at),
        "verified": _utc(cutover.verified_at),
        "running_at_destination": _utc(cutover.started_at),
        "downtime_seconds": None if cutover.mode is Cutover.MANUAL else cutover.downtime,
    }


def _utc(at: float | None) -> str | None:
    return (
        None if at is None else time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at * 1000) % 1000:03d}Z"
    )
