"""What an estimate is asked, from the texts of the command line. Wrong ones raise InputError."""

import time
from collections.abc import Sequence
from typing import Any

from drover.cli import options
from drover.errors import InputError
from drover.model.forecast import Batch, Question, Range, VmQuestion
from drover.model.units import parse_duration, parse_rate
from drover.plans.batch import Member
from drover.plans.site import Resolved

_SPREAD = 0.25
"""Share by which a time of travel differs when only one was given."""
_OF_A_VM = ("cutover", "max_downtime", "target_time")
"""What a plan may say of one VM alone; a bandwidth, too, but one that is asked for is that of all."""


def ask(
    *,
    together: bool,
    shipping: str | None,
    device_rate: str | None,
    link_rate: str | None = None,
    hour: float | None = None,
    planned: Resolved | None = None,
    **settings: str | int | bool | None,
) -> Question:
    """What was left out is as the plan says, or by default; `settings` are those of a migration that a forecast knows.

    What is given holds for every VM of the plan.
    """
    conditions: dict[str, Any] = {
        "link_rate": None if link_rate is None else parse_rate(link_rate),
        "together": together,
        "hour": hour,
        "shipping": None if shipping is None else travel(shipping),
        "device_rate": None if device_rate is None else parse_rate(device_rate),
    }
    given = {name: value for name, value in conditions.items() if value is not None}
    given |= _known(options.settings(**settings))
    if planned is None:
        return Question(**given)
    if together:
        raise InputError("--together makes one group of all VMs, and a plan has its own", remedy="leave it out")
    return Question(**_planned(planned, given))


def _planned(planned: Resolved, given: dict[str, Any]) -> dict[str, Any]:
    """The plan's settings for all, and its batches."""
    said = _known(planned.plan.settings.given(planned.plan.timezone))
    common = {name: value for name, value in said.items() if name not in (*_OF_A_VM, "bandwidth")}
    own = {name: given[name] for name in _OF_A_VM if name in given}
    batches = [
        Batch(
            name=batch.name,
            group=batch.group,
            vms=tuple(_of_vm(member, batch.members, own) for member in batch.members),
            after=batch.after,
            windows=batch.members[0].spec.windows,
        )
        for batch in planned.batches
    ]
    rest = {name: value for name, value in given.items() if name not in _OF_A_VM}
    return {**common, **rest, "batches": batches, "at_once": planned.plan.at_once}


def _known(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name in Question.model_fields}


def _of_vm(member: Member, group: Sequence[Member], given: dict[str, Any]) -> VmQuestion:
    spec = member.spec
    waits = {one.turn: one.delay for one in group if one.turn <= member.turn}
    said = {name: getattr(spec, name) for name in _OF_A_VM} | {
        "bandwidth": spec.bandwidth_at(time.time()), "cutover": spec.way
    }  # fmt: skip
    return VmQuestion(vm=member.vm, starts_after=sum(waits.values()), **{**said, **given})


def travel(text: str) -> Range:
    """How long transport devices are under way: `24h`, or `20h..48h` from the 10th to the 90th of 100 journeys."""
    least, dots, most = text.partition("..")
    first = _seconds("--shipping", least)
    if not dots:
        return Range(p10=first * (1 - _SPREAD), p50=first, p90=first * (1 + _SPREAD))
    last = _seconds("--shipping", most)
    if last < first:
        raise InputError(f"--shipping {text}: the longer time comes second", remedy=f"write it as {most}..{least}")
    return Range(p10=first, p50=(first * last) ** 0.5, p90=last)


def _seconds(option: str, text: str) -> float:
    seconds = parse_duration(text)
    if seconds <= 0:
        raise InputError(f"{option} {text} is no time at all", remedy="give at least 1ms")
    return seconds
