"""`drover plan timeline`: when what of a plan begins, cuts over and ends, as a chart for people and as JSON."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from drover.cli import options
from drover.cli.output import print_json
from drover.cli.remote import connected
from drover.cli.report.gantt import write_timeline
from drover.cli.timeline_words import basis_of, begins_at, by_begin, summary_of, words_of
from drover.errors import InputError
from drover.model.timeline import Progressing, Timeline, TimelineRow
from drover.model.units import format_duration
from drover.planner.foresee import foresee
from drover.plans.file import load
from drover.plans.site import read

_BAR = 60
_NARROWEST = 16
_MONTHS = 300 * 86400
_COPY, _HOLD, _CUTOVER, _NEVER = "█", "░", "▓", "·"


def timeline(
    plan: Annotated[str, typer.Argument(metavar="PLAN", help="The plan's file; with --server, the name of one there.")],
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write it as a page as well, to hand on.")
    ] = None,
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Write its picture as well.")] = None,
    json: options.Json = False,
) -> None:
    """Show in which order a plan goes, and when what begins, cuts over and ends.

    The order is worked out so that the whole is done soonest, within the limits, dependencies, priorities and pins of
    the plan. With --server, of a run that is under way, as it stands. Changes nothing.
    """
    if (remote := connected()) is not None:
        name = load(Path(plan)).plan if Path(plan).is_file() else plan
        found = Timeline.model_validate(remote.get(f"/v1/plans/{name}/timeline"))
    else:
        if not Path(plan).is_file():
            raise InputError(f"there is no file {plan}", remedy="name a plan's file, or a --server that has the plan")
        found = foresee(read(Path(plan)))
    for file, picture_only in ((html, False), (svg, True)):
        if file is not None:
            write_timeline(found, file, picture_only=picture_only)
    if json:
        print_json({"event": "timeline", **found.model_dump(mode="json")})
        return
    console = Console(highlight=False)
    console.print(_shown(found, console.width))


def _shown(found: Timeline, width: int) -> RenderableType:
    begins = begins_at(found)
    ends = max((row.end or row.copied or row.begin or begins for row in found.rows), default=begins)
    bar = max(min(_BAR, width - 58), _NARROWEST)
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("VMs", justify="right")
    table.add_column("begins", no_wrap=True)
    table.add_column(_axis(begins, ends, bar), no_wrap=True, width=bar)
    table.add_column("takes", justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    form = _form(begins, ends)
    for row in by_begin(found):
        takes = "" if row.end is None or row.begin is None else format_duration(row.end - row.begin)
        table.add_row(
            Text(row.name, style="bold" if row.group else ""),
            str(len(row.vms)),
            "" if row.begin is None else time.strftime(form, time.localtime(row.begin)),
            _bar(row, begins, max(ends - begins, 1.0), bar),
            takes,
            Text(words_of(row), style="dim"),
        )
    return Group(Text(f"{summary_of(found)}\n{basis_of(found)}"), table, Text(_legend(), style="dim"))


def _bar(row: TimelineRow, begins: float, lasts: float, width: int) -> Text:
    """Cells of the chart: copying, waiting for its cutover, cutting over."""
    if row.begin is None:
        return Text(_NEVER * width, style="red")

    def cell(at: float) -> int:
        return min(round((at - begins) / lasts * width), width - 1)

    copied = row.copied if row.copied is not None else row.end
    stop = row.end if row.end is not None else begins + lasts
    first, last = cell(row.begin), cell(stop)
    ready = cell(stop if copied is None else copied)
    cut = cell(row.cutover) if row.cutover is not None else last if row.end is not None else width
    text = Text(" " * first)
    for place in range(first, last + 1):
        if place >= cut and (place > ready or place == last) and row.cutover is not None:
            text.append(_CUTOVER, style="magenta")
        elif place > ready:
            text.append(_HOLD, style="yellow")
        else:
            text.append(_COPY, style="green" if row.state is Progressing.FINISHED else "blue")
    return text


def _axis(begins: float, ends: float, width: int) -> str:
    """When the chart begins and ends, as times of day if that is enough."""
    first, last = (time.strftime(_form(begins, ends), time.localtime(at)) for at in (begins, ends))
    return first + last.rjust(width - len(first))


def _form(begins: float, ends: float) -> str:
    one_day = time.localtime(begins)[:3] == time.localtime(ends)[:3]
    return "%H:%M" if one_day else "%m-%d %H:%M" if ends - begins < _MONTHS else "%Y-%m-%d"


def _legend() -> str:
    return f"{_COPY} copies   {_HOLD} waits for its cutover   {_CUTOVER} cuts over   {_NEVER} never"
