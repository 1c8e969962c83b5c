"""From what was observed to inputs of a simulation: each draw is one possible truth within what the samples allow."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from statistics import fmean, pstdev

from drover.errors import InputError
from drover.estimator.curve import DirtyCurve, total
from drover.estimator.load import Load
from drover.estimator.patterns import Rhythm
from drover.estimator.phases import History
from drover.estimator.simulate import EPOCH_WHEN_COPIED, Machine, Path, Phases, downtime
from drover.model.forecast import Question, VmQuestion
from drover.model.migration import Cutover
from drover.model.observation import Content, Interval, LinkObservation, VmObservation, Workload

DEFAULT_MAX_DOWNTIME = 30.0
_UNSAMPLED = Interval(value=0.6, low=0.2, high=1.0)
"""Bytes on the wire for each of content, when no sample says better."""
_NO_ZEROS_KNOWN = Interval(value=0.15, low=0.0, high=0.3)
_DISK_RATE = 200e6
"""Bytes/s of an ordinary disk, when no sample says better."""
_CORES = 2
"""Processors that an engine finds for compression, on a host that is not idle."""
_TRUST = 0.02
"""Standard deviation/mean that remains in the best measured rate: the link of tomorrow is not that of today."""
_SAME_HOUR = 1.5
_PIPELINE = Interval(value=0.5, low=0.3, high=0.8)
"""Of the rate at which VDISKs are read: what reading, compressing, sending and writing together leave, if not seen."""
_SMALL_BLOCKS = (0.95, 1.15)
"""What a VM writes compresses like what it has, but block by block."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One VM, as the forecast knows it."""

    name: str
    uuid: str
    memory: int
    resident: int | None
    size: int
    content: Sequence[Content]
    curve: DirtyCurve
    seconds: float
    """How long it was looked at."""
    load: Load | None = None
    """What it asked of its disks; None if it asked nothing."""
    rhythm: Rhythm | None = None
    """At which times it writes more than when it was looked at; None if that is not known."""

    @property
    def amount(self) -> float:
        """Bytes to read."""
        return float(sum(sample.allocated for sample in self.content)) or float(self.size)

    @property
    def read_rate(self) -> float | None:
        """Bytes/s that its slowest VDISK gives beside its own I/O, at least; None if no sample says."""
        return min((content.read_rate for content in self.content if content.read_rate), default=None)


