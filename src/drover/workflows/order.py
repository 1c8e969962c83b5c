"""A run's order: worked out when it begins and whenever something has happened, kept for whoever asks.

All that it decides follows from what its steps returned, so that it can be done again after a death of the server.
"""

import asyncio
import time
from typing import Any

from dbos import DBOS

from drover.errors import InputError
from drover.model.order import Limits
from drover.planner.follow import EFFORT, arranged, going, limit_cutovers, row_of, waits_of, with_needs
from drover.planner.parts import Parts, Wishes
from drover.planner.solve import EFFORT as FIRST_EFFORT
from drover.planner.timeline import Going, look, work_out
from drover.plans.course import Course
from drover.plans.file import parse
from drover.store import OrderStore, PlanStore, RunStore

HEARD = "ended"
"""The topic of what a run is told while it goes on."""
_PATIENCE = 600.0
"""Seconds after which the order is worked out again though nothing was heard: what is late is seen then."""


class Order:
    """Of one run. `begin` arranges what waits, and says which migrations begin now."""

    def __init__(self, run_id: str, course: Course, prepared: dict[str, Any]) -> None:
        self._run_id = run_id
        self._course = course
        self._plan: str = prepared["plan"]
        self._parts = Parts.model_validate(prepared["parts"])
        batches = [with_needs(batch, self._parts) for batch in course.batches]
        self._at_once: int = prepared["at_once"]
        self._limits = Limits(**prepared["limits"])
        self._version: int | None = None
        self._now = 0.0
        course.arrange(batches, self._at_once, self._limits)

    async def begin(self) -> list[str]:
        """Ids of migrations. What the others wait for is known from then on."""
        course = self._course
        said = await _work_out(self._run_id, self._plan, self._parts, self._version, _standing(course))
        self._now = said["now"]
        if said["version"] is not None:
            self._version, self._at_once, self._limits = said["version"], said["at_once"], Limits(**said["limits"])
            self._parts = self._parts.wished({name: Wishes(**wish) for name, wish in said["wishes"].items()})
        if said["row"] is not None:
            self._parts = self._parts.arranged(said["row"])
        row = [part.name for part in self._parts.parts]
        arranged(course, self._parts, row, self._at_once, self._limits)
        turn = course.begin(self._now)
        await _tell(self._run_id, waits_of(self._parts, course.waits))
        return turn.begin

    @property
    def patience(self) -> float:
        """Seconds after which to look again even if nothing is heard."""
        wake = self._course.wake
        return _PATIENCE if wake is None else min(max(wake - self._now, 0.1), _PATIENCE)


def _standing(course: Course) -> dict[str, Any]:
    seen = going(course)
    return {"begun": sorted(seen.begun), "lost": sorted(seen.lost), "waits": dict(seen.waits)}


@DBOS.step()
async def _work_out(
    run_id: str, plan: str, parts: Parts, version: int | None, standing: dict[str, Any]
) -> dict[str, Any]:
    return await asyncio.to_thread(worked_out, run_id, plan, parts, version, standing)


@DBOS.step()
async def _tell(run_id: str, waits: dict[str, str]) -> None:
    await asyncio.to_thread(OrderStore().put_waits, run_id, waits)


def worked_out(run_id: str, plan: str, parts: Parts, version: int | None, standing: dict[str, Any]) -> dict[str, Any]:
    """The order from now on, by the newest version of the plan; only what is new of it is said.

    A version that cannot be followed, because its pins cannot be kept any more for example, is told at the run; what
    was followed before goes on.
    """
    now, stored = time.time(), PlanStore().get(plan)
    said: dict[str, Any] = {"now": now, "version": None, "row": None}
    read = parse(stored.text, f"plan {plan}, version {stored.version}")
    at_once, limits = read.at_once, read.limits
    try:
        wished = parts.wishing(read)
        timeline = work_out(
            plan, wished, at_once=at_once, limits=limits, now=now,
            sights=look([number for part in parts.parts for number in part.migrations]),
            going=Going(begun=set(standing["begun"]), lost=set(standing["lost"]), waits=standing["waits"]),
            effort=FIRST_EFFORT if version is None else EFFORT,
        )  # fmt: skip
    except InputError as error:
        RunStore().change(run_id, reason=f"goes on as before: {error.message}", remedy=error.remedy)
        return said
    OrderStore().put(run_id, timeline)
    if stored.version != version:
        limit_cutovers(wished, limits)
        fields = limits.model_dump(mode="json")
        said |= {"version": stored.version, "at_once": at_once, "limits": fields, "wishes": _said(wished)}
        RunStore().change(run_id, reason=None, remedy=None)
    if (row := row_of(timeline)) != [part.name for part in parts.parts]:
        said["row"] = row
    return said


def _said(parts: Parts) -> dict[str, Any]:
    return {name: wish.model_dump(mode="json") for name, wish in parts.wishes().items()}
