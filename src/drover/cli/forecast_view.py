"""A forecast as a page of text with a small chart."""

from collections.abc import Sequence

from rich.bar import Bar
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from drover.estimator.answer import Answer
from drover.estimator.draw import subject
from drover.estimator.link_hours import rates_by_hour
from drover.estimator.tuning import tune
from drover.model.forecast import Forecast, Range, Sharing, VmForecast
from drover.model.observation import LinkObservation, VmObservation
from drover.model.units import format_count, format_duration, format_rate, format_size

_WINDOWS = (1.0, 10.0, 60.0, 600.0, 3600.0, 86400.0)
_BAR = 30


def show_answer(answer: Answer, console: Console | None = None) -> None:
    """Prints it: the answer first, then what it rests on."""
    out = console or Console()
    shown = answer.shown
    _headline(out, shown)
    if len(shown.vms) > 1 or shown.groups:
        out.print(_vms(shown))
    out.print(_methods(shown))
    if shown.trade_off:
        out.print("\n[bold]What a maximum downtime costs[/]")
        out.print(_trade_off(shown))
    for warning in shown.warnings:
        out.print(f"[yellow]![/] {escape(warning)}", highlight=False)
    for observation in answer.observations:
        _observation(out, observation)
    for shared in shown.sharing:
        if words := shared_words(shared):
            out.print(f"{shared.vm}: {words}", markup=False, highlight=False)
    if answer.links:
        _link(out, answer.links)
    if shown.settings:
        out.print("\n[bold]Settings[/]: " + " ".join(f"{name} {value}" for name, value in shown.settings.items()))
    learnt = (
        f"corrected by {format_count(shown.corrected_by, 'finished migration')}"
        if shown.corrected_by
        else "not yet corrected"
    )
    out.print(
        f"[dim]Ranges hold 80 of 100 cases; {learnt}. {format_duration(shown.horizon)} of observation.[/]",
        highlight=False,
    )


def span(said: Range, form: object = format_duration) -> str:
    """`12 s (10 s – 15 s)`."""
    assert callable(form)
    return f"{form(said.p50)} ({form(said.p10)} – {form(said.p90)})"


def cutovers(shown: Forecast) -> str:
    """The mode, or the modes of different VMs."""
    return " and ".join(sorted({str(vm.cutover) for vm in shown.vms}))


def summary(shown: Forecast) -> str:
    """One sentence for those who begin at once."""
    whole = shown.whole
    return f"forecast: {span(whole.duration)}, down for {span(whole.downtime)}"


def _headline(out: Console, shown: Forecast) -> None:
    whole = shown.whole
    out.print(f"[bold]{whole.vm}[/] from {shown.source} to {shown.destination}", highlight=False, soft_wrap=True)
    out.print(f"[bold]{shown.recommended}[/], cutover {cutovers(shown)}: ", end="")
    out.print(f"{span(whole.duration)}, down for {span(whole.downtime)}", highlight=False)
    for reason in shown.reasons:
        out.print(f"  {reason}", highlight=False)
    out.print()


def rows(shown: Forecast) -> list[tuple[str, VmForecast]]:
    """Each VM, each group, and the whole if that is more than one VM, with what to call it."""
    of_groups = [(f"group {group.vm}", group) for group in shown.groups]
    whole = [(f"all {shown.whole.vm}", shown.whole)] if len(shown.vms) > 1 else []
    return [*((vm.vm, vm) for vm in shown.vms), *of_groups, *whole]


def _vms(shown: Forecast) -> Table:
    planned = bool(shown.question.batches)
    times = ["cutover", "begins after", "done after"] if planned else ["duration"]
    table = _table("VM", *times, "down for", "over the link", "gate opens")
    for name, vm in rows(shown):
        turn = [_mode(shown, vm), span(vm.begins) if vm.begins and vm.begins.p90 else ""] if planned else []
        wire = span(vm.wire_bytes, format_size)
        table.add_row(escape(name), *turn, span(vm.duration), span(vm.downtime), wire, f"{vm.opens:.0%}")
    return table


def _mode(shown: Forecast, said: VmForecast) -> str:
    """Of a VM; those of a group may differ."""
    return str(said.cutover) if said in shown.vms else ""


def _methods(shown: Forecast) -> Table:
    table = _table("method", "duration", "down for", "over the link", "")
    for option in shown.options:
        mark = "[bold]" if option.method == shown.recommended else ""
        table.add_row(
            f"{mark}{option.method}",
            span(option.duration),
            span(option.downtime),
            span(option.wire_bytes, format_size),
            option.note,
        )
    return table


