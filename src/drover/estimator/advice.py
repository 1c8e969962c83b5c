"""What the administrator should know of a forecast: why this method, which settings, what to beware of. No I/O."""

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from drover.estimator.draw import DEFAULT_MAX_DOWNTIME, Draw, Subject
from drover.estimator.link_hours import rates_by_hour
from drover.estimator.load import MOST, share_within, stretch
from drover.estimator.order import Order
from drover.estimator.simulate import EPOCH_WHEN_COPIED, FOREVER, Machine, Path, downtime
from drover.model.forecast import Method, Option, Question, VmForecast
from drover.model.observation import LinkObservation
from drover.model.units import format_duration, format_rate, format_size

_SAG = 0.75
"""An hour at which the link carries less than this share of what it usually does is worth a word."""
_QUEUED, _NOTICED = 2.0, 0.02
"""Times the idle round trip, and seconds beyond it, from which others notice a full link."""
_ENOUGH_HOURS = 6
_NOTICEABLE = 0.5
"""Growth of a VM's latency from which on a budget for it is worth a word, and the budget that is then recommended."""
_BUSY = 20.0
"""Requests per second below which no latency needs protection."""
_BRIEF = 60.0
"""Seconds of copying that nobody has to be protected from: to find out what is the VM's own takes some, too."""
_LEAST_RATE = 1 << 20
"""Bytes/s that no budget holds the copy below."""


def settings(links: Sequence[LinkObservation], question: Question, share: float, writes: float) -> dict[str, str]:
    """By option of `drover migrate`: only what differs from leaving it out."""
    chosen: dict[str, str] = {}
    if links and links[0].bulk:
        chosen["--connections"] = str(question.connections or links[0].knee)
    if question.bandwidth:
        chosen["--bandwidth"] = f"{int(question.bandwidth)}B"
    if question.max_downtime:
        chosen["--max-downtime"] = f"{question.max_downtime:g}s"
    if 0 < share < 1:
        chosen["--write-backpressure"] = f"writes slowed to about {format_rate(share * writes)}"
    return chosen


def reasons(recommended: Method, options: Sequence[Option], break_even: float | None) -> list[str]:
    """Why this method, with the figures that decided."""
    by_method = {option.method: option for option in options}
    network, device, stopped = (by_method.get(method) for method in Method)
    assert network is not None and stopped is not None
    words = []
    if device is not None:
        faster, slower = sorted((device, network), key=lambda option: option.duration.p50)
        words.append(
            f"by {faster.method} it takes {format_duration(faster.duration.p50)}, "
            f"by {slower.method} {format_duration(slower.duration.p50)}"
        )
        if break_even is not None:
            words.append(f"the link would have to carry {format_rate(break_even)} for both to take the same time")
    if recommended is Method.STOPPED:
        words.append("replication of the running VM would not come to an end")
    else:
        words.append(
            f"a stopped export takes {format_duration(stopped.duration.p50)}, and the VM is down for all of it; "
            f"this way it is down for {format_duration(by_method[recommended].downtime.p50)}"
        )
    words.append(f"{format_size(by_method[recommended].wire_bytes.p50)} go over the link")
    return words


def warnings(draws: Sequence[Draw], whole: VmForecast, question: Question, share: float) -> list[str]:
    """What stands in the way of what was asked, each with what would help."""
    found = []
    if whole.duration.p50 >= FOREVER:
        found.append(_diverging(draws))
    elif whole.opens < 0.9:
        found.append(_shut(draws, whole, question.max_downtime or DEFAULT_MAX_DOWNTIME, share))
    if question.target_time is not None and whole.duration.p90 > question.target_time:
        found.append(_late(question.target_time, whole.duration.p50, whole.duration.p90))
    return found


def batch_warnings(draws: Sequence[Draw], question: Question, order: Order, said: Sequence[VmForecast]) -> list[str]:
    """The same for each batch of a plan, as long as it takes from its own beginning; `said` is in the plan's order."""
    found = []
    for batch, bunch, one in zip(question.batches, order.bunches, said, strict=True):
        own = [replace(draw, machines=[draw.machines[place] for place in bunch.members]) for draw in draws]
        waits = one.begins.p50 if one.begins else 0.0
        usual, worst = one.duration.p50 - waits, one.duration.p90 - waits
        if bunch.opens(order.begins, one.downtime.p50) == math.inf:
            needed = format_duration(one.downtime.p50)
            found.append(f"{batch.name}: no window is long enough for a cutover, which takes {needed}: make one longer")
        elif usual >= FOREVER:
            found.append(f"{batch.name}: {_diverging(own)}")
        elif one.opens < 0.9:
            found.append(f"{batch.name}: {_shut(own, one, min(vm.max_downtime for vm in batch.vms), None)}")
        target = min((vm.target_time for vm in batch.vms if vm.target_time is not None), default=math.inf)
        # Who waits for a window is not late.
        if worst > target and not batch.windows:
            found.append(f"{batch.name}: {_late(target, usual, worst)}")
    return found


