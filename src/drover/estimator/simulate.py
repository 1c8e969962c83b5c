"""One run through a migration as the replicator does it, with every input fixed: phases, epochs, a shared link. No I/O.

Background goes chunk by chunk; an epoch is sealed every ten seconds and goes first; only writes to chunks that were
copied already have to travel. When all is copied and the epoch of then has arrived, hashes of everything are compared
while epochs of about a second go on; the gate opens when one of these arrives and the downtime fits. VMs at the same
time share the link evenly, a group stops behind one barrier, and who waits begins when there is room (Clark et al.,
NSDI 2005; Mashtizadeh et al., ATC 2011).
"""

import math
from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

from drover.estimator.order import Bunch, Order
from drover.model.migration import Cutover
from drover.plans.order import startable

EPOCH_WHILE_COPYING = 10.0
TICK = 0.55
"""Between two looks of the replicator, with what a look takes."""
EPOCH_WHEN_COPIED = 1.1
"""From seal to seal: a second, and the look that notices that it is over."""
FOREVER = 90 * 86400.0
"""Seconds after which a migration that gets nowhere is given up, from its own beginning."""
_STEPS = 400
_SHORTEST = 0.1
_LEAST_BACKGROUND = 0.02
_SAME = 0.001
"""Epochs whose lengths differ by less than this share are in balance."""
_TURNS = 200
_TURNS_A_STEP = 20
_LAST_CHANCES = 6
"""Epochs after which one that does not fit never will: they have reached their balance."""


@dataclass(frozen=True, kw_only=True)
class Phases:
    """What the fixed parts of a migration take: seconds, bytes/s."""

    prepare: float = 1.0
    seal: float = 0.2
    verify_rate: float = 800e6
    save: float = 2.0
    """Saving the memory, whatever its size."""
    save_rate: float = 250e6
    move: float = 0.3
    """Handing the memory over, beyond its bytes on the wire."""
    leave: float = 1.5
    """Ending a hypervisor whose VM was shut down, its disks closed at both sides."""
    start: float = 1.0
    shutdown: float = 5.0
    finish: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One VM for the simulation."""

    name: str
    allocated: float
    """Bytes to read at the source."""
    content: float
    """Of these: bytes that are not zeros."""
    ratio: float
    """Bytes on the wire for each byte of content."""
    dirty_ratio: float
    """The same of what the VM writes meanwhile."""
    dirty: Callable[[float], float]
    """W(t): distinct bytes written within t seconds."""
    memory: float
    """Bytes of the memory image, after zeros."""
    memory_ratio: float = 0.6
    cutover: Cutover = Cutover.RESUME
    max_downtime: float = 30.0
    bandwidth: float = math.inf
    """Bytes/s of the link that this one may use."""
    starts_after: float = 0.0
    """Seconds after the first of its group that it is started: they are part of its downtime."""

    def covered(self, path: "Path") -> float:
        """Bytes/s of content that can be copied whatever the link: zeros have to be read as well."""
        return path.cover * self.content / self.allocated if self.content else path.cover


@dataclass(frozen=True, kw_only=True)
class Path:
    """The way between the sites: bytes/s on the wire, what disks and processors allow, seconds."""

    rate: float
    cover: float
    """Bytes/s that one VM's VDISKs are read, hashed, compressed and written at, whatever the link."""
    round_trip: float = 0.0
    block_seconds: float = 0.0
    """What a block of 64 KiB in an epoch costs beyond its bytes."""

    def shared(self, machine: Machine, beside: float) -> "Path":
        """What one of `beside` machines has of it."""
        return replace(self, rate=min(self.rate / beside, machine.bandwidth))


@dataclass(frozen=True)
class Outcome:
    """What became of one VM."""

    duration: float
    downtime: float
    wire_bytes: float
    epochs: float
    opened: bool
    """Whether the gate opened because the downtime fits."""
    cutover: Cutover
    begun: float = 0.0
    """When its turn came; `duration` has this in it."""


