"""What the administrator sees of a running migration, and what the gate knows, from the engines' status."""

import time

from drover.engine.status import EngineStatus, VdiskStatus
from drover.estimator.answer import Estimator
from drover.estimator.remaining import Expected, Sight
from drover.platforms.libvirt.inventory import io_statistics, is_running, resident
from drover.replicator.convergence import Load
from drover.replicator.epochs import Epochs
from drover.replicator.events import Latency, Progress, Slowed, VdiskProgress
from drover.replicator.gate import Outlook
from drover.replicator.run import Run
from drover.replicator.speed import Amplification, Meter, Writes

_GUESS = 100e6
"""Bytes/s assumed for a rate that nothing has measured yet."""
_VERIFY_GUESS = 500e6
_TELLING = 8 << 20
"""Bytes sent from which on the background's rate says something of the link; a few chunks may wait for a bad sector."""
_SOON = 5.0
"""Seconds over which the VM's writes are measured: a step of write backpressure must show before the next."""


class Reporter:
    """Follows one run's rates. Sizes are bytes, rates bytes/s."""

    def __init__(self, run: Run, epochs: Epochs) -> None:
        self._run = run
        self._epochs = epochs
        self._covered = Meter()
        self._wire = Meter()
        self._foreground = Meter()
        self._written = {name: Meter(_SOON) for name in run.vdisk_names}
        self._requests = Meter(_SOON)
        self._verify_rate = _VERIFY_GUESS
        self._verifying_since: float | None = None
        self._verify_seen = False
        self._base = run.facts.sent_bytes
        self._dirty: dict[str, int] = {}
        self._amplification = Amplification()
        self._looked_at = 0.0
        self._remaining = Estimator(run.store.folder).meanwhile(run.migration, run.domain.maxMemory() * 1024)

    @property
    def writes(self) -> Writes:
        """What the VM writes now."""
        rates = [meter.rate for meter in self._written.values()]
        return Writes(rate=sum(rates), busiest=max(rates), requests=self._requests.rate)

    def load(self, status: EngineStatus, outlook: Outlook, *, copied: bool) -> Load:
        """What the forecast needs to know of link and VM; target time and downtime are the caller's."""
        return Load(
            copied=copied,
            left=sum(vdisk.background.pending_bytes for vdisk in status.vdisks.values()),
            background=self._covered.rate,
            foreground=self._foreground.rate,
            capacity=outlook.rate,
            dirty_rate=self._amplification.factor * self.writes.rate,
        )

    def outlook(self, status: EngineStatus) -> Outlook:
        """What the gate needs to know, with guesses where nothing was measured."""
        self._measure(status)
        limit = self._run.bandwidth
        measured = self._epochs.capacity.rate or _GUESS
        rate = max(min(measured, limit) if limit else measured, 1.0)
        unverified = sum(v.size - v.verify.verified_bytes for v in status.vdisks.values())
        memory = self._run.domain.maxMemory() * 1024
        return Outlook(
            dirty=max(self._epochs.expected, sum(self._dirty.values())),
            rate=rate,
            unverified=unverified,
            verify_rate=max(self._verify_rate, 1.0),
            memory=min(memory, resident(self._run.domain) or memory),
            link_rate=rate,
        )

    def expect(self, status: EngineStatus, outlook: Outlook, *, by_road: bool) -> Expected | None:
        """Time left and downtime, forecast anew; None while too little is known, or a device is on its way."""
        if by_road or status.link.state != "up":
            return None
        backgrounds = [vdisk.background for vdisk in status.vdisks.values()]
        return self._remaining.look(
            Sight(
                at=time.monotonic(),
                elapsed=time.time() - self._run.migration.created_at,
                done=sum(background.done_bytes for background in backgrounds),
                left=sum(background.pending_bytes for background in backgrounds),
                unverified=outlook.unverified,
                capacity=outlook.rate,
            )
        )

    def report(
        self,
        status: EngineStatus,
        predicted: float | None,
        *,
        expected: Expected | None = None,
        holding: str | None = None,
        latency: Latency | None = None,
        slowed: Slowed | None = None,
        prediction: str | None = None,
        held_back: bool = False,
    ) -> None:
        """Tells the observer how far the migration is; `held_back` is whether a latency budget slows the background."""
        run = self._run
        left = sum(vdisk.background.pending_bytes for vdisk in status.vdisks.values())
        rate = self._covered.rate
        progress = Progress(
            migration=run.migration.id,
            vm=run.migration.spec.vm,
            state=run.migration.state,
            vdisks=[self._vdisk(name, status.vdisks[name]) for name in run.vdisk_names if name in status.vdisks],
            rate=rate,
            wire_rate=self._wire.rate,
            vm_write_rate=self.writes.rate,
            sent=self._base + status.link.sent_bytes,
            epoch=run.facts.epoch,
            epoch_bytes=self._epochs.size,
            epoch_seconds=self._epochs.seconds,
            predicted_downtime=predicted,
            time_left=left / rate if rate > 0 and left else None,
            expected=expected,
            link=status.link.state if not status.link.reason else f"{status.link.state}: {status.link.reason}",
            verified=sum(vdisk.verify.verified_bytes for vdisk in status.vdisks.values()),
            limited_by=self.limit(status),
            unreadable=sum(vdisk.unreadable.bytes for vdisk in status.vdisks.values()),
            holding=holding,
            latency=latency,
            slowed=slowed,
            prediction=prediction,
        )
        run.tally.look(progress, time.monotonic(), held_back=held_back)
        run.observe(progress)

    def limit(self, status: EngineStatus) -> str | None:
        """What limits most VDISKs. Only the destination knows whether a link waits for its disk."""
        limits = [vdisk.limited_by for vdisk in status.vdisks.values() if vdisk.limited_by]
        most = max(limits, key=limits.count, default=None)
        if most == "link":
            there = self._run.destination.engine.status().vdisks.values()
            return next((vdisk.limited_by for vdisk in there if vdisk.limited_by), most)
        return most

    def _measure(self, status: EngineStatus) -> None:
        backgrounds = [vdisk.background for vdisk in status.vdisks.values()]
        self._run.tally.sent(vdisk.sent for vdisk in status.vdisks.values())
        self._covered.add(sum(background.done_bytes + background.loaded_bytes for background in backgrounds))
        self._wire.add(status.link.sent_bytes)
        self._foreground.add(sum(vdisk.sent.foreground_bytes for vdisk in status.vdisks.values()))
        self._run.facts.sent_bytes = self._base + status.link.sent_bytes
        # Onto a device it says nothing of the link.
        running = any(background.state == "running" and background.mode != "load" for background in backgrounds)
        if running and status.link.sent_bytes >= _TELLING:
            self._epochs.capacity.saw_background(self._wire.rate)
        self._measure_verification(status)
        if time.monotonic() - self._looked_at >= 1 and is_running(self._run.domain):
            self._looked_at = time.monotonic()
            totals = [io_statistics(self._run.domain, name) for name in self._run.vdisk_names]
            for meter, total in zip(self._written.values(), totals, strict=True):
                meter.add(total.write_bytes)
            self._requests.add(sum(total.write_requests for total in totals))
            self._dirty = self._run.capture().dirty(self._run.facts.epoch)
            self._remaining.saw_writes(time.monotonic() - self._epochs.sealed_at, sum(self._dirty.values()))
            written = sum(total.write_bytes for total in totals)
            self._amplification.add(self._run.facts.epoch, sum(self._dirty.values()), written)

    def _measure_verification(self, status: EngineStatus) -> None:
        if not any(vdisk.verify.state == "running" for vdisk in status.vdisks.values()):
            self._verifying_since, self._verify_seen = None, False
            return
        now = time.monotonic()
        self._verifying_since = self._verifying_since or now
        if now - self._verifying_since >= 1:
            checked = sum(vdisk.verify.checked_bytes for vdisk in status.vdisks.values())
            rate = checked / (now - self._verifying_since)
            # Later it waits for chunks that are written just then, which it does not in a cutover.
            self._verify_rate = max(self._verify_rate, rate) if self._verify_seen else rate
            self._verify_seen = True

    def _vdisk(self, name: str, status: VdiskStatus) -> VdiskProgress:
        return VdiskProgress(
            name=name,
            size=status.size,
            done=status.background.done_bytes,
            left=status.background.left_bytes,
            dirty=self._dirty.get(name, 0),
            loaded=status.background.loaded_bytes,
        )
