"""`drover plan run`: the migrations of a plan until all have ended; run again, it goes on where it stood."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from drover.cli import asked, options
from drover.cli.output import print_json
from drover.cli.remote import connected
from drover.cli.several import Watcher, check_all
from drover.errors import InputError
from drover.model.plan import Plan
from drover.planner.follow import EFFORT, arranged, going, limit_cutovers, row_of, with_needs
from drover.planner.parts import Parts, parts_of
from drover.planner.solve import EFFORT as FIRST_EFFORT
from drover.planner.timeline import look, work_out
from drover.plans.course import Course, Turn
from drover.plans.file import load
from drover.plans.site import Resolved, read
from drover.replicator.parallel import run_course
from drover.replicator.record import end, planned, record
from drover.replicator.transport import plug_in
from drover.store import MigrationStore


def run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The plan.")],
    json: options.Json = False,
) -> None:
    """Migrate the VMs of a plan: groups behind their barriers, in the order that `drover plan timeline` shows.

    Every VM is checked before anything begins. What waits is told with its reason. Run again, it goes on with what was
    interrupted or failed.
    """
    if (remote := connected()) is not None:
        name = load(file).plan
        remote.put(f"/v1/plans/{name}", text=file.read_text("utf-8-sig"))
        asked.carry_out(remote, f"/v1/plans/{name}/runs", None, json=json)
        return
    resolved = read(file)
    carry_out(resolved, at_once=resolved.plan.at_once, again=f"drover plan run {file}", json=json)


def carry_out(
    resolved: Resolved, *, at_once: int, again: str, json: bool, devices: Sequence[str] = (), in_order: bool = True
) -> None:
    """Migrates the batches of a plan, those that are new to the database by these transport devices, if any.

    `again` is the command that goes on with them; without `in_order` all of them begin now. Raises typer.Exit if not
    all of them finished.
    """
    plan, store = resolved.plan.plan, MigrationStore()
    before = {migration.id for migration in store.all(include_ended=False)} if devices else set()
    batches = record(
        plan, resolved.batches, store, lambda specs: check_all(specs, store, devices, json=json), approval=False
    )
    migrations = [store.get(member.migration) for group, _ in batches for member in group.members]
    course = Course([planned(group, batch, store) for group, batch in batches], at_once)
    watcher = Watcher(store, json=json)
    follower = _Follower(course, store, watcher, resolved if in_order else None)
    for migration in migrations:
        if not migration.state.ended:
            watcher.planned(migration)
            if migration.id in before:
                with store.running(migration):
                    said = plug_in(store, migration, devices)
                for words in said:
                    watcher.say(migration, words)
    code = run_course(migrations, follower.due(), follower, watcher.show)
    _tell(plan, again, course.unfinished, json=json)
    if code or course.unfinished:
        raise typer.Exit(code or 1)


class _Follower:
    """Follows the worked-out order, anew whenever something has happened, and says what waits for what."""

    def __init__(self, course: Course, store: MigrationStore, watcher: Watcher, resolved: Resolved | None) -> None:
        self._course = course
        self._store = store
        self._watcher = watcher
        self._parts = None if resolved is None else parts_of(resolved, store.folder)
        self._plan = None if resolved is None else resolved.plan
        self._effort = FIRST_EFFORT
        self._told: dict[str, str] = {}
        if self._parts is not None and self._plan is not None:
            needing = [with_needs(batch, self._parts) for batch in course.batches]
            course.arrange(needing, self._plan.at_once, self._plan.limits)
            limit_cutovers(self._parts, self._plan.limits, store.folder)

    @property
    def wake(self) -> float | None:
        return self._course.wake

    def due(self) -> Turn:
        return self._with_order(Turn())

    def copied(self, migration: str) -> Turn:
        return self._with_order(self._course.copied(migration, time.time()))

    def ended(self, migration: str, code: int) -> Turn:
        turn = self._course.ended(migration, end(self._store.get(migration), killed=code < 0), time.time())
        for other in turn.interrupt:
            name = self._store.get(other).spec.vm
            self._watcher.say(self._store.get(migration), f"its group cannot cut over without it: {name} pauses")
        return self._with_order(turn)

    def _with_order(self, turn: Turn) -> Turn:
        if self._parts is not None and self._plan is not None:
            self._arrange(self._parts, self._plan)
        more = self._course.begin(time.time())
        self._tell_waits()
        return Turn(begin=turn.begin + more.begin, interrupt=turn.interrupt)

    def _arrange(self, parts: Parts, plan: Plan) -> None:
        numbers = [number for part in parts.parts for number in part.migrations]
        try:
            found = work_out(
                plan.plan, parts, at_once=plan.at_once, limits=plan.limits, now=time.time(),
                sights=look(numbers, self._store.folder), going=going(self._course), effort=self._effort,
            )  # fmt: skip
        except InputError:
            if not self._course.begun:
                raise
            # A pin that what has begun since leaves no place for: the rest goes on in the order that it has.
            return
        self._effort = EFFORT
        self._parts = parts.arranged(row_of(found))
        arranged(self._course, self._parts, row_of(found), plan.at_once, plan.limits)

    def _tell_waits(self) -> None:
        """Of each batch, once for each reason."""
        for name, reason in self._course.waits.items():
            if self._told.get(name) != reason:
                batch = next(batch for batch in self._course.batches if batch.name == name)
                for member in batch.members:
                    self._watcher.say(self._store.get(member), f"waits: {reason}")
        self._told = dict(self._course.waits)


def _tell(plan: str, again: str, unfinished: Sequence[str], *, json: bool) -> None:
    if json:
        print_json({"event": "plan", "plan": plan, "finished": not unfinished, "unfinished": list(unfinished)})
        return
    console = Console(highlight=False, soft_wrap=True)
    if unfinished:
        words = f"not finished: {', '.join(unfinished)}; cure what is said above, then `{again}` goes on"
        console.print(f"plan {plan}: {words}", markup=False)
    else:
        console.print(f"plan {plan}: all of it is finished", markup=False, style="bold green")
