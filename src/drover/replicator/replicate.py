"""Background and foreground replication until the cutover gate opens: one loop that asks the world twice a second."""

import time
from collections.abc import Iterable
from dataclasses import replace
from enum import Enum, auto

from drover.engine.status import EngineStatus
from drover.errors import EngineError, HoldError, MigrationError, PlatformError
from drover.model.migration import Cutover, OnReadError, State, Timings, Unreadable
from drover.model.units import format_duration, format_size
from drover.platforms.libvirt.inventory import is_running
from drover.replicator import gate
from drover.replicator.backpressure import Backpressure
from drover.replicator.epochs import Epochs, is_gone
from drover.replicator.prepare import prepare
from drover.replicator.progress import Reporter
from drover.replicator.run import Run
from drover.replicator.throttle import Throttle
from drover.replicator.transport import Transport
from drover.replicator.window import CutoverWindow, Outside

TICK = 0.5
"""Seconds between two looks at the world."""
_EPOCH_WHILE_COPYING = 10.0
"""Seconds between epochs while the background runs: writes to chunks not yet copied then cost nothing."""
_EPOCH_WHEN_COPIED = 1.0
_PILE = 64 << 20
"""Bytes whose hashes may wait for the cutover, or a twentieth of a VDISK if that is more."""
_RESTARTS = 20
"""Engines started again in one run before the administrator is asked."""


class Outcome(Enum):
    """Why replication ended."""

    GATE_OPEN = auto()
    VM_OFF = auto()