class _Phase(Enum):
    COPYING = auto()
    SEALING = auto()
    """The first epoch after the copy is on its way."""
    VERIFYING = auto()
    SETTLING = auto()
    """All is compared; an epoch is on its way."""
    READY = auto()
    ENDED = auto()


@dataclass
class _Run:
    machine: Machine
    left: float = 0.0
    phase: _Phase = _Phase.COPYING
    copying: float = 0.0
    """Seconds, as `verifying`."""
    verify_left: float = 0.0
    verifying: float = 0.0
    epoch: float = EPOCH_WHEN_COPIED
    background: float = 0.0
    wire: float = 0.0
    epochs: float = 0.0
    fits: bool = False
    wait: float = 0.0
    knocks: int = 0


def simulate(machines: Sequence[Machine], path: Path, phases: Phases, order: Order | None = None) -> list[Outcome]:
    """The outcome of each VM; without an order all begin at once and none waits for another. Times count from then."""
    return _World(machines, path, phases, order or Order.each(len(machines))).run()


class _World:
    """The machines on their way, and whose turn it is."""

    def __init__(self, machines: Sequence[Machine], path: Path, phases: Phases, order: Order) -> None:
        self._runs = [_Run(machine, left=machine.content) for machine in machines]
        self._path, self._phases, self._order = path, phases, order
        self._now = 0.0
        self._begun: dict[str, float] = {}
        self._ends: dict[str, float] = {}
        """When each that has cut over is finished."""
        self._preparing: list[Bunch] = []
        self._active: list[Bunch] = []
        self._moving: list[tuple[_Run, Path]] = []
        """Those of the active ones, each with its share of the way."""
        self._copying = 0
        """How many of these copy."""
        self._coming: list[float] = []
        """Times at which something begins or ends, in order."""
        self._outcomes: dict[int, Outcome] = {}

    def run(self) -> list[Outcome]:
        self._begin()
        while len(self._outcomes) < len(self._runs):
            assert self._moving or self._coming, "nothing runs and nothing may begin"
            step = _step(self._moving, self._phases) if self._moving else math.inf
            due = bool(self._coming) and self._coming[0] <= self._now + step
            before, self._now = self._now, self._coming.pop(0) if due else self._now + step
            for run, path in self._moving:
                _advance(run, path, self._phases, self._now - before)
            if sum(run.phase is _Phase.COPYING for run, _ in self._moving) != self._copying:
                self._share(self._active)
            for bunch in list(self._active):
                self._end(bunch)
            if due:
                self._begin()
        return [self._outcomes[place] for place in range(len(self._runs))]

    def _begin(self) -> None:
        """Who is prepared goes on, and who may begins to prepare."""
        ready = [bunch for bunch in self._preparing if self._begun[bunch.name] + self._phases.prepare <= self._now]
        self._preparing = [bunch for bunch in self._preparing if bunch not in ready]
        self._share([*self._active, *ready])
        finished = {name for name, end in self._ends.items() if end <= self._now}
        begun = set(self._begun)
        running = sum(len(bunch.members) for bunch in self._order.bunches if bunch.name in begun - finished)
        for bunch in startable(self._order.bunches, begun, finished, running, self._order.at_once):
            self._begun[bunch.name] = self._now
            self._preparing.append(bunch)
            insort(self._coming, self._now + self._phases.prepare)

    def _share(self, active: list[Bunch]) -> None:
        """From now on these have the way for themselves: evenly, but those that copy have what the epochs leave."""
        runs = [self._runs[place] for bunch in active for place in bunch.members]
        rate, copying = self._path.rate, [run for run in runs if run.phase is _Phase.COPYING]
        taken = sum(min(_stream(run), rate / len(runs)) for run in runs if run.phase is not _Phase.COPYING)
        beside = len(copying) * rate / (rate - taken) if copying else 0.0
        self._active, self._copying = active, len(copying)
        self._moving = [
            (run, self._path.shared(run.machine, beside if run.phase is _Phase.COPYING else len(runs))) for run in runs
        ]

    def _end(self, bunch: Bunch) -> None:
        """Cuts over if all of it is ready; gives it up if it never will be."""
        runs, begun = [self._runs[place] for place in bunch.members], self._begun[bunch.name]
        if all(run.phase is _Phase.READY for run in runs):
            ended = [_cut_over(run, self._path, self._phases, self._now, len(runs)) for run in runs]
            longest, last = max(one.downtime for one in ended), max(run.machine.starts_after for run in runs)
            opens = bunch.opens(self._order.begins + self._now, longest + last) - self._order.begins
            waits = min(max(opens - self._now, 0.0), begun + FOREVER - self._now)
            # Its epochs go on; they are few beside a copy, so that they are not taken off the others' share.
            ended = [
                replace(one, wire_bytes=one.wire_bytes + _stream(run) * waits)
                for one, run in zip(ended, runs, strict=True)
            ]
            if waits < opens - self._now:
                ended = [replace(one, opened=False) for one in ended]
            end = max(one.duration for one in ended) + last + waits
        elif self._now - begun >= FOREVER:
            ended = [Outcome(0.0, 0.0, run.wire, run.epochs, False, run.machine.cutover) for run in runs]
            end, longest = begun + FOREVER, FOREVER
        else:
            return
        for place, run, one in zip(bunch.members, runs, ended, strict=True):
            down = longest + run.machine.starts_after
            self._outcomes[place] = replace(one, duration=end, downtime=down, begun=begun)
        self._share([one for one in self._active if one is not bunch])
        self._ends[bunch.name] = end
        insort(self._coming, max(end, self._now))