def _trade_off(shown: Forecast) -> Table:
    table = _table("at most", "cutover", "duration", "down for", "gate opens", "")
    for row in shown.trade_off:
        note = ""
        if row.opens < 0.5:
            note = f"with writes slowed to {row.write_share:.0%}" if row.write_share > 0 else "cannot be met"
        table.add_row(
            format_duration(row.max_downtime),
            str(row.cutover),
            span(row.duration) if row.opens >= 0.5 else "—",
            span(row.downtime) if row.opens >= 0.5 else "—",
            f"{row.opens:.0%}",
            note,
        )
    return table


def _observation(out: Console, observation: VmObservation) -> None:
    known = subject(observation)
    out.print(f"\n[bold]{observation.vm}[/]: {format_size(known.size)}", end="", highlight=False)
    for content in known.content:
        ratio = min((ratio.value for ratio in content.ratios.values()), default=1.0)
        out.print(
            f"; {content.vdisk}: {format_size(content.allocated)} allocated, {content.zero.value:.0%} of it zeros, "
            f"{content.duplicate.value:.0%} duplicates, compresses to {ratio:.0%}",
            end="",
            highlight=False,
        )
    out.print()
    seconds = max(known.seconds, 1.0)
    raw = sum(_written(observation, name) for name in observation.sizes) / seconds
    if not known.curve.points:
        out.print("  no writes were seen", highlight=False)
        return
    out.print(f"  writes {format_rate(raw)}; distinct bytes, in blocks of 64 KiB, written within:", highlight=False)
    largest = known.curve(_WINDOWS[-1]) or 1.0
    table = Table(box=None, show_header=False, pad_edge=False)
    for window in _WINDOWS:
        amount = known.curve(window)
        beyond = "" if window <= 1.05 * known.curve.points[-1].window else "[dim]expected[/]"
        bar = Bar(largest, 0, amount, width=_BAR)
        table.add_row(
            f"  {format_duration(window)}", bar, format_size(amount), f"(raw {format_size(raw * window)})", beyond
        )
    out.print(table)


def _written(observation: VmObservation, vdisk: str) -> int:
    totals = [sample.write_bytes for sample in observation.io if sample.vdisk == vdisk]
    return totals[-1] - totals[0] if totals else 0


def shared_words(shared: Sharing) -> str:
    """What of a VM's content is elsewhere too; empty if nothing is known of that."""
    said = [
        f"{part.value:.0%} ({part.low:.0%} – {part.high:.0%}) of its content {where}"
        for part, where in (
            (shared.together, "occurs again in it or in the other VMs, and is on transport devices once"),
            (shared.destination, "is in VMs at the destination too"),
        )
        if part is not None
    ]
    return "; ".join(said)


def _link(out: Console, links: Sequence[LinkObservation]) -> None:
    link = links[0]
    state = link.state
    out.print(
        f"\n[bold]The link[/]: round trip {format_duration(state.round_trip.value)} "
        f"({format_duration(state.round_trip.low)} – {format_duration(state.round_trip.high)}), "
        f"{state.loss:.2%} of the segments lost, MTU {state.mtu}"
        + (f"; {format_duration(state.busy.value)} while it is full" if state.busy else ""),
        highlight=False,
    )
    bulk = link.bulk
    best = max((probe.rate.value for probe in bulk.values()), default=1.0)
    table = Table(box=None, show_header=False, pad_edge=False)
    for connections, probe in sorted(bulk.items()):
        knee = "← used" if connections == link.knee else ""
        words = f"{format_rate(probe.rate.value)} ({format_rate(probe.rate.low)} – {format_rate(probe.rate.high)})"
        table.add_row(
            f"  {format_count(connections, 'connection')}", Bar(best, 0, probe.rate.value, width=_BAR), words, knee
        )
    out.print(table)
    for reason in tune(link).reasons:
        out.print(f"  {reason}", highlight=False)
    if len(hours := rates_by_hour(links)) > 1:
        out.print(f"  by the hour of the day, {len(links)} probes:", highlight=False)
        most = max(rate.high for rate in hours.values())
        table = Table(box=None, show_header=False, pad_edge=False)
        for hour, rate in hours.items():
            words = f"{format_rate(rate.value)} ({format_rate(rate.low)} – {format_rate(rate.high)})"
            table.add_row(f"  {hour:02}:00", Bar(most, 0, rate.value, width=_BAR), words)
        out.print(table)


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in titles:
        table.add_column(title)
    return table
