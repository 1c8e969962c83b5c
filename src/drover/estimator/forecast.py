"""The forecast of one or several VMs: Monte Carlo over the simulation, methods compared, what would help. No I/O."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from drover.estimator.advice import batch_warnings, latency, of_link, reasons, settings, warnings
from drover.estimator.draw import Dice, Draw, Subject, hour_of
from drover.estimator.methods import by_device, stopped
from drover.estimator.order import Order
from drover.estimator.phases import History
from drover.estimator.simulate import Machine, Outcome, gate_opens, simulate
from drover.model.forecast import Forecast, Method, Option, Question, Range, Sharing, TradeOff, VmForecast
from drover.model.migration import Cutover
from drover.model.observation import LinkObservation

_DRAWS = 300
_FEW = 40
"""Draws where only the middle is shown, and at least."""
_MOST = 4800
"""VMs times draws: of many VMs the whole needs fewer draws for the same certainty."""
_LIMITS = (1.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Maximum downtimes of the trade-off."""
_CLEARLY = 0.8
"""A transport device must need at most this share of the time to be worth the errand."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """Everything that forecasts are made of."""

    source: str
    destination: str
    subjects: Sequence[Subject]
    links: Sequence[LinkObservation]
    """Newest first."""
    history: History
    sharing: Sequence[Sharing] = ()


def forecast(known: Known, question: Question, *, seed: int = 1) -> Forecast:
    """Raises InputError if the link was never measured and the question does not say what it carries."""
    count, planned = len(known.subjects), bool(question.batches)
    order = _order(question, count)
    draws = _roll(known, question, min(_DRAWS, max(_FEW, _MOST // max(count, 1))), seed)
    rows = [simulate(draw.machines, draw.path, draw.phases, order) for draw in draws]
    vms = [_of(subject.name, [row[i] for row in rows], planned) for i, subject in enumerate(known.subjects)]
    whole = vms[0] if count == 1 else _of(f"{count} VMs", [_all(row) for row in rows])
    batches = [
        _of(batch.name, [_all([row[place] for place in bunch.members]) for row in rows], planned)
        for batch, bunch in zip(question.batches, order.bunches if planned else (), strict=True)
    ]
    options = [_network(whole, count)]
    break_even = None
    if question.shipping is not None:
        options.append(by_device(draws, question, order, known.sharing))
        break_even = _break_even(known, question, seed)
    options.append(stopped(draws))
    # One VM of a plan that does not get through is no reason to stop the others.
    recommended = _recommend(options, whole, max((batch.opens for batch in batches), default=whole.opens))
    share = 1.0 if planned or whole.opens >= 0.5 else bearable_share(draws, order.most())
    return Forecast(
        at=time.time(),
        source=known.source,
        destination=known.destination,
        question=question,
        vms=vms,
        groups=[said for batch, said in zip(question.batches, batches, strict=True) if batch.group],
        whole=whole,
        recommended=recommended,
        options=options,
        trade_off=[] if question.max_downtime or planned else _trade_off(known, question, seed),
        break_even=break_even,
        settings=settings(known.links, question, share, _writes(draws)),
        reasons=reasons(recommended, options, break_even),
        warnings=[
            *(batch_warnings(draws, question, order, batches) if planned else warnings(draws, whole, question, share)),
            *of_link(known.links),
            *latency(draws, known.subjects, question, order.most()),
        ],
        horizon=min((subject.seconds for subject in known.subjects), default=0.0),
        sharing=list(known.sharing),
    )


def _order(question: Question, count: int) -> Order:
    """It begins now, or the next time that it is the hour of the question."""
    now = time.time()
    begins = now if question.hour is None else now + (question.hour - hour_of(now)) % 24 * 3600
    return replace(Order.of(question, count), begins=begins)


def _roll(known: Known, question: Question, count: int, seed: int) -> list[Draw]:
    dice = Dice(known.subjects, known.links, known.history, question, seed)
    return [dice.roll() for _ in range(count)]


def _of(name: str, outcomes: Sequence[Outcome], planned: bool = False) -> VmForecast:
    resumes = sum(outcome.cutover is Cutover.RESUME for outcome in outcomes)
    return VmForecast(
        vm=name,
        duration=Range.of([outcome.duration for outcome in outcomes]),
        downtime=Range.of([outcome.downtime for outcome in outcomes]),
        wire_bytes=Range.of([outcome.wire_bytes for outcome in outcomes]),
        cutover=Cutover.RESUME if 2 * resumes >= len(outcomes) else outcomes[0].cutover,
        epochs=Range.of([outcome.epochs for outcome in outcomes]),
        opens=sum(outcome.opened for outcome in outcomes) / len(outcomes),
        begins=Range.of([outcome.begun for outcome in outcomes]) if planned else None,
    )


def _all(row: Sequence[Outcome]) -> Outcome:
    return Outcome(
        duration=max(outcome.duration for outcome in row),
        downtime=max(outcome.downtime for outcome in row),
        wire_bytes=sum(outcome.wire_bytes for outcome in row),
        epochs=max(outcome.epochs for outcome in row),
        opened=all(outcome.opened for outcome in row),
        cutover=row[0].cutover,
        begun=min(outcome.begun for outcome in row),
    )


def _network(whole: VmForecast, count: int) -> Option:
    shut = "the cutover gate would stay shut" + (" for one VM at least" if count > 1 else "")
    note = "the VM runs all the while" if whole.opens >= 0.5 else shut
    return Option(
        method=Method.NETWORK,
        duration=whole.duration,
        downtime=whole.downtime,
        wire_bytes=whole.wire_bytes,
        note=note,
    )


def _recommend(options: Sequence[Option], whole: VmForecast, opens: float) -> Method:
    """The network, unless a device is clearly sooner; a stopped VM only where nothing else comes to an end.

    `opens` is the share of the draws in which a gate opens.
    """
    by_method = {option.method: option for option in options}
    device = by_method.get(Method.DEVICE)
    if device is not None and device.duration.p50 <= _CLEARLY * whole.duration.p50:
        return Method.DEVICE
    if opens < 0.1 and by_method[Method.STOPPED].duration.p50 < whole.duration.p50:
        return Method.STOPPED
    return Method.NETWORK


def _trade_off(known: Known, question: Question, seed: int) -> list[TradeOff]:
    """What each maximum downtime would mean; those that differ in nothing from the one before are left out."""
    rows: list[TradeOff] = []
    order = _order(question, len(known.subjects))
    for limit in _LIMITS:
        asked = question.model_copy(update={"max_downtime": limit})
        draws = _roll(known, asked, _FEW, seed)
        outcomes = [_all(simulate(d.machines, d.path, d.phases, order)) for d in draws]
        found = _of("", outcomes)
        share = 1.0 if found.opens >= 0.5 else bearable_share(draws, order.most())
        row = TradeOff(
            max_downtime=limit,
            cutover=found.cutover,
            duration=found.duration,
            downtime=found.downtime,
            opens=found.opens,
            write_share=share,
        )
        rows.append(row)
        if found.opens > 0.95:
            break
    return rows


def bearable_share(draws: Sequence[Draw], beside: int) -> float:
    """The largest share of their writes at which the VMs' gates open in half of the draws; 0 if none is so small.

    `beside` VMs turn epochs at the same time.
    """
    few = draws[:_FEW]

    def opens(share: float) -> bool:
        rows = [all(gate_opens(_slowed(m, share), d.path.shared(m, beside), d.phases) for m in d.machines) for d in few]
        return sum(rows) >= len(rows) / 2

    return _bisect(opens)


def _slowed(machine: Machine, share: float) -> Machine:
    """Fewer writes per second: the same blocks, later."""
    return replace(machine, dirty=lambda seconds: machine.dirty(share * seconds))


def _bisect(holds: Callable[[float], bool]) -> float:
    """The largest share in 0…1 for which something holds that holds for all smaller ones; 0 if it holds for none."""
    if not holds(0.001):
        return 0.0
    low, high = 0.001, 1.0
    for _ in range(10):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _break_even(known: Known, question: Question, seed: int) -> float | None:
    """The link rate at which network and device take the same time, bytes/s."""
    order = _order(question, len(known.subjects))

    def network_is_slower(rate: float) -> bool:
        asked = question.model_copy(update={"link_rate": rate, "bandwidth": None})
        draws = _roll(known, asked, _FEW, seed)
        times = [_all(simulate(d.machines, d.path, d.phases, order)).duration for d in draws]
        return median(times) > by_device(draws, asked, order, known.sharing).duration.p50

    low, high = 1e5, 1.25e10
    if not network_is_slower(low) or network_is_slower(high):
        return None
    while high / low > 1.05:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if network_is_slower(middle) else (low, middle)
    return math.sqrt(low * high)


def _writes(draws: Sequence[Draw]) -> float:
    """Bytes/s that the VMs dirty."""
    return median(sum(machine.dirty(10.0) / 10.0 for machine in draw.machines) for draw in draws)
