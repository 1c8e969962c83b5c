"""`drover check`: would this migration work? Changes nothing."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from drover.cli import options
from drover.cli.output import print_json
from drover.replicator.check import Report
from drover.replicator.check import check as run_checks
from drover.store import MigrationStore


def check(
    vm: Annotated[str, typer.Argument(help="Name or UUID of the VM.")],
    source: options.From,
    destination: options.To,
    network: options.Network = [],  # noqa: B006
    pool: options.Pool = [],  # noqa: B006
    format: options.Format = [],  # noqa: B006
    destination_address: options.DestinationAddress = None,
    device: options.Device = [],  # noqa: B006
    json: options.Json = False,
) -> None:
    """Look at everything that a migration needs; each check that fails says what to do. Changes nothing."""
    given = {"destination_address": destination_address} if destination_address else {}
    spec = options.specification(vm, source, destination, network, pool, format, **given)
    report, _ = run_checks(spec, MigrationStore(), device)
    if json:
        print_json(report.as_json())
    else:
        show(report)
    if not report.passed:
        raise typer.Exit(3)


def show(report: Report) -> None:
    """The findings as a table."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for finding in report.findings:
        mark = "[green]✓[/]" if finding.passed else "[bold red]✗[/]"
        detail = finding.detail if finding.passed else f"{finding.detail} — {finding.remedy or ''}"
        table.add_row(mark, finding.subject, detail)
    Console().print(table)
