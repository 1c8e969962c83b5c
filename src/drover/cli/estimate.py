"""`drover estimate` and `drover what-if`: forecasts before anything is moved."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from drover.cli import options, whom
from drover.cli.forecast_view import show_answer
from drover.cli.output import print_json
from drover.cli.questions import ask
from drover.cli.report import write_report
from drover.errors import InputError
from drover.estimator.accuracy import QUANTITIES, accuracy
from drover.estimator.answer import Answer, Estimator
from drover.estimator.export import export as export_series
from drover.estimator.observe import observe
from drover.estimator.probe import Progress, probe
from drover.estimator.repeated import Repeated
from drover.estimator.sampling import sample
from drover.estimator.tuning import tune
from drover.model.observation import VmObservation
from drover.model.units import format_duration, format_rate, parse_duration, parse_size
from drover.platforms.libvirt.connection import open_uri
from drover.platforms.libvirt.inventory import find_domain

_DEFAULT = "vm"


class _Verbs(TyperGroup):
    """What begins with none of the verbs are VMs: `drover estimate web db` is `drover estimate vm web db`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "--version"):
            args = [_DEFAULT, *args]
        return list(super().parse_args(ctx, args))


app = typer.Typer(
    cls=_Verbs,
    no_args_is_help=True,
    help="Forecast a migration of running VMs: how long, how long down, by which method. `drover estimate VM…`",
)

_Html = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a report for others to read.")]


@app.command(_DEFAULT)
def estimate(
    vms: whom.Vms = None,
    source: whom.From = None,
    destination: whom.To = None,
    plan: whom.PlanFile = None,
    group: whom.Group = None,
    observe_for: Annotated[
        str, typer.Option("--observe", metavar="TIME", help="How long to look at the VMs' writes. 0: as seen before.")
    ] = "2m",
    measure: Annotated[
        bool, typer.Option("--probe/--no-probe", help="Measure the link, or use what was measured before.")
    ] = True,
    budget: Annotated[
        str, typer.Option("--probe-budget", metavar="SIZE", help="Send at most this much, each time.")
    ] = "256MiB",
    probe_every: Annotated[
        str,
        typer.Option("--probe-every", metavar="TIME", help="Measure the link again during a long observation. 0: no."),
    ] = "1h",
    max_downtime: options.MaxDowntime = None,
    target_time: options.TargetTime = None,
    cutover: options.CutoverMode = None,
    bandwidth: options.Bandwidth = None,
    compression: options.Compression = None,
    connections: options.Connections = None,
    write_backpressure: options.WriteBackpressure = None,
    destination_address: options.DestinationAddress = None,
    together: options.Together = False,
    shipping: options.Shipping = None,
    device_rate: options.DeviceRate = None,
    html: _Html = None,
    json: options.Json = False,
) -> None:
    """Observe running VMs without touching them, measure the link, and forecast their migration."""
    asked = whom.whom(vms, source, destination, plan, group)
    question = ask(
        planned=asked.planned,
        max_downtime=max_downtime,
        target_time=target_time,
        cutover=cutover,
        bandwidth=bandwidth,
        compression=compression,
        connections=connections,
        write_backpressure=write_backpressure,
        together=together,
        shipping=shipping,
        device_rate=device_rate,
    )
    estimator = Estimator()
    seconds = parse_duration(observe_for)
    quiet = Console(quiet=json, stderr=True)

    def measured(on_progress: Progress | None = None) -> None:
        link = probe(
            asked.source,
            asked.destination,
            budget=parse_size(budget),
            bandwidth_limit=asked.bandwidth if question.bandwidth is None else int(question.bandwidth),
            destination_address=destination_address or _address(asked),
            on_progress=on_progress,
        )
        estimator.links.add(link)

    if seconds:
        again = parse_duration(probe_every) if measure else 0.0
        with Repeated(measured, again or None) as repeated:
            observations = _observe(estimator, asked.source, asked.vms, seconds, quiet)
        for failure in repeated.failures:
            quiet.print(f"the link could not be measured meanwhile: {failure}", markup=False)
    else:
        observations = _seen(estimator, asked.source, asked.vms)
    if measure:
        with quiet.status("measuring the link …") as line:
            measured(lambda share, words: line.update(f"measuring the link: {words} ({share:.0%})"))
    _tell(estimator.answer(asked.source, asked.destination, observations, question), html, json)


