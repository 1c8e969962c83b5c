"""Other ways than the network alone: a transport device for the bulk, or an export of the stopped VM. No I/O."""

from collections.abc import Sequence
from dataclasses import replace

from drover.estimator.draw import Draw
from drover.estimator.order import Order
from drover.estimator.simulate import EPOCH_WHILE_COPYING, Machine, simulate
from drover.model.forecast import Method, Option, Question, Range, Sharing
from drover.model.units import format_size


def by_device(draws: Sequence[Draw], question: Question, order: Order, sharing: Sequence[Sharing]) -> Option:
    """Load all, ship, unload; meanwhile epochs over the network; then compare and cut over as always.

    What occurs more than once is on the devices once.
    """
    shipping = question.shipping
    assert shipping is not None
    spared = {one.vm: (one.together or one.alone).value for one in sharing}
    durations, downtimes, wires, amounts = [], [], [], []
    for number, draw in enumerate(draws):
        on_device = sum(m.content * m.ratio * (1 - spared.get(m.name, 0.0)) for m in draw.machines)
        read = sum(machine.content / machine.covered(draw.path) for machine in draw.machines if machine.content)
        travel = _shipped(shipping, (number + 0.5) / len(draws))
        written = on_device / question.device_rate
        away = max(written, read) + travel + written
        ends = simulate([replace(m, content=0.0) for m in draw.machines], draw.path, draw.phases, order.now())
        durations.append(away + max(outcome.duration for outcome in ends))
        downtimes.append(max(outcome.downtime for outcome in ends))
        wires.append(sum(_meanwhile(m, away) + o.wire_bytes for m, o in zip(draw.machines, ends, strict=True)))
        amounts.append(on_device)
    carried = Range.of(amounts).p50
    return Option(
        method=Method.DEVICE,
        duration=Range.of(durations),
        downtime=Range.of(downtimes),
        wire_bytes=Range.of(wires),
        device_bytes=carried,
        note=f"{format_size(carried)} by road; the VM runs all the while",
    )


def stopped(draws: Sequence[Draw]) -> Option:
    """Shut down, export, start there: nothing has to be captured, and the VM is down for all of it."""
    durations, wires = [], []
    for draw in draws:
        wire = sum(machine.content * machine.ratio for machine in draw.machines)
        read = max(m.allocated / draw.path.cover for m in draw.machines)
        compare = sum(machine.allocated for machine in draw.machines) / draw.phases.verify_rate
        fixed = draw.phases.shutdown + draw.phases.start
        durations.append(fixed + max(wire / draw.path.rate, read) + compare)
        wires.append(wire)
    return Option(
        method=Method.STOPPED,
        duration=Range.of(durations),
        downtime=Range.of(durations),
        wire_bytes=Range.of(wires),
        note="the VM is down all the while",
    )


def _shipped(shipping: Range, share: float) -> float:
    """The quantile of a time of travel of which three are known; linear between them and a little beyond."""
    if share < 0.5:
        return max(shipping.p50 - (shipping.p50 - shipping.p10) * (0.5 - share) / 0.4, 0.0)
    return shipping.p50 + (shipping.p90 - shipping.p50) * (share - 0.5) / 0.4


def _meanwhile(machine: Machine, seconds: float) -> float:
    """Bytes on the wire of the epochs while the device is on its way."""
    return machine.dirty(EPOCH_WHILE_COPYING) * machine.dirty_ratio * seconds / EPOCH_WHILE_COPYING
