"""The way of a migration from planned to finished. Each run asks the world where it stands and goes on from there."""

import time
from concurrent.futures import ThreadPoolExecutor

from drover.errors import DroverError, EngineError, GroupError, HoldError, InputError, MigrationError
from drover.estimator.answer import Estimator
from drover.model.device import Use
from drover.model.migration import INTERRUPTED, Cutover, CutoverFacts, Facts, Migration, Spec, State
from drover.platforms.libvirt import power
from drover.platforms.libvirt.connection import open_uri
from drover.platforms.libvirt.inventory import find_domain, is_running
from drover.replicator import simulated
from drover.replicator.arrive import arrive, close_vdisks, get_ready, is_running_at_destination, turn_back
from drover.replicator.backpressure import lift_write_limits
from drover.replicator.check import Report
from drover.replicator.cutover import cut_over, give_back, leave_source, move_memory
from drover.replicator.epochs import is_gone
from drover.replicator.finish import finish
from drover.replicator.prepare import prepare
from drover.replicator.replicate import Outcome, Replication
from drover.replicator.run import Run
from drover.replicator.stopped import replicate_stopped
from drover.replicator.throttle import remove_histograms
from drover.replicator.undisturbed import undisturbed
from drover.store import DeviceStore, MigrationStore

_ATTEMPTS = 10
"""Cutovers and power cycles in one run before the administrator is asked."""
_MEMORY_PATIENCE = 20.0
"""Seconds that a VM whose memory is saved waits for the link before it goes on at the source."""


def plan(store: MigrationStore, spec: Spec, report: Report, *, run: str | None = None) -> Migration:
    """Records a migration whose checks passed, `run` being the server's. Raises CheckError if they did not."""
    report.require()
    if simulated.is_between(spec.source, spec.destination):
        name, facts = simulated.facts(spec, report, store)
        return store.add(spec.model_copy(update={"vm": name}), facts.model_copy(update={"run": run}))
    connection = open_uri(spec.source)
    domain = find_domain(connection, spec.vm)
    facts = Facts(
        uuid=domain.UUIDString(),
        run=run,
        vdisks=report.vdisks,
        domain_xml=power.persistent_profile(domain),
        autostart=bool(domain.autostart()),
        device_paths=report.devices,
    )
    connection.close()
    migration = store.add(spec.model_copy(update={"vm": domain.name(), "devices": list(report.devices)}), facts)
    DeviceStore(store.folder).use(report.devices, migration.id, Use.PLANNED)
    return migration


def migrate(run: Run) -> None:
    """Takes a migration from wherever it stands to the end.

    Raises DroverError; the migration is then `paused` or `failed` with the reason, and the VM runs on at the source
    unless the message says otherwise.
    """
    if run.migration.state.ended:
        raise InputError(
            f"migration {run.migration.id} is {run.migration.state}", remedy="there is nothing to go on with"
        )
    if run.facts.timings.begun_at is None:
        run.facts.timings.begun_at = time.time()
        run.save()
        Estimator(run.store.folder).remember(run.migration)
    try:
        _to_the_end(run)
    except HoldError as error:
        _stop(run, State.PAUSED, error)
        raise
    except DroverError as error:
        _stop(run, State.PAUSED if isinstance(error, MigrationError) else State.FAILED, error)
        raise
    except KeyboardInterrupt as interrupt:
        with undisturbed():
            _back_at_the_source(run, interrupt)
            _stop(run, State.PAUSED, MigrationError(INTERRUPTED, remedy=f"`drover resume {run.migration.id}` goes on"))
        raise


def _to_the_end(run: Run) -> None:
    for attempt in range(_ATTEMPTS):
        cutover = run.facts.cutover
        if cutover is None or not _is_past_return(run, cutover):
            give_back(run)
            run.barrier.begin()
            lift_write_limits(run)
            remove_histograms(run)
            _replicate_and_stop(run)
        else:
            leave_source(run)
        try:
            _forward(run)
            break
        except GroupError as error:
            if attempt == _ATTEMPTS - 1:
                raise
            run.say(f"{run.migration.spec.vm} runs on at the source: {error}")
    finish(run)