def what_if(
    vms: whom.Vms = None,
    source: whom.From = None,
    destination: whom.To = None,
    plan: whom.PlanFile = None,
    group: whom.Group = None,
    link_rate: Annotated[
        str | None, typer.Option("--link-rate", metavar="RATE", help="If the link carried this, as in 1gbit.")
    ] = None,
    hour: Annotated[
        float | None, typer.Option("--hour", min=0, max=23.99, help="If it began at this hour of the day.")
    ] = None,
    max_downtime: options.MaxDowntime = None,
    target_time: options.TargetTime = None,
    cutover: options.CutoverMode = None,
    bandwidth: options.Bandwidth = None,
    compression: options.Compression = None,
    connections: options.Connections = None,
    write_backpressure: options.WriteBackpressure = None,
    together: options.Together = False,
    shipping: options.Shipping = None,
    device_rate: options.DeviceRate = None,
    html: _Html = None,
    json: options.Json = False,
) -> None:
    """The same forecast under other conditions, from what was observed and measured before: nothing is touched."""
    asked = whom.whom(vms, source, destination, plan, group)
    question = ask(
        planned=asked.planned,
        link_rate=link_rate,
        hour=hour,
        max_downtime=max_downtime,
        target_time=target_time,
        cutover=cutover,
        bandwidth=bandwidth,
        compression=compression,
        connections=connections,
        write_backpressure=write_backpressure,
        together=together,
        shipping=shipping,
        device_rate=device_rate,
    )
    estimator = Estimator()
    observations = _seen(estimator, asked.source, asked.vms)
    _tell(estimator.answer(asked.source, asked.destination, observations, question), html, json)


@app.command("accuracy")
def show_accuracy(json: options.Json = False) -> None:
    """How earlier forecasts turned out: errors by method and horizon, and how often the intervals held."""
    scores = Estimator().scores()
    groups: dict[tuple[str, str], list[Any]] = {}
    for score in scores:
        groups.setdefault((score.method, _horizon(score.horizon)), []).append(score)
    rows = [
        {"method": method, "horizon": horizon, "quantity": quantity, **vars(accuracy(group, quantity))}
        for (method, horizon), group in sorted(groups.items())
        for quantity in QUANTITIES
    ]
    if json:
        for row in rows:
            print_json(row)
        return
    console = Console()
    if not rows:
        console.print(
            "No finished migration had a forecast yet: `drover estimate VM…` before `drover migrate` makes one."
        )
        return
    table = Table(box=None, pad_edge=False)
    for title in (
        "method",
        "observed",
        "of",
        "migrations",
        "median error",
        "90 % below",
        "bias",
        "in the 80 % interval",
    ):
        table.add_column(title, justify="left" if title in ("method", "observed", "of") else "right")
    for row in rows:
        errors = [f"{row[key]:.0%}" for key in ("median_error", "p90_error")]
        table.add_row(
            str(row["method"]), str(row["horizon"]), str(row["quantity"]), str(row["count"]),
            *errors, f"{row['bias']:+.0%}", f"{row['coverage']:.0%}",
        )  # fmt: skip
    console.print(table)


@app.command("export")
def export(
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="A folder, or a file that ends in .zip.")],
    form: Annotated[str, typer.Option("--format", metavar="csv|parquet", help="One file for each series.")] = "csv",
    json: options.Json = False,
) -> None:
    """Write all that was observed and measured, and forecasts beside outcomes, for other programs."""
    known = Estimator()
    written = export_series(
        target, form, observations=known.observations, links=known.links.all(), scores=known.scores()
    )
    if json:
        print_json({"target": str(target), "files": written})
        return
    Console().print(f"{target}: {', '.join(written)}", markup=False)


def _address(asked: whom.Whom) -> str | None:
    """Where a plan says that the destination's host is reached."""
    return next((member.spec.destination_address for member in asked.members), None)


def _observe(
    estimator: Estimator, site: str, vms: Sequence[str], seconds: float, quiet: Console
) -> list[VmObservation]:
    with quiet.status("observing …") as line:
        seen = observe(
            estimator.observations,
            site,
            list(vms),
            seconds,
            lambda done: line.update(
                f"observing: {format_duration(max(done.of - done.seconds, 0))} left; "
                + ", ".join(f"{vm.vm} writes {format_rate(vm.written / max(done.seconds, 1))}" for vm in done.vms)
            ),
        )
        for observation in seen:
            sample(
                estimator.observations,
                site,
                observation.id,
                on_progress=lambda done, of: line.update(f"reading a sample: {done / max(of, 1):.0%}"),
            )
    for observation in seen:
        if observation.ended_because:
            quiet.print(f"{observation.vm}: the observation ended early: {observation.ended_because}", markup=False)
    return [estimator.observations.get(observation.id) for observation in seen]


def _seen(estimator: Estimator, site: str, vms: Sequence[str]) -> list[VmObservation]:
    connection = open_uri(site)
    found = []
    try:
        for vm in vms:
            observation = estimator.latest(find_domain(connection, vm).UUIDString())
            if observation is None:
                raise InputError(
                    f"{vm} was not observed in the last 30 days", remedy="`drover estimate` observes it; do that first"
                )
            found.append(observation)
    finally:
        connection.close()
    return found


def _tell(answer: Answer, html: Path | None, json: bool) -> None:
    if html is not None:
        write_report(answer, html)
    if json:
        tuning = tune(answer.links[0]).model_dump(mode="json") if answer.links else None
        print_json({**answer.shown.model_dump(mode="json"), "tuning": tuning})
        return
    show_answer(answer)
    if html is not None:
        Console().print(f"The report is in {html}", markup=False)


def _horizon(seconds: float) -> str:
    for limit in (60.0, 600.0, 3600.0, 86400.0):
        if seconds <= limit * 1.1:
            return f"up to {format_duration(limit)}"
    return "more than a day"
