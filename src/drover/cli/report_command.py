"""`drover report`: what migrations came to, for people, spreadsheets and programs."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from drover.cli import options
from drover.cli.remote import connected
from drover.errors import DroverError, InputError
from drover.model.units import format_duration, format_rate, format_size
from drover.reports.figures import MigrationFigures, Report
from drover.reports.gather import report as gathered
from drover.reports.page import as_html
from drover.reports.table import as_csv

_FORMATS = ("text", "csv", "json", "html")


def report(
    migration_id: Annotated[str | None, typer.Argument(metavar="[MIGRATION]", help="One migration, by id.")] = None,
    group: Annotated[str | None, typer.Option("--group", metavar="GROUP", help="A group, by id or name.")] = None,
    plan: Annotated[str | None, typer.Option("--plan", metavar="PLAN", help="All that runs of a plan began.")] = None,
    form: Annotated[str, typer.Option("--format", metavar="text|csv|json|html")] = "text",
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write it there. Default: stdout.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Report what migrations came to: bytes, rates, epochs, downtime and its parts, backpressure, errors and cures.

    Without a migration, group or plan: of all of them.
    """
    form = "json" if json else form
    if form not in _FORMATS:
        raise InputError(f"{form!r} is not a format of reports", remedy=f"use one of {', '.join(_FORMATS)}")
    made = _made(migration_id, group, plan)
    if form == "text":
        if output is not None:
            raise InputError("a report for the terminal goes to no file", remedy="add --format html, csv or json")
        _show(made)
        return
    writers: dict[str, Callable[[Report], str]] = {"csv": as_csv, "html": as_html, "json": _as_json}
    _write(writers[form](made), output)


def _as_json(made: Report) -> str:
    return made.model_dump_json() + "\n"


def _made(migration_id: str | None, group: str | None, plan: str | None) -> Report:
    asked: list[tuple[Any, str]] = [
        (kind, name)
        for kind, name in (("migration", migration_id), ("group", group), ("plan", plan))
        if name is not None
    ]
    if len(asked) > 1:
        raise InputError("a report is of one thing", remedy="name a migration, a group, or a plan")
    kind: Any
    kind, name = asked[0] if asked else ("all", "")
    if (remote := connected()) is None:
        return gathered(kind, name)
    return Report.model_validate(remote.get(f"/v1/reports/{kind}s/{name}" if asked else "/v1/reports"))


def _write(text: str, output: Path | None) -> None:
    if output is None:
        print(text, end="")
        return
    part = output.with_name(output.name + ".part")
    try:
        part.write_text(text)
        part.replace(output)
    except OSError as error:
        raise DroverError(
            f"cannot write the report {output}: {error.strerror}", remedy="name a file in a folder that is writable"
        ) from error


def _show(made: Report) -> None:
    console, summary = Console(highlight=False), made.summary
    states = ", ".join(f"{number} {state}" for state, number in summary.states.items())
    console.print(f"[bold]{made.kind}[/] ", end="")
    console.print(f"{made.name}: {summary.migrations} migrations" + (f" ({states})" if states else ""), markup=False)
    table = Table(box=None, pad_edge=False)
    for title in ("VM", "state", "background", "foreground", "wire", "rate", "epochs", "duration", "down for"):
        table.add_column(title, justify="left" if title in ("VM", "state") else "right")
    for one in made.migrations:
        table.add_row(*_row(one))
    console.print(table)
    for one in made.migrations:
        for fault in one.errors:
            done = "; ".join(fault.done)
            console.print(f"{one.vm} {fault.state}: {fault.what}" + (f" — {done}" if done else ""), markup=False)


def _row(one: MigrationFigures) -> tuple[str, ...]:
    return (
        one.vm,
        one.state,
        format_size(one.moved.background),
        format_size(one.moved.foreground),
        format_size(one.moved.wire),
        "" if one.rates.mean is None else format_rate(one.rates.mean),
        str(one.epochs.number),
        "" if one.duration is None else format_duration(one.duration),
        "" if one.downtime is None else format_duration(one.downtime.seconds),
    )