def _is_past_return(run: Run, cutover: CutoverFacts) -> bool:
    """Whether an earlier run stopped the source VM for good; if it only meant to, the VM still has its process."""
    return cutover.source_off and (cutover.started_at is not None or not is_running(run.domain))


def _replicate_and_stop(run: Run) -> None:
    """Until both sides are equal and the source VM is off."""
    for attempt in range(_ATTEMPTS):
        try:
            if _stopped_and_equal(run):
                return
        except BaseException as error:
            begun = run.facts.cutover is not None
            with undisturbed():
                _back_at_the_source(run, error)
            if not begun or not _worth_another_try(error) or attempt == _ATTEMPTS - 1:
                raise
            run.say(f"the cutover was taken back, {run.migration.spec.vm} runs on at the source: {error}")
    raise MigrationError(
        f"{run.migration.spec.vm} is switched off and on again and again", remedy="try when it is quiet"
    )


def _stopped_and_equal(run: Run) -> bool:
    """False if the VM was switched off before its cutover began."""
    if not prepare(run):
        replicate_stopped(run)
        return True
    replication = Replication(run)
    try:
        outcome, mode = replication.until_gate_opens()
    finally:
        replication.free()
    if outcome is Outcome.VM_OFF:
        return False
    cut_over(run, replication.epochs, mode)
    _hand_over(run)
    return True


def _worth_another_try(error: BaseException) -> bool:
    return isinstance(error, GroupError) or (isinstance(error, EngineError) and is_gone(error))


def _hand_over(run: Run) -> None:
    """Stops the source VM for good while the destination's VDISKs are closed: both wait for disks."""
    with ThreadPoolExecutor(max_workers=1) as aside:
        closing = aside.submit(close_vdisks, run)
        leave_source(run)
    # What went wrong there is tried again, and told, when the VM arrives.
    if (error := closing.exception()) is not None:
        run.say(f"closing the destination's VDISKs takes another try: {error}")


def _back_at_the_source(run: Run, error: BaseException) -> None:
    """The VM runs at the source again, and its group hears why, unless it has been handed over to the destination."""
    cutover = run.facts.cutover
    if cutover is not None and cutover.handed_over:
        return
    try:
        if cutover is not None and _is_past_return(run, cutover):
            turn_back(run)
        else:
            give_back(run)
    finally:
        run.barrier.failed(error)


def _forward(run: Run) -> None:
    """From a stopped, verified source to a VM at the destination."""
    cutover = run.facts.cutover
    assert cutover is not None and cutover.verified_at is not None
    if is_running_at_destination(run):
        cutover.handed_over, cutover.started_at = True, cutover.started_at or time.time()
        run.save()
        run.barrier.runs()
        return
    run.enter(State.STARTING)
    try:
        if cutover.mode is Cutover.RESUME and not cutover.memory_moved:
            _move_memory(run)
        domain = get_ready(run)
        run.barrier.can_start()
    except DroverError as error:
        with undisturbed():
            _back_at_the_source(run, error)
        if isinstance(error, GroupError) or run.facts.cutover is not None:
            raise
        raise MigrationError(
            f"{run.migration.spec.vm} could not leave for the destination and runs on at the source: {error.message}",
            remedy=f"`drover resume {run.migration.id}` tries again",
        ) from error
    if late := run.barrier.wait_for_turn():
        run.say(f"{run.migration.spec.vm} starts though {late} of its group, which come first, do not run")
    cutover.handed_over = True
    run.save()
    try:
        arrive(run, domain)
    except DroverError as error:
        run.barrier.failed(error)
        raise
    run.barrier.runs()


def _move_memory(run: Run) -> None:
    """Starts engines again that died meanwhile, once."""
    try:
        run.destination.engine.info()
        run.wait_for_link(_MEMORY_PATIENCE)
        move_memory(run)
    except EngineError as error:
        if not is_gone(error):
            raise
        run.connect_engines()
        run.wait_for_link(_MEMORY_PATIENCE)
        move_memory(run)


def _stop(run: Run, state: State, error: DroverError) -> None:
    run.enter(state, reason=error.message, remedy=error.remedy)
