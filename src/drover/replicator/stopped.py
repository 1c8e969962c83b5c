"""A VM without a hypervisor process: its VDISKs stand still; they are copied, or compared, and nothing is captured."""

import time

from drover.errors import MigrationError
from drover.model.migration import Cutover, CutoverFacts, State
from drover.platforms.libvirt import power
from drover.platforms.libvirt.inventory import is_running
from drover.replicator.cutover import verify_stopped
from drover.replicator.epochs import Epochs
from drover.replicator.progress import Reporter
from drover.replicator.replicate import TICK, raise_if_held
from drover.replicator.run import Run
from drover.replicator.transport import Transport
from drover.replicator.window import CutoverWindow


def replicate_stopped(run: Run) -> None:
    """Makes the destination VDISKs equal to those of a VM that is shut off. It will be shut off there too.

    Raises MigrationError, also if somebody starts the VM meanwhile: what it writes then is not captured.
    """
    run.enter(State.REPLICATING)
    transport = Transport(run)
    transport.begin()
    reporter = Reporter(run, Epochs(run))
    window = CutoverWindow(run.migration, run.store.folder)
    while True:
        status = run.source.engine.status()
        raise_if_held(run, status, run.vdisk_names)
        run.follow_the_clock()
        reporter.outlook(status)
        copied = all(vdisk.background.state == "done" for vdisk in status.vdisks.values())
        waiting = run.barrier.waits_for(copied, window.waits_for(0.0))
        reporter.report(status, None, holding=transport.look(status) or (waiting if copied else None))
        if copied and waiting is None:
            break
        _refuse_if_started(run)
        time.sleep(TICK)
    now = time.time()
    run.facts.cutover = CutoverFacts(
        mode=Cutover.MANUAL, attempt=run.barrier.attempt, was_off=True, stopping_at=now, stopped_at=now
    )
    run.enter(State.CUTTING_OVER)
    verify_stopped(run)
    run.barrier.stands_still()
    _refuse_if_started(run)
    run.facts.compare = False
    run.facts.cutover.source_off = True
    run.save()
    power.leave_behind(run.domain, migration=run.migration.id, destination=run.destination.uri)


def _refuse_if_started(run: Run) -> None:
    if is_running(run.domain):
        run.facts.compare = True
        run.facts.cutover = None
        run.save()
        raise MigrationError(
            f"{run.migration.spec.vm} was started at the source while it was copied",
            remedy=f"`drover resume {run.migration.id}` goes on with the running VM by comparing hashes",
        )
