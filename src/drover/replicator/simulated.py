"""A migration between two simulated sites: the states, the database, the barrier and the cutover's order of events are
those of a real one (`migrate.py`); what copies and starts is the simulated world.

Each run asks the world where the VM stands, as a real one does, and can be killed between any two lines.
"""

import time
from dataclasses import dataclass

from drover.errors import DroverError, GroupError, InputError, MigrationError
from drover.model.inventory import Power
from drover.model.migration import INTERRUPTED, Cutover, CutoverFacts, Facts, Migration, ReplicaVdisk, Spec, State
from drover.model.vm import Vm
from drover.platforms.simulated import World, is_simulated, parse
from drover.platforms.simulated.failures import ARRIVE, Failure, befalls
from drover.platforms.simulated.vm import BLOCKS, described
from drover.replicator.barrier import Barrier
from drover.replicator.check.report import Report
from drover.store import LiveStore, MigrationStore

_STEPS = 4
"""Pieces of the background."""
_EPOCHS = 2
_ATTEMPTS = 10
"""Cutovers in one run."""
_OUTAGE = 30.0
"""Virtual seconds."""
_LOOK = 0.05
_HEARD = 0.5
"""Seconds after which a pause is heard."""

WAITED = "the simulation waited "
"""A note in the history: for what would have been copied, in real seconds; the rest of its time is Drover's own."""


class KilledError(BaseException):
    """The process that migrates dies here, without a word."""


def check(spec: Spec, store: MigrationStore) -> tuple[Report, Vm]:
    """Whether it can be migrated. Raises InputError."""
    source, destination = parse(spec.source), parse(spec.destination)
    if source.name == destination.name:
        raise InputError(f"{spec.source} and {spec.destination} are the same site", remedy="give two sites")
    vm = find(spec.source, spec.vm, store)
    report = Report()
    vdisk = vm.vdisks[0]
    report.vdisks = [
        ReplicaVdisk(
            name=vdisk.name, size=vdisk.size, source_path=vdisk.path, source_format="raw", pool="simulated",
            volume=vm.uuid, format="raw",
        )
    ]  # fmt: skip
    report.good(vm.name, f"a simulated VM of {source.name} may go to {destination.name}")
    return report, vm


def find(uri: str, vm: str, store: MigrationStore) -> Vm:
    """The VM with this name or UUID. Raises InputError."""
    world = World(store.folder)
    try:
        one = world.find(parse(uri), vm)
    finally:
        world.close()
    if one is None:
        raise InputError(f"there is no VM {vm!r} at {uri}", remedy="`drover vms` lists them")
    return described(one.profile, running=one.state is Power.RUNNING)


def facts(spec: Spec, report: Report, store: MigrationStore) -> tuple[str, Facts]:
    """The VM's name, and what a migration of it begins with."""
    vm = find(spec.source, spec.vm, store)
    return vm.name, Facts(uuid=vm.uuid, vdisks=report.vdisks)


def migrate(store: MigrationStore, migration: Migration, since: float) -> None:
    """Takes a migration from wherever it stands to the end; whoever calls holds it. Raises as `migrate.migrate` does.

    A pause that was asked at `since` (Unix seconds) or later stops it. Raises KilledError where the simulation says so.
    """
    world = World(store.folder)
    run = _Run(store, migration, world, since)
    try:
        run.to_the_end()
    except KilledError:
        raise
    except DroverError as error:
        run.back_at_the_source(error)
        state = State.PAUSED if isinstance(error, MigrationError) else State.FAILED
        store.enter(migration, state, reason=error.message, remedy=error.remedy)
        raise
    except KeyboardInterrupt as error:
        run.back_at_the_source(error)
        store.enter(migration, State.PAUSED, reason=INTERRUPTED, remedy=f"`drover resume {migration.id}` goes on")
        raise
    finally:
        world.close()


def cancel(store: MigrationStore, migration: Migration) -> None:
    """Leaves the source as it was. Raises MigrationError if the VM has been handed over."""
    cutover = migration.facts.cutover
    if cutover is not None and cutover.handed_over:
        raise MigrationError(
            f"{migration.spec.vm} has been handed over to the destination already",
            remedy=f"`drover resume {migration.id}` finishes the migration",
        )
    world = World(store.folder)
    try:
        _Run(store, migration, world, time.time()).back_at_the_source(MigrationError("cancelled"))
        Barrier(migration, store.folder).leave()
        world.drop(migration.facts.uuid)
    finally:
        world.close()
    store.enter(migration, State.CANCELLED)


