"""A plan's parts, and how far they are, become the order in which they are to go and the timeline that it comes to.

No I/O but `look`, which asks the database how far the migrations are.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drover.model.migration import COPIED, State
from drover.model.order import Limits
from drover.model.timeline import Progressing, Timeline, TimelineRow, TimelineVm
from drover.planner.parts import Part, Parts, PartVm
from drover.planner.solve import EFFORT, solve
from drover.planner.windows import next_window
from drover.planner.work import Job, NextWindow, Slot, Task, World
from drover.plans.needs import caps
from drover.plans.turns import Standing as Turning
from drover.plans.turns import turns
from drover.store import LiveStore, MigrationStore
from drover.store.migrations import Standing

Windows = Callable[[Part], NextWindow | None]
"""The windows of a part's cutover; None: any time."""
_ASIDE = (State.PLANNED, State.PAUSED, State.FAILED)


def windows_of(part: Part) -> NextWindow | None:
    """Those that its VMs' specifications say."""
    return next_window(part.windows)


@dataclass(frozen=True, kw_only=True)
class Sight:
    """One migration as it stands. Times are Unix seconds."""

    state: State
    begun: float | None
    ended: float | None
    left: float = 1.0
    """Share that is still to be copied."""
    holding: str | None = None
    """What it waits for while it runs."""
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Going:
    """What a run says of its batches, by name; without a run nothing has begun and nothing is lost."""

    begun: Set[str] = frozenset()
    lost: Set[str] = frozenset()
    waits: Mapping[str, str] = field(default_factory=dict)


def look(migrations: Collection[str], folder: Path | None = None) -> dict[str, Sight]:
    """How far migrations are."""
    store = MigrationStore(folder)
    found = store.standing(migrations)
    running = [number for number, one in found.items() if one.begun is not None and not one.state.ended]
    newest = LiveStore(store.folder).newest(running)
    return {number: _sight(one, newest.get(number, {})) for number, one in found.items()}


def _sight(standing: Standing, progress: Mapping[str, Any]) -> Sight:
    size, done = float(progress.get("size") or 0), float(progress.get("done") or 0)
    return Sight(
        state=standing.state,
        begun=standing.begun,
        ended=standing.updated if standing.state.ended else None,
        left=max(1 - done / size, 0.0) if size else 1.0,
        holding=progress.get("holding"),
        reason=standing.reason,
    )


def work_out(
    plan: str,
    parts: Parts,
    *,
    at_once: int,
    limits: Limits,
    now: float,
    sights: Mapping[str, Sight],
    going: Going | None = None,
    windows: Windows = windows_of,
    effort: int = EFFORT,
) -> Timeline:
    """The timeline; its rows are in the order in which they are to begin. `going` is None if no run is under way.

    Raises InputError that names a pin that cannot be kept.
    """
    most = caps(limits, at_once)
    states = {part.name: _state(part, sights, going) for part in parts.parts}
    finished = {name for name, state in states.items() if state is Progressing.FINISHED}
    # Without a run, what was begun before begins anew.
    aside = (Progressing.WAITING, *(() if going is not None else (Progressing.STOPPED,)))
    jobs = [
        _job(part, sights, windows(part), now, begun=states[part.name] not in aside)
        for part in parts.parts
        if part.name not in finished
    ]
    lost = _with_followers(parts.parts, set() if going is None else going.lost - finished)
    world = World(now=now, link=parts.link, most=most, finished=finished, lost=lost)
    begun = len(finished) + sum(job.begun is not None for job in jobs)
    solution = solve(jobs, world, begun=begun, effort=effort)
    waits = _waits(solution.row, world) if going is None else going.waits
    by_name = {part.name: part for part in parts.parts}
    rows = [_finished(part, sights) for part in parts.parts if part.name in finished]
    rows += [_row(by_name[slot.name], states[slot.name], slot, sights, waits.get(slot.name)) for slot in solution.slots]
    ends = [row.end for row in rows]
    return Timeline(
        plan=plan,
        at=now,
        link_rate=parts.link,
        link_known=parts.link_known,
        end=None if None in ends else max((end for end in ends if end is not None), default=now),
        rows=sorted(rows, key=lambda row: row.state is not Progressing.FINISHED),
    )