def subject(observation: VmObservation, rhythm: Rhythm | None = None) -> Subject:
    """What an observation says of a VM; the newest sample of each VDISK's content counts."""
    curves = [
        DirtyCurve.of((sample for sample in observation.dirty if sample.vdisk == name), size)
        for name, size in observation.sizes.items()
    ]
    newest = {content.vdisk: content for content in sorted(observation.content, key=lambda content: content.at)}
    return Subject(
        name=observation.vm,
        uuid=observation.uuid,
        memory=observation.memory,
        resident=observation.resident,
        size=sum(observation.sizes.values()),
        content=list(newest.values()),
        curve=total(curves) if curves else DirtyCurve([], 0),
        seconds=observation.seconds,
        load=Load.of(observation.io),
        rhythm=rhythm,
    )


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One possible truth: the VMs that migrate at the same time, the way, the fixed phases."""

    machines: list[Machine]
    path: Path
    phases: Phases


class Dice:
    """Makes draws. The same seed makes the same ones, so that what-ifs differ by their question alone."""

    def __init__(
        self,
        subjects: Sequence[Subject],
        links: Sequence[LinkObservation],
        history: History,
        question: Question,
        seed: int = 1,
    ) -> None:
        if not links and question.link_rate is None:
            raise InputError(
                "the link between these sites was never measured",
                remedy="let `drover estimate` measure it, or say what it carries, as in --link-rate 200mbit",
            )
        self._subjects = subjects
        self._links = _at_hour(links, question.hour)
        self._history = history
        self._question = question
        self._asked = _asked(question, subjects)
        self._chance = random.Random(seed)

    def roll(self) -> Draw:
        path = self._path()
        phases = self._history.draw(self._chance)
        both = zip(self._subjects, self._asked, strict=True)
        return Draw(machines=[self._machine(s, asked, path, phases) for s, asked in both], path=path, phases=phases)

    def _path(self) -> Path:
        rate, spread = self._rate()
        rate *= max(self._chance.gauss(1, spread), 0.1)
        if self._question.bandwidth is not None:
            rate = min(rate, self._question.bandwidth)
        cover = self._history.cover() or self._read_rate() * self._within(_PIPELINE)
        cover *= max(self._chance.gauss(1, 0.1), 0.3)
        newest = self._links[0] if self._links else None
        round_trip = newest.state.round_trip.value if newest else 0.0
        return Path(rate=rate, cover=cover, round_trip=round_trip, block_seconds=_block_seconds(newest, rate))

    def _read_rate(self) -> float:
        return min((rate for subject in self._subjects if (rate := subject.read_rate)), default=_DISK_RATE)

    def _rate(self) -> tuple[float, float]:
        """Bytes/s and the standard deviation/mean of what a migration will find."""
        if self._question.link_rate is not None:
            return self._question.link_rate, _TRUST
        seen = [(link, rate) for link in self._links if (rate := rate_of(link, self._question.connections)) is not None]
        if not seen:
            raise InputError("no measurement of the link moved any data", remedy="measure it again: `drover estimate`")
        (newest, today), rates = seen[0], [rate for _, rate in seen]
        if self._question.hour is None:
            # How a link changes within an hour is seen in its last hour; last week's says nothing of that.
            lasting = sum(subject.amount for subject in self._subjects) / today
            rates = [rate for link, rate in seen if newest.at - link.at <= lasting]
        probe = self._links[0].bulk.get(self._question.connections or self._links[0].knee)
        own = (probe.rate.high - probe.rate.low) / 3.92 / probe.rate.value if probe and probe.rate.value else 0.0
        between = pstdev(rates) / fmean(rates) if len(rates) > 2 else 0.0
        return (fmean(rates) if len(rates) > 2 else rates[0]), math.hypot(own, between, _TRUST)

    def _machine(self, subject: Subject, asked: VmQuestion, path: Path, phases: Phases) -> Machine:
        allocated = content = wire = 0.0
        for sample in subject.content:
            there = sample.allocated * (1 - self._within(sample.zero))
            allocated += sample.allocated
            content += there
            wire += there * self._ratio(sample, path.rate)
        if not subject.content:
            allocated = float(subject.size)
            content = allocated * (1 - self._within(_NO_ZEROS_KNOWN))
            wire = content * self._within(_UNSAMPLED)
        ratio = wire / content if content else 1.0
        pace = self._pace(subject, path)
        scale = math.exp(self._chance.gauss(0, max(subject.curve.spread(EPOCH_WHEN_COPIED), 0.05)))
        machine = Machine(
            name=subject.name,
            allocated=allocated,
            content=content,
            ratio=ratio,
            dirty_ratio=min(ratio * self._chance.uniform(*_SMALL_BLOCKS), 1.0),
            dirty=lambda seconds: scale * subject.curve(pace * seconds),
            memory=self._memory(subject),
            memory_ratio=self._history.memory_ratio(self._chance) or self._chance.uniform(0.35, 0.75),
            cutover=asked.cutover,
            max_downtime=asked.max_downtime,
            bandwidth=asked.bandwidth or math.inf,
            starts_after=asked.starts_after,
        )
        return with_cutover(machine, path.shared(machine, 1), phases)

    def _pace(self, subject: Subject, path: Path) -> float:
        """How many times as fast as observed the VM writes while it migrates: the same curve, run through sooner."""
        if subject.rhythm is None:
            return 1.0
        lasting = sum(each.amount for each in self._subjects) / max(min(path.rate, path.cover), 1.0)
        return subject.rhythm.factor(self._question.hour, lasting)

    def _ratio(self, sample: Content, rate: float) -> float:
        """Of the method by which most content arrives per second, as the engine chooses it."""
        chosen = self._question.compression
        ratios = {name: self._within(interval) for name, interval in sample.ratios.items()} | {"none": 1.0}
        if chosen in ratios:
            return ratios[chosen]
        speeds = {name: sample.speeds.get(name, math.inf) * _CORES for name in ratios}
        return ratios[max(ratios, key=lambda name: min(rate / max(ratios[name], 1e-6), speeds[name]))]

    def _memory(self, subject: Subject) -> float:
        share = self._history.memory_share(self._chance)
        if share is None:
            share = self._chance.uniform(0.3, 0.9)
        return min(share * subject.memory, subject.resident or subject.memory)

    def _within(self, interval: Interval) -> float:
        """A value that the sample allows; the interval holds 95 of 100."""
        spread = max((interval.high - interval.low) / 3.92, 0.0)
        return min(max(self._chance.gauss(interval.value, spread), 0.0), max(interval.high, 1.0))


def _asked(question: Question, subjects: Sequence[Subject]) -> list[VmQuestion]:
    """What is asked of each VM."""
    if question.batches:
        return [asked for batch in question.batches for asked in batch.vms]
    limit = question.max_downtime or DEFAULT_MAX_DOWNTIME
    return [VmQuestion(vm=one.name, cutover=question.cutover, max_downtime=limit) for one in subjects]


def rate_of(link: LinkObservation, connections: int | None) -> float | None:
    """Bytes/s that a link carried with so many connections, or those at its knee; None if nothing was measured."""
    bulk = link.bulk
    if not bulk:
        return None
    wanted = connections or link.knee
    nearest = min(bulk, key=lambda n: abs(math.log(n / wanted)))
    return bulk[nearest].rate.value


def with_cutover(machine: Machine, path: Path, phases: Phases) -> Machine:
    """`auto` resumes if that fits the limit, or is the shorter one: the gate's rule."""
    if machine.cutover is not Cutover.AUTO:
        return machine
    both = [replace(machine, cutover=cutover) for cutover in (Cutover.RESUME, Cutover.RESTART)]
    resume, restart = (downtime(m, path, phases, epoch=EPOCH_WHEN_COPIED) for m in both)
    return both[0] if resume <= machine.max_downtime or resume <= restart else both[1]


def _block_seconds(link: LinkObservation | None, rate: float) -> float:
    """What a block in an epoch costs beyond its bytes, from the largest epoch that was probed."""
    epochs = [probe for probe in link.probes if probe.workload is Workload.EPOCH and probe.blocks] if link else []
    if not epochs:
        return 0.0
    largest, smallest = max(epochs, key=lambda p: p.blocks), min(epochs, key=lambda p: p.blocks)
    if largest.blocks == smallest.blocks:
        return 0.0
    each = (largest.seconds - smallest.seconds) / (largest.blocks - smallest.blocks)
    return max(each - 65536 / rate, 0.0)


def _at_hour(links: Sequence[LinkObservation], hour: float | None) -> list[LinkObservation]:
    """Newest first; of those measured around that hour of the day if there are any."""
    newest = sorted(links, key=lambda link: -link.at)
    if hour is None:
        return newest
    near = [link for link in newest if _apart(hour_of(link.at), hour) <= _SAME_HOUR]
    return near or newest


def hour_of(at: float) -> float:
    """The local hour of the day of a Unix time, 0 to 24."""
    moment = datetime.fromtimestamp(at)
    return moment.hour + moment.minute / 60


def _apart(one: float, other: float) -> float:
    return min(abs(one - other), 24 - abs(one - other))