def downtime(machine: Machine, path: Path, phases: Phases, *, epoch: float, unverified: float = 0.0) -> float:
    """Seconds between the stop at the source and the start at the destination, after an epoch of `epoch` seconds."""
    # What was written since the seal of the one before, which has just arrived.
    length = acknowledged_after(machine, path, epoch)
    last = phases.seal + epoch_seconds(machine, path, length)
    verify = (unverified + machine.dirty(length)) / phases.verify_rate
    if machine.cutover is Cutover.RESUME:
        memory = machine.memory * (2 / phases.save_rate + machine.memory_ratio / path.rate)
        return last + verify + phases.save + phases.move + memory + phases.start
    return phases.shutdown + last + verify + phases.leave + phases.start


def epoch_seconds(machine: Machine, path: Path, length: float) -> float:
    """How long an epoch takes that was recorded for `length` seconds."""
    dirty = machine.dirty(length)
    return path.round_trip + _wire(machine, dirty) / path.rate + dirty / 65536 * path.block_seconds


def acknowledged_after(machine: Machine, path: Path, length: float) -> float:
    """Seconds from its seal until the replicator sees that an epoch of `length` seconds has arrived."""
    return min(max(TICK, epoch_seconds(machine, path, length) + TICK / 2), FOREVER)


def next_epoch(machine: Machine, path: Path, length: float) -> float:
    """An epoch is recorded while the one before, of `length` seconds, is on its way."""
    return max(EPOCH_WHEN_COPIED, acknowledged_after(machine, path, length))


def gate_opens(machine: Machine, path: Path, phases: Phases) -> bool:
    """Whether the downtime fits once epochs have found their balance."""
    epoch = EPOCH_WHEN_COPIED
    for _ in range(_TURNS):
        following = next_epoch(machine, path, epoch)
        if abs(following - epoch) < _SAME * epoch:
            break
        epoch = following
    return downtime(machine, path, phases, epoch=epoch) <= machine.max_downtime


def _wire(machine: Machine, dirty: float) -> float:
    return dirty * machine.dirty_ratio


def _stream(run: _Run) -> float:
    """Bytes/s on the wire of its epochs."""
    return _wire(run.machine, run.machine.dirty(run.epoch)) / run.epoch