def _state(part: Part, sights: Mapping[str, Sight], going: Going | None) -> Progressing:
    seen = [one for _, one in _seen(part, sights)]
    if len(seen) == len(part.vms) and all(one.state.ended for one in seen):
        return Progressing.FINISHED
    if going is not None:
        if part.name not in going.begun:
            return Progressing.WAITING
        return Progressing.STOPPED if part.name in going.lost else Progressing.RUNNING
    if not any(one.begun for one in seen):
        return Progressing.WAITING
    return Progressing.STOPPED if all(one.state in _ASIDE or one.state.ended for one in seen) else Progressing.RUNNING


def _job(part: Part, sights: Mapping[str, Sight], next_window: NextWindow | None, now: float, *, begun: bool) -> Job:
    seen = {vm.uuid: one for vm, one in _seen(part, sights)}
    began = [one.begun for one in seen.values() if one.begun is not None]
    return Job(
        part.name,
        tuple(_task(vm, seen.get(vm.uuid), begun=begun) for vm in part.vms),
        after=part.after,
        priority=part.priority,
        pin=part.pin,
        next_window=next_window,
        begun=min(began, default=now) if begun else None,
    )


def _task(vm: PartVm, seen: Sight | None, *, begun: bool) -> Task:
    expected, fixed, wire, cutover = vm.expected, vm.expected.fixed, vm.expected.wire, vm.expected.cutover
    if seen is not None and seen.state.ended:
        fixed = wire = cutover = 0.0
    elif begun and seen is not None and seen.state in COPIED:
        fixed = wire = 0.0
    elif seen is not None:
        wire *= seen.left
    return Task(
        vm=vm.name, fixed=fixed, wire=wire, cutover=cutover, rate=expected.rate or math.inf, needs=vm.needs
    )  # fmt: skip


def _seen(part: Part, sights: Mapping[str, Sight]) -> list[tuple[PartVm, Sight]]:
    """Those of its VMs whose migrations are recorded."""
    return [(vm, sights[vm.migration]) for vm in part.vms if vm.migration is not None and vm.migration in sights]


def _with_followers(parts: Sequence[Part], lost: Set[str]) -> set[str]:
    found = set(lost)
    while more := {part.name for part in parts if part.name not in found and not found.isdisjoint(part.after)}:
        found |= more
    return found


def _waits(row: Sequence[Job], world: World) -> dict[str, str]:
    """As they would be told if the run began now."""
    standing = Turning(now=world.now, load={}, most=world.most, finished=world.finished, lost=world.lost)
    return turns([job for job in row if job.begun is None], standing).waits


def _row(part: Part, state: Progressing, slot: Slot, sights: Mapping[str, Sight], waits_for: str | None) -> TimelineRow:
    if state is Progressing.RUNNING:
        said = [(vm.name, one.holding) for vm, one in _seen(part, sights) if one.holding]
        holding = [f"{name}: {words}" if part.group else words for name, words in said]
        waits_for = "; ".join(holding) or None
    elif state is Progressing.STOPPED:
        reasons = [f"{vm.name}: {one.reason}" for vm, one in _seen(part, sights) if one.reason]
        waits_for = waits_for or "; ".join(reasons) or None
    return TimelineRow(
        name=part.name,
        group=part.group,
        vms=_vms(part),
        after=list(part.after),
        priority=part.priority,
        pin=part.pin,
        state=state,
        begin=slot.begin,
        copied=slot.copied,
        cutover=slot.cutover,
        end=slot.end,
        waits_for=waits_for if state is Progressing.STOPPED and waits_for else slot.problem or waits_for,
    )


def _finished(part: Part, sights: Mapping[str, Sight]) -> TimelineRow:
    seen = [one for _, one in _seen(part, sights)]
    began = [one.begun for one in seen if one.begun is not None]
    ended = [one.ended for one in seen if one.ended is not None]
    return TimelineRow(
        name=part.name, group=part.group, vms=_vms(part), after=list(part.after), priority=part.priority, pin=part.pin,
        state=Progressing.FINISHED, begin=min(began, default=None), copied=None, cutover=None,
        end=max(ended, default=None),
    )  # fmt: skip


def _vms(part: Part) -> list[TimelineVm]:
    return [
        TimelineVm(vm=vm.name, migration=vm.migration, basis=vm.expected.basis, wire_bytes=vm.expected.wire)
        for vm in part.vms
    ]