def of_link(links: Sequence[LinkObservation]) -> list[str]:
    """What the link's measurements, newest first, warn of."""
    newest = links[:1]
    return [*_sagging(links), *_suffering(newest), *(advice for link in newest for advice in link.advice)]


def latency(draws: Sequence[Draw], subjects: Sequence[Subject], question: Question, beside: int) -> list[str]:
    """Replication backpressure, for each VM that would notice the copy: what it buys, and the time that it costs.

    `beside` VMs are copied at the same time. Nothing is said of a VM that asks little of its disks, of whose content
    there is no sample, or whose copy is brief; nor if a budget is given.
    """
    if question.max_latency:
        return []
    found = []
    for number, subject in enumerate(subjects):
        load, spare = subject.load, subject.read_rate
        if load is None or load.requests < _BUSY or spare is None:
            continue
        machines = [(draw.machines[number], draw.path) for draw in draws]
        rate = median(_read_rate(machine, path.shared(machine, beside)) for machine, path in machines)
        amount = median(machine.allocated for machine, _ in machines)
        held = max(share_within(_NOTICEABLE) * spare, _LEAST_RATE)
        if rate <= held or amount / rate < _BRIEF:
            continue
        factor = f"about {stretch(rate / spare):.1f}" if rate < MOST * spare else "several"
        found.append(
            f"{subject.name}: copying at full rate takes {min(rate / spare, 1.0):.0%} of what its disks have to spare: "
            f"its requests, {format_duration(load.latency)} on the average, may take {factor} times as long; "
            f"--max-latency +{_NOTICEABLE:.0%} holds the copy to what that allows, about {format_rate(held)}, "
            f"and takes {format_duration(amount / held - amount / rate)} more"
        )
    return found


def _read_rate(machine: Machine, path: Path) -> float:
    """Bytes/s, zeros included, at which the disks are read while nothing is written."""
    if not machine.content:
        return path.cover
    link = path.rate / machine.ratio * machine.allocated / machine.content if machine.ratio else path.cover
    return min(link, path.cover)


def _diverging(draws: Sequence[Draw]) -> str:
    dirtied = median(sum(m.dirty(60.0) * m.dirty_ratio for m in d.machines) / 60 for d in draws)
    carried = median(d.path.rate for d in draws)
    return (
        f"replication does not converge: what the VM writes takes {format_rate(dirtied)} of the link, "
        f"which carries {format_rate(carried)}: use a faster link, --write-backpressure, or a quieter time"
    )


def _late(target: float, usual: float, worst: float) -> str:
    return (
        f"the target time of {format_duration(target)} may not be met: it takes {format_duration(usual)}, "
        f"at worst {format_duration(worst)}"
    )


def _shut(draws: Sequence[Draw], whole: VmForecast, limit: float, share: float | None) -> str:
    """`share` is what the VMs may write of what they write; None if that was not looked for."""
    without = median(max(downtime(m, d.path, d.phases, epoch=0.0) for m in d.machines) for d in draws)
    words = f"the maximum downtime of {format_duration(limit)} fits in {whole.opens:.0%} of the cases"
    if without >= limit:
        return f"{words}: {format_duration(without)} do not depend on what the VM writes; allow more"
    if share is not None and share <= 0:
        return f"{words}: allow more"
    epoch = median(max(m.dirty(EPOCH_WHEN_COPIED) for m in d.machines) for d in draws)
    slower = (
        "allow its writes to be slowed (write_backpressure)"
        if share is None
        else f"with --write-backpressure the VM would be slowed to {share:.0%} of its writes"
    )
    return f"{words}: an epoch holds {format_size(epoch)}; {slower}, or allow {format_duration(whole.downtime.p90)}"


def _suffering(links: Sequence[LinkObservation]) -> list[str]:
    """What others on the link wait for while it is full, if that is much more than usual."""
    told = []
    for link in links:
        busy, idle = link.state.busy, link.state.round_trip.value
        if busy is None or busy.value < _QUEUED * idle or busy.value - idle < _NOTICED or not link.bulk:
            continue
        rate = 0.9 * link.bulk[link.knee].rate.value
        told.append(
            f"others on the link wait while it is full: a round trip takes {format_duration(busy.value)} then, and "
            f"{format_duration(idle)} otherwise; --bandwidth {rate * 8 / 1e6:.0f}mbit leaves it room"
        )
    return told


def _sagging(links: Sequence[LinkObservation]) -> list[str]:
    """The hours of the day at which the link carries clearly less, when enough hours were measured."""
    rates = {hour: rate.value for hour, rate in rates_by_hour(links).items()}
    if len(rates) < _ENOUGH_HOURS:
        return []
    usual = median(rates.values())
    slow = [hour for hour, rate in rates.items() if rate < _SAG * usual]
    if not slow:
        return []
    least = min(rates[hour] for hour in slow)
    hours = ", ".join(f"{hour:02}:00" for hour in slow)
    return [f"the link sags at {hours}: down to {format_rate(least)}, usually {format_rate(usual)}"]
