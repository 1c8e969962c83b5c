"""Forecasts from what the database knows: observations, links, finished migrations, and how earlier forecasts did."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drover.errors import InputError
from drover.estimator.accuracy import Score, corrected, correction
from drover.estimator.draw import Subject, subject
from drover.estimator.forecast import Known, forecast
from drover.estimator.patterns import Patterns, Rhythm, patterns
from drover.estimator.phases import History
from drover.estimator.remaining import Basis, Remaining
from drover.estimator.score import scores
from drover.estimator.sharing import sharing
from drover.model.forecast import Forecast, Method, Question, Range, Sharing
from drover.model.migration import Migration, Spec, State
from drover.model.observation import LinkObservation, VmObservation
from drover.store import ForecastStore, LinkStore, MigrationStore, ObservationStore

FRESH = 30 * 86400.0
"""Seconds after which an observation says too little of today."""
_WORTH_A_WORD = 1.25
_COMPARED = 50
"""VMs at the destination with which content is compared: the newest samples."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A forecast, as the simulation says it and as earlier outcomes correct it, and what it was made of."""

    raw: Forecast
    shown: Forecast
    observations: list[VmObservation]
    links: list[LinkObservation]


class Estimator:
    """Answers from one data folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self._migrations = MigrationStore(folder)
        self.observations = ObservationStore(folder)
        self.links = LinkStore(folder)
        self.forecasts = ForecastStore(folder)

    def scores(self) -> list[Score]:
        """Of every finished migration that had a forecast, newest first."""
        return scores(self._migrations.all(), self.forecasts.all())

    def latest(self, uuid: str) -> VmObservation | None:
        """The newest observation of a VM, with the newest content sample of any; None if there is no fresh one."""
        seen = self.observations.all(uuid, since=time.time() - FRESH)
        watched = [observation for observation in seen if observation.io or observation.content]
        if not watched:
            return None
        newest = max(watched, key=lambda observation: observation.began_at)
        contents = [content for observation in watched for content in observation.content]
        return newest.model_copy(update={"content": newest.content or contents})

    def answer(
        self, source: str, destination: str, observations: Sequence[VmObservation], question: Question
    ) -> Answer:
        """Raises InputError if the link was never measured and the question does not say what it carries."""
        links = sorted(self.links.all(source, destination, since=time.time() - FRESH), key=lambda link: -link.at)
        habits = [patterns(self.observations.all(observation.uuid)) for observation in observations]
        subjects = [subject(o, _rhythm(o, habit)) for o, habit in zip(observations, habits, strict=True)]
        known = Known(
            source=source,
            destination=destination,
            subjects=subjects,
            links=links,
            history=History(self._migrations.all()),
            sharing=self._sharing(destination, observations),
        )
        raw = forecast(known, question)
        words = [f"{o.vm}: {said}" for o, habit in zip(observations, habits, strict=True) for said in habit.words]
        words += [said for one in subjects for said in _usual(one, question, raw.whole.duration.p50)]
        raw = raw.model_copy(update={"warnings": [*raw.warnings, *words]})
        return Answer(raw=raw, shown=corrected(raw, self.scores()), observations=list(observations), links=links)

    def _sharing(self, destination: str, observations: Sequence[VmObservation]) -> list[Sharing]:
        """At the destination are VMs that were sampled there, and those that arrived since they were sampled."""
        arrived = {
            migration.facts.uuid
            for migration in self._migrations.all()
            if migration.state is State.FINISHED and migration.spec.destination == destination
        }
        asked = {observation.uuid for observation in observations}
        seen = self.observations.sampled(since=time.time() - FRESH)
        there = {
            uuid: sampled.id
            for uuid, sampled in seen.items()
            if uuid not in asked and (uuid in arrived or sampled.site == destination)
        }
        newest = list(there.items())[:_COMPARED]
        return sharing(
            {o.vm: self.observations.samples(seen[o.uuid].id) for o in observations if o.uuid in seen},
            {uuid: self.observations.samples(observation) for uuid, observation in newest},
        )

    def before(self, migration: Migration, shipping: Range | None = None) -> Forecast | None:
        """Forecasts a migration that is about to begin, and remembers it for the score; None if too little is known.

        `shipping` is how long its transport devices, if it has some, travel.
        """
        by_road = bool(migration.spec.devices)
        if by_road and shipping is None:
            return None
        seen = self.latest(migration.facts.uuid)
        if seen is None:
            return None
        question = question_of(migration.spec)
        if by_road:
            question = question.model_copy(update={"shipping": shipping})
        try:
            answer = self.answer(migration.spec.source, migration.spec.destination, [seen], question)
        except InputError:
            return None
        wanted = Method.DEVICE if by_road else Method.NETWORK
        if answer.raw.recommended is not wanted:
            answer.raw.warnings.append(f"the estimator recommends: {answer.raw.recommended}")
        raw = by_method(answer.raw, wanted)
        shown = corrected(raw, self.scores())
        self.forecasts.add(migration.id, raw, shown)
        return shown

    def remember(self, migration: Migration) -> None:
        """`before`, for one that begins without somebody who reads it; nothing if its forecast is kept already."""
        if not self.forecasts.has(migration.id):
            self.before(migration)

    def meanwhile(self, migration: Migration, memory: int) -> Remaining:
        """Forecasts what is left of a migration while it runs; `memory` is the VM's, in bytes."""
        seen = self.latest(migration.facts.uuid)
        made = self.forecasts.all().get(migration.id)
        outcomes = [score for score in self.scores() if score.method == Method.NETWORK]
        basis = Basis(
            vm=migration.spec.vm,
            spec=migration.spec,
            size=sum(vdisk.size for vdisk in migration.facts.vdisks),
            memory=memory,
            history=History(self._migrations.all()),
            resident=seen.resident if seen else None,
            observed=subject(seen).curve if seen else None,
            forecast=made[1].whole if made and migration.facts.token == 1 else None,
            correction=correction(outcomes, "downtime"),
        )
        return Remaining(basis)


def _rhythm(observation: VmObservation, habit: Patterns) -> Rhythm | None:
    times = [sample.at for sample in observation.io]
    return Rhythm(habit, (min(times), max(times)), time.time()) if times else None


def _usual(subject: Subject, question: Question, seconds: float) -> list[str]:
    """Says so where the forecast reckons with other writes than those that were observed."""
    factor = subject.rhythm.factor(question.hour, seconds) if subject.rhythm else 1.0
    if 1 / _WORTH_A_WORD < factor < _WORTH_A_WORD:
        return []
    much = f"{factor:.1f} times" if factor > 1 else f"{factor:.0%} of"
    return [f"{subject.name}: what it usually writes at that time is reckoned with: {much} what was observed"]


def by_method(forecast: Forecast, method: Method) -> Forecast:
    """What it says if this method is taken, whatever it recommends."""
    (option,) = [option for option in forecast.options if option.method is method]
    said = {name: getattr(option, name) for name in ("duration", "downtime", "wire_bytes")}
    return forecast.model_copy(update={"recommended": method, "whole": forecast.whole.model_copy(update=said)})


def question_of(spec: Spec) -> Question:
    """What a migration with this specification asks."""
    return Question(
        cutover=spec.way,
        max_downtime=spec.max_downtime,
        target_time=spec.target_time,
        bandwidth=spec.bandwidth_at(time.time()),
        compression=spec.compression,
        connections=spec.connections,
        write_backpressure=spec.write_backpressure,
        max_latency=spec.max_latency,
    )