class Replication:
    """Replicates one migration. The VM may be power-cycled, engines may die, the link may be cut meanwhile."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.epochs = Epochs(run)
        self.reporter = Reporter(run, self.epochs)
        self.backpressure = Backpressure(run)
        self.throttle = Throttle(run)
        self.transport = Transport(run)
        self.window = CutoverWindow(run.migration, run.store.folder)
        self._started = time.monotonic()
        self._process = 0
        self._restarts = 0
        self._verifying = False
        self._verified_once = False
        self._explained = ""
        self._outside = Outside()
        self._told_what_is_left = run.facts.token <= 1

    def until_gate_opens(self) -> tuple[Outcome, Cutover]:
        """Raises HoldError after the target time, MigrationError for what needs a hand; the VM runs on in each case."""
        self._begin()
        while True:
            try:
                mode = self._turn()
            except EngineError as error:
                if not is_gone(error):
                    raise
                self._restart_engines(error)
                continue
            except (PlatformError, MigrationError):
                if not self._lost_process():
                    raise
                if not is_running(self.run.domain):
                    return Outcome.VM_OFF, Cutover.RESTART
                self._resume_after_power_cycle()
                continue
            if mode is not None:
                return Outcome.GATE_OPEN, mode
            time.sleep(TICK)

    def _begin(self) -> None:
        run = self.run
        run.enter(State.REPLICATING)
        self._process = run.process
        self._verified_once = self._verifying = False
        run.facts.timings = Timings(replicating_at=time.time(), memory=run.domain.maxMemory() * 1024)
        self.throttle.begin()
        self.transport.begin()

    def _turn(self) -> Cutover | None:
        """One look at the world and what follows from it; the cutover to do now, if the gate is open."""
        run = self.run
        if run.process != self._process:
            raise PlatformError(f"{run.migration.spec.vm} has another hypervisor process than before, or none")
        status = run.source.engine.status()
        if status.link.state != "up":
            run.destination.engine.info()
        raise_if_held(run, status, run.vdisk_names)
        self._tell_what_is_left(status)
        note_unreadable(run, status)
        if changed := run.follow_the_clock():
            self.epochs.capacity.limited(*changed)
        settled = self.epochs.settle(status)
        copied = all(vdisk.background.state == "done" for vdisk in status.vdisks.values())
        if copied and run.facts.compare:
            run.facts.compare = False
            run.save()
        outlook = self.reporter.outlook(status)
        mode, predicted = gate.choose(run.migration.spec.way, outlook, run.migration.spec.max_downtime)
        opened = settled and copied and self._warm_verified(status) and status.link.state == "up"
        opened = opened and bool(self.epochs.sizes)
        self._note_timings(status, copied=copied)
        self.throttle.look(status, copied=copied, writes_slowed=self.backpressure.limit is not None)
        holding = self.transport.look(status)
        if opened:
            run.enter(State.READY)
        fits = predicted <= run.migration.spec.max_downtime if opened else None
        window = self.window.waits_for(predicted)
        waiting = run.barrier.waits_for(fits, window)
        if fits and waiting is None:
            return mode
        if self._outside.look(window, ready=fits):
            run.say(str(window))
        if fits or (fits is None and self._outside.ready):
            holding = waiting or holding
        elif opened:
            holding = self._hold(predicted, outlook, mode, window)
        if status.link.state == "up" and not self.transport.by_road:
            # Nobody is slowed for a cutover that may not be now.
            asked = self._verified_once and window is None
            room = gate.room(predicted, run.migration.spec.max_downtime, outlook) if asked else None
            self._forecast(status, outlook, copied=copied, room=room)
        self.reporter.report(
            status,
            predicted,
            expected=self.reporter.expect(status, outlook, by_road=self.transport.by_road),
            holding=holding,
            latency=self.throttle.progress,
            slowed=self.backpressure.cost(self.reporter.writes),
            prediction=self.backpressure.prediction,
            held_back=self.throttle.held is not None and not copied,
        )
        self._maybe_seal(copied, status)
        return None

    def _tell_what_is_left(self, status: EngineStatus) -> None:
        """Once, when this goes on with an earlier run's work: how much of it need not be sent again."""
        parts = [vdisk.background for vdisk in status.vdisks.values()]
        if self._told_what_is_left or not all(part.total_bytes for part in parts):
            return
        self._told_what_is_left = True
        total, left = sum(part.total_bytes for part in parts), sum(part.left_bytes for part in parts)
        todo = "to compare" if self.run.facts.compare else "to send"
        held = format_size(total - left)
        self.run.say(
            f"{held} of {format_size(total)} are stable at the destination; {format_size(left)} are left {todo}"
        )

    def _note_timings(self, status: EngineStatus, *, copied: bool) -> None:
        """For later forecasts; a new engine begins them anew."""
        timings = self.run.facts.timings
        if not copied and (limit := self.reporter.limit(status)):
            timings.looks += 1
            timings.unhindered_looks += limit in ("source", "destination", "processor")
        if copied and timings.copied_at is None:
            timings.copied_at = time.time()
            timings.content_bytes = sum(vdisk.sent.raw_bytes for vdisk in status.vdisks.values())
            timings.wire_bytes = status.link.sent_bytes
        if self._verified_once and timings.compared_at is None:
            timings.compared_at = time.time()

    def _maybe_seal(self, copied: bool, status: EngineStatus) -> None:
        busy = any(vdisk.epoch and vdisk.epoch.state in ("reading", "sending") for vdisk in status.vdisks.values())
        if self.epochs.open is not None or busy or status.link.state != "up":
            return
        interval = _EPOCH_WHEN_COPIED if copied else _EPOCH_WHILE_COPYING
        if time.monotonic() - self.epochs.sealed_at >= interval:
            self.epochs.seal()

    def _warm_verified(self, status: EngineStatus) -> bool:
        """Compares hashes of everything once while the VM runs, so that the cutover needs to compare little."""
        states = {vdisk.verify.state for vdisk in status.vdisks.values()}
        if self._verified_once:
            self._verify_what_piled_up(status, idle="running" not in states)
            return True
        if not self._verifying:
            for vdisk in self.run.vdisk_names:
                self.run.source.engine.verify(vdisk, "remaining")
            self._verifying = True
            return False
        self._verified_once = "running" not in states
        return self._verified_once

    def _verify_what_piled_up(self, status: EngineStatus, *, idle: bool) -> None:
        for name, vdisk in status.vdisks.items():
            if idle and vdisk.size - vdisk.verify.verified_bytes > max(_PILE, vdisk.size // 20):
                self.run.source.engine.verify(name, "remaining")

    def _hold(self, predicted: float, outlook: gate.Outlook, mode: Cutover, window: str | None) -> str:
        spec = self.run.migration.spec
        words = gate.explain(predicted, spec.max_downtime, outlook, mode=mode, backpressure=spec.write_backpressure)
        elapsed = time.monotonic() - self._started - self._outside.seconds
        if spec.target_time is not None and elapsed > spec.target_time and window is None:
            raise HoldError(
                f"the gate did not open within {format_duration(spec.target_time)}: {words}",
                remedy=f"`drover resume {self.run.migration.id}` goes on from here, with other limits if you give them",
            )
        if not self._explained:
            self.run.say(words)
        self._explained = words
        return words

    def _forecast(self, status: EngineStatus, outlook: gate.Outlook, *, copied: bool, room: float | None) -> None:
        target = self.run.migration.spec.target_time
        time_left = None if target is None else target - (time.monotonic() - self._started - self._outside.seconds)
        load = self.reporter.load(status, outlook, copied=copied)
        load = replace(load, time_left=time_left, held=self.throttle.held, room=room)
        if self.backpressure.look(load, self.reporter.writes, held=bool(self._explained)):
            self.epochs.forget_sizes()

    def free(self) -> None:
        """The VM writes as it likes, nothing of ours measures it, the background is free. Raises DroverError."""
        try:
            self.backpressure.lift()
        finally:
            self.throttle.end()

    def _lost_process(self) -> bool:
        """Whether the VM's hypervisor process ended; libvirt may need a moment to notice."""
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            if self.run.process != self._process:
                return True
            time.sleep(0.1)
        return False

    def _restart_engines(self, error: EngineError) -> None:
        self._restarts += 1
        if self._restarts > _RESTARTS:
            raise MigrationError(f"an engine dies again and again: {error.message}") from error
        run = self.run
        run.say(f"{error.message}: starting it again; only what was not acknowledged is sent again")
        self.epochs.open = None
        self._told_what_is_left = False
        prepare(run)
        self._begin()

    def _resume_after_power_cycle(self) -> None:
        self.run.say(f"{self.run.migration.spec.vm} was power-cycled at the source")
        self.epochs.open = None
        self._told_what_is_left = False
        prepare(self.run)
        self._begin()


def raise_if_held(run: Run, status: EngineStatus, names: Iterable[str]) -> None:
    """Raises MigrationError if an engine holds one of these VDISKs; engines and bitmaps stay as they are."""
    for name in names:
        vdisk = status.vdisks[name]
        if vdisk.state == "held" and vdisk.error is not None:
            where = "" if vdisk.error.offset is None else f" at offset {vdisk.error.offset}"
            remedy = f"cure that, then `drover resume {run.migration.id}`"
            if vdisk.error.code == "read_error" and run.migration.spec.on_read_error is OnReadError.STOP:
                remedy += "; with `--on-read-error zero` what cannot be read arrives as zeros, and is listed"
            raise MigrationError(
                f"VDISK {name} of {run.migration.spec.vm} is held ({vdisk.error.code}{where}): {vdisk.error.message}",
                remedy=remedy,
            )


def note_unreadable(run: Run, status: EngineStatus) -> None:
    """Remembers what could not be read and arrives as zeros, and says so when it changes."""
    found = {}
    for name in run.vdisk_names:
        vdisk, known = status.vdisks[name], run.facts.unreadable.get(name, Unreadable())
        # An engine that was started anew finds them again only by reading: when it has verified everything.
        forgot = vdisk.unreadable.bytes < known.bytes and vdisk.verify.verified_bytes < vdisk.size
        unreadable = known if forgot else vdisk.unreadable
        if unreadable.places:
            found[name] = unreadable
    if found == run.facts.unreadable:
        return
    for name in sorted(found.keys() | run.facts.unreadable.keys()):
        now = found.get(name)
        if now is None:
            run.say(f"VDISK {name}: everything could be read at last; nothing of it arrives as zeros for that reason")
        elif now != run.facts.unreadable.get(name):
            run.say(f"VDISK {name}: {describe(now)} cannot be read and arrive as zeros")
    run.facts.unreadable = found
    run.save()


def describe(unreadable: Unreadable) -> str:
    """How much, and where it begins."""
    places = "1 place" if unreadable.places == 1 else f"{unreadable.places} places"
    return f"{unreadable.bytes} bytes in {places}, the first at offset {unreadable.first[0].offset},"