@dataclass
class _Run:
    store: MigrationStore
    migration: Migration
    world: World
    since: float

    def __post_init__(self) -> None:
        self.source, self.destination = parse(self.migration.spec.source), parse(self.migration.spec.destination)
        self.uuid, self.barrier = self.migration.facts.uuid, Barrier(self.migration, self.store.folder)
        self.live = LiveStore(self.store.folder)
        self.waited = 0.0

    def to_the_end(self) -> None:
        facts = self.migration.facts
        facts.timings.begun_at = facts.timings.begun_at or time.time()
        facts.token += 1
        self.store.save(self.migration)
        self.copied = self.world.open_replica(self.uuid, facts.token)
        for attempt in range(_ATTEMPTS):
            try:
                if facts.cutover is None or not facts.cutover.handed_over:
                    self.back_at_the_source(MigrationError("its migration was interrupted"))
                    self._replicate()
                    self._cut_over(attempt)
                self._arrive()
                break
            except (GroupError, _TurnedBackError) as error:
                if attempt == _ATTEMPTS - 1:
                    raise
                self.back_at_the_source(error)
                self.store.note(self.migration, f"{self.migration.spec.vm} runs on at the source: {error}")
        self.world.drop(self.uuid)
        self.store.note(self.migration, f"{WAITED}{self.waited:.3f} s")
        self.store.enter(self.migration, State.FINISHED)

    def back_at_the_source(self, error: BaseException) -> None:
        """The VM runs at the source, and its group hears why, unless it has been handed over."""
        cutover = self.migration.facts.cutover
        if cutover is not None and cutover.handed_over:
            return
        if cutover is not None:
            if not cutover.was_off:
                self.world.power(self.source, self.uuid, on=True)
            self.migration.facts.cutover = None
            self.store.save(self.migration)
            self.barrier.failed(error)
        else:
            self.barrier.begin()

    def _replicate(self) -> None:
        self.store.enter(self.migration, State.PREPARING)
        captured = self.world.capture(self.source, self.uuid)
        facts = self.migration.facts
        facts.captured = True
        self.store.enter(self.migration, State.REPLICATING)
        pending = [block for block in range(BLOCKS) if block not in self.copied]
        for step in range(_STEPS):
            some = pending[step::_STEPS]
            if some:
                self._wait(self.source.seconds / _STEPS)
                self._send(set(some), f"background {step}")
        for number in range(_EPOCHS):
            captured = self._epoch(captured, f"epoch {number}")
        self._gate(captured)

    def _epoch(self, after: int, step: str) -> int:
        """Sends what was written after a write; the newest write that is at the destination then."""
        one = self.world.vm(self.source, self.uuid)
        assert one is not None
        sealed = self.world.written(self.source, self.uuid)
        dirty = one.profile.dirty(after, sealed)
        self._wait(self.source.seconds * len(dirty) / BLOCKS / 10)
        self._send(dirty, step)
        self.world.release(self.uuid, sealed)
        facts = self.migration.facts
        facts.epoch, facts.epochs_done = facts.epoch + 1, facts.epochs_done + 1
        return sealed

    def _send(self, blocks: set[int], step: str) -> None:
        """Reads blocks at the source, as they are now, and stores them at the destination."""
        failure = befalls(self.source, self.uuid, self.migration.facts.token, step)
        if failure is Failure.DEATH:
            raise KilledError(step)
        if failure is Failure.LINK:
            self.store.note(self.migration, f"the simulated link was gone for {_OUTAGE:.0f} s")
            self._wait(_OUTAGE)
        if failure is Failure.DAMAGE:
            self.store.note(self.migration, "a block arrived damaged and was sent again")
        one = self.world.vm(self.source, self.uuid)
        assert one is not None
        content = one.profile.content(self.world.written(self.source, self.uuid))
        sent = {block: content[block] for block in blocks}
        self.world.store(self.uuid, self.migration.facts.token, sent)
        self.copied |= sent
        self.migration.facts.sent_bytes += len(sent) * one.profile.size // BLOCKS

    def _gate(self, captured: int) -> None:
        self.store.enter(self.migration, State.READY)
        while (self.barrier.waits_for(True)) is not None:
            self._listen()
            captured = self._epoch(captured, "waiting")
            time.sleep(_LOOK)

    def _cut_over(self, attempt: int) -> None:
        facts = self.migration.facts
        one = self.world.vm(self.source, self.uuid)
        assert one is not None
        facts.cutover = CutoverFacts(
            mode=Cutover.RESUME,
            attempt=self.barrier.attempt,
            was_off=one.state is Power.OFF,
            stopping_at=time.time(),
        )
        self.store.save(self.migration)
        self.store.enter(self.migration, State.CUTTING_OVER)
        written = self.world.power(self.source, self.uuid, on=False)
        facts.cutover.stopped_at = time.time()
        self._epoch(self.world.capture(self.source, self.uuid), "last epoch")
        self.store.enter(self.migration, State.VERIFYING)
        differ = [b for b, newest in enumerate(one.profile.content(written)) if self.copied.get(b, 0) != newest]
        if differ:
            raise MigrationError(f"blocks {differ} of {self.migration.spec.vm} differ at the destination")
        facts.cutover.verified_at = time.time()
        self.barrier.stands_still()
        facts.cutover.source_off = True
        self.store.save(self.migration)
        self.store.enter(self.migration, State.STARTING)
        if befalls(self.source, self.uuid, facts.token, f"{ARRIVE} {attempt}") is Failure.START:
            raise _TurnedBackError("the simulated destination did not take the VM")
        self.barrier.can_start()
        facts.cutover.handed_over = True
        self.store.save(self.migration)

    def _arrive(self) -> None:
        cutover = self.migration.facts.cutover
        assert cutover is not None
        if self.migration.state is not State.STARTING:
            self.store.enter(self.migration, State.PREPARING)
            self.store.enter(self.migration, State.STARTING)
        self.barrier.wait_for_turn()
        token, starts = self.migration.facts.token, not cutover.was_off
        self.world.arrive(self.source, self.destination, self.uuid, token, starts=starts)
        cutover.started_at = cutover.started_at or time.time()
        self.store.save(self.migration)
        self.barrier.runs()

    def _wait(self, virtual: float) -> None:
        self.waited += virtual / self.source.speed
        until = time.monotonic() + virtual / self.source.speed
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _HEARD))
            self._listen()

    def _listen(self) -> None:
        if self.live.is_to_pause(self.migration.id, since=self.since):
            raise KeyboardInterrupt


class _TurnedBackError(MigrationError):
    """The VM runs at the source again, and this run tries once more."""


def is_between(source: str, destination: str) -> bool:
    """Whether both sites are simulated. Raises InputError if one alone is."""
    one, other = is_simulated(source), is_simulated(destination)
    if one != other:
        raise InputError(
            f"a simulated site is at one end only: {source}, {destination}", remedy="give two simulated sites"
        )
    return one
