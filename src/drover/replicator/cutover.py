"""Cutover at the source: stop the VM, last epoch, verify, hand its memory over.

Before `source_off` every step back is free.
"""

import time
from collections.abc import Callable, Sequence

from drover.engine.client import GONE, file
from drover.engine.status import EngineStatus, VdiskStatus
from drover.errors import EngineError, MigrationError, PlatformError
from drover.model.migration import Cutover, CutoverFacts, State
from drover.platforms.libvirt import power
from drover.replicator.epochs import Epochs
from drover.replicator.replicate import note_unreadable, raise_if_held
from drover.replicator.run import Run
from drover.replicator.side import MEMORY

_PATIENCE = 3.0
"""A step of the cutover may take this many times the maximum downtime before the VM is given back to its users."""
_LINK_PATIENCE = 5.0
"""Seconds that the link may be down while the VM stands still."""
_REPAIRS = 3


def cut_over(run: Run, epochs: Epochs, mode: Cutover) -> None:
    """Stops the VM and makes the destination VDISKs equal to the source's, proved by hashes of both sides.

    Returns when the other VMs of its group are so far as well. Raises DroverError; then the VM has to be given back
    with `give_back`.
    """
    facts = run.facts
    facts.cutover = CutoverFacts(mode=mode, attempt=run.barrier.attempt, stopping_at=time.time())
    run.enter(State.CUTTING_OVER, f"cutting over ({mode})")
    process = run.process
    run.guard.arm(resume=True)
    if mode is Cutover.RESUME:
        power.suspend(run.domain)
        facts.cutover.stopped_at = time.time()
    else:
        facts.cutover.stopped_at = power.shut_down_and_hold(run.domain, timeout=run.migration.spec.shutdown_timeout)
    if run.process != process:
        raise PlatformError(f"{run.migration.spec.vm} got another hypervisor process while it was stopped")
    run.save()
    sent = run.source.engine.status().link.sent_bytes
    _last_epoch(run, epochs)
    verify_stopped(run)
    status = run.source.engine.status()
    run.tally.sent(vdisk.sent for vdisk in status.vdisks.values())
    facts.sent_bytes += status.link.sent_bytes - sent
    run.save()
    run.barrier.stands_still()


def verify_stopped(run: Run) -> None:
    """Compares the hashes of all chunks that are not verified yet; those that differ are sent and compared again.

    Raises MigrationError if both sides cannot be made equal.
    """
    cutover = run.facts.cutover
    assert cutover is not None
    run.enter(State.VERIFYING)
    for attempt in range(_REPAIRS):
        for vdisk in run.vdisk_names:
            run.source.engine.verify(vdisk, "remaining")
        status = _wait(run, lambda status: all(_compared(s) for s in _of(run, status)), "verification")
        differing = sum(vdisk.verify.differing_chunks for vdisk in _of(run, status))
        roots = {name: status.vdisks[name].root for name in run.vdisk_names}
        if not differing and all(root is not None and root.source == root.destination for root in roots.values()):
            cutover.roots = {name: (root.source, root.destination) for name, root in roots.items() if root}
            note_unreadable(run, status)
            cutover.verified_at = time.time()
            run.save()
            return
        if differing:
            run.say(f"verification found {differing} chunks that differ and sends them again (try {attempt + 1})")
        _wait(run, lambda status: all(s.background.left_bytes == 0 for s in _of(run, status)), "repair")
    raise MigrationError(
        "source and destination still differ after three repairs",
        remedy="one of the storages is not reliable: check its logs; the VM goes on at the source",
    )


def leave_source(run: Run) -> None:
    """Ends the source VM for good: its memory saved if it resumes elsewhere, its profile marked. Repeatable.

    From here the way leads forward, or back by a start at the source.
    """
    cutover = run.facts.cutover
    assert cutover is not None and cutover.verified_at is not None
    run.guard.disarm()
    cutover.source_off = True
    run.save()
    if cutover.mode is Cutover.RESUME and run.domain.isActive():
        power.save(run.domain, run.source.home.file(MEMORY))
    power.destroy(run.domain)
    power.leave_behind(run.domain, migration=run.migration.id, destination=run.destination.uri)
    cutover.left_at = cutover.left_at or time.time()
    run.save()


