"""`drover plan run`: the migrations of a plan until all have ended; run again, it goes on where it stood."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from drover.cli import asked, options
from drover.cli.output import print_json
from drover.cli.remote import connected
from drover.cli.several import Watcher, check_all
from drover.plans.course import Course, Turn
from drover.plans.file import load
from drover.plans.site import Resolved, read
from drover.replicator.parallel import run_course
from drover.replicator.record import end, planned, record
from drover.store import MigrationStore


def run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The plan.")],
    json: options.Json = False,
) -> None:
    """Migrate the VMs of a plan: groups behind their barriers, in their order, so many at once.

    Every VM is checked before anything begins. Run again, it goes on with what was interrupted or failed.
    """
    if (remote := connected()) is not None:
        name = load(file).plan
        remote.put(f"/v1/plans/{name}", text=file.read_text("utf-8-sig"))
        asked.carry_out(remote, f"/v1/plans/{name}/runs", None, json=json)
        return
    resolved = read(file)
    carry_out(resolved, at_once=resolved.plan.at_once, again=f"drover plan run {file}", json=json)


def carry_out(resolved: Resolved, *, at_once: int, again: str, json: bool, devices: Sequence[str] = ()) -> None:
    """Migrates the batches of a plan, those that are new to the database by these transport devices, if any.

    `again` is the command that goes on with them. Raises typer.Exit if not all of them finished.
    """
    plan, store = resolved.plan.plan, MigrationStore()
    batches = record(
        plan, resolved.batches, store, lambda specs: check_all(specs, store, devices, json=json), approval=False
    )
    migrations = [store.get(member.migration) for group, _ in batches for member in group.members]
    course = Course([planned(group, batch, store) for group, batch in batches], at_once)
    watcher = Watcher(store, json=json)

    def follow(migration: str, code: int) -> Turn:
        turn = course.ended(migration, end(store.get(migration), killed=code < 0))
        for other in turn.interrupt:
            name = store.get(other).spec.vm
            watcher.say(store.get(migration), f"its group cannot cut over without it: {name} pauses")
        return turn

    for migration in migrations:
        if not migration.state.ended:
            watcher.planned(migration)
    code = run_course(migrations, course.begin(), follow, watcher.show)
    _tell(plan, again, course.unfinished, json=json)
    if code or course.unfinished:
        raise typer.Exit(code or 1)


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