def _step(moving: Sequence[tuple[_Run, Path]], phases: Phases) -> float:
    """Long while much is to be copied, short near the end of a phase."""
    ends = []
    for run, path in moving:
        machine = run.machine
        if run.phase is _Phase.COPYING:
            at_best = max(run.left * machine.ratio / path.rate, run.left / machine.covered(path))
            ends.append(max(at_best, run.left / run.background if run.background else 0.0))
        elif run.phase is _Phase.VERIFYING:
            ends.append(run.verify_left / phases.verify_rate)
        elif run.phase in (_Phase.SEALING, _Phase.SETTLING):
            ends.append(max(run.wait, 0.0))
    ends = ends or [0.0]
    return min(max(min(ends) / 8, max(ends) / _STEPS, _SHORTEST), FOREVER / 100)


def _advance(run: _Run, path: Path, phases: Phases, step: float) -> None:
    machine = run.machine
    if run.phase is _Phase.COPYING:
        _copy(run, path, step)
        run.copying += step
        if run.left <= 0:
            # The first epoch is not sealed before its time; of later ones half is over, on the average.
            age = run.copying if run.copying < run.epoch else run.epoch / 2
            run.phase, run.verify_left = _Phase.SEALING, machine.allocated
            run.wait = acknowledged_after(machine, path, age)
            run.epoch = max(EPOCH_WHEN_COPIED, run.wait)
        return
    _turn_epochs(run, path, step)
    if run.phase is _Phase.VERIFYING:
        run.verify_left -= phases.verify_rate * step
        run.verifying += step
        if run.verify_left <= 0:
            run.phase, run.wait = _Phase.SETTLING, run.epoch - run.verifying % run.epoch
        return
    run.wait -= step
    if run.wait <= 0 and run.phase is _Phase.SEALING:
        run.phase = _Phase.VERIFYING
    elif run.wait <= 0:
        run.fits = downtime(machine, path, phases, epoch=run.epoch) <= machine.max_downtime
        run.wait, run.knocks = run.epoch, run.knocks + 1
        if run.fits or run.knocks == _LAST_CHANCES:
            run.phase = _Phase.READY


def _copy(run: _Run, path: Path, step: float) -> None:
    machine, share = run.machine, path.rate
    done = 1 - run.left / machine.content if machine.content else 1.0
    length = EPOCH_WHILE_COPYING
    most = (1 - _LEAST_BACKGROUND) * share
    foreground = _wire(machine, machine.dirty(length)) * done / length
    if foreground > most:
        # Epochs grow until they carry what was written meanwhile, each block once.
        length = _balance(machine, most, done)
        foreground = min(_wire(machine, machine.dirty(length)) * done / length, most)
    cover = machine.covered(path)
    background = min((share - foreground) / machine.ratio if machine.ratio else cover, cover)
    run.background = background
    copied = min(background * step, run.left)
    run.left -= copied
    run.wire += copied * machine.ratio + foreground * step
    run.epochs += step / length
    run.epoch = length
    if run.left < 1:
        run.left = 0.0


def _balance(machine: Machine, share: float, done: float) -> float:
    length = EPOCH_WHILE_COPYING
    for _ in range(40):
        needed = _wire(machine, machine.dirty(length)) * done / share
        if needed <= length:
            break
        length = needed
        if length > FOREVER:
            break
    return length


def _turn_epochs(run: _Run, path: Path, step: float) -> None:
    """T(k+1) is as long as epoch k was on its way, and at least the shortest."""
    left = step
    turns = 0
    while left > 1e-9:
        turns += 1
        following = next_epoch(run.machine, path, run.epoch)
        balanced = abs(following - run.epoch) < _SAME * run.epoch or turns == _TURNS_A_STEP
        length = left if balanced else min(run.epoch, left)
        run.wire += _wire(run.machine, run.machine.dirty(run.epoch)) * length / run.epoch
        run.epochs += length / run.epoch
        left -= length
        run.epoch = following


def _cut_over(run: _Run, path: Path, phases: Phases, now: float, beside: int) -> Outcome:
    machine = run.machine
    down = downtime(machine, path.shared(machine, beside), phases, epoch=run.epoch)
    wire = run.wire + _wire(machine, machine.dirty(run.epoch))
    if machine.cutover is Cutover.RESUME:
        wire += machine.memory * machine.memory_ratio
    return Outcome(now + down + phases.finish, down, wire, run.epochs + 1, run.fits, machine.cutover)