def move_memory(run: Run) -> None:
    """Brings the memory image to the destination's host, verified like a VDISK."""
    cutover = run.facts.cutover
    assert cutover is not None
    if cutover.memory_moved:
        return
    path = run.source.home.file(MEMORY)
    size = int(run.source.host.run("stat", "-c", "%s", path).stdout)
    there = run.destination.home.file(MEMORY)
    sent = run.source.engine.status().link.sent_bytes
    run.destination.engine.put_vdisk(MEMORY, size=size, endpoint=file(there, create=True))
    run.source.engine.put_vdisk(MEMORY, size=size, endpoint=file(path))
    run.source.engine.background(MEMORY, "copy")
    _wait(run, lambda status: status.vdisks[MEMORY].background.state == "done", "the memory image", [MEMORY])
    run.source.engine.verify(MEMORY, "all")
    status = _wait(run, lambda status: _compared(status.vdisks[MEMORY]), "the memory image", [MEMORY])
    root = status.vdisks[MEMORY].root
    if root is None or root.source != root.destination:
        raise MigrationError(
            "the memory image arrived damaged", remedy=f"`drover resume {run.migration.id}` sends it again"
        )
    cutover.memory_bytes, cutover.memory_moved, cutover.memory_moved_at = size, True, time.time()
    cutover.memory_wire_bytes = status.link.sent_bytes - sent
    run.facts.sent_bytes += cutover.memory_wire_bytes
    run.save()


def give_back(run: Run) -> None:
    """The way back before `source_off`: the VM runs on at the source, and the unfinished last epoch is merged back."""
    if run.facts.cutover is None:
        return
    if run.domain.isActive():
        power.resume(run.domain)
    run.guard.disarm()
    run.facts.cutover = None
    run.save()


def _last_epoch(run: Run, epochs: Epochs) -> None:
    cutover = run.facts.cutover
    assert cutover is not None
    begun = time.monotonic()
    if epochs.open is not None:
        _wait(run, epochs.settle, "the epoch before the last")
    epochs.seal()
    _wait(run, epochs.settle, "the last epoch")
    cutover.last_epoch_bytes, cutover.last_epoch_seconds = epochs.size, time.monotonic() - begun
    run.save()


def _compared(vdisk: VdiskStatus) -> bool:
    """Whether a verification ended: with roots of both sides, with chunks that differ, or with some to compare anew."""
    some_left = vdisk.verify.differing_chunks > 0 or vdisk.verify.verified_bytes < vdisk.size
    return vdisk.verify.state == "done" and (vdisk.root is not None or some_left)


def _of(run: Run, status: EngineStatus) -> list[VdiskStatus]:
    return [status.vdisks[name] for name in run.vdisk_names]


def _wait(
    run: Run, done: Callable[[EngineStatus], bool], what: str, names: Sequence[str] | None = None
) -> EngineStatus:
    """The source engine's status once it is `done`; `names` are the VDISKs that it is about, by default the VM's."""
    names = run.vdisk_names if names is None else names
    begun = time.monotonic()
    deadline = begun + max(60.0, _PATIENCE * run.migration.spec.max_downtime)
    up_at = begun
    pause = 0.005
    while True:
        status = run.source.engine.status()
        raise_if_held(run, status, names)
        if done(status):
            return status
        if status.link.state == "up":
            up_at = time.monotonic()
        elif time.monotonic() - up_at > _LINK_PATIENCE:
            raise EngineError(f"the link went down during {what}: {status.link.reason or 'no answer'}", code=GONE)
        if time.monotonic() > deadline:
            raise MigrationError(
                f"{what} of {run.migration.spec.vm} took too long; the link is {status.link.state}",
                remedy=f"the VM goes on at the source; `drover resume {run.migration.id}` tries again",
            )
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
