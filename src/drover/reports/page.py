"""A report as a page to read and print."""

import time
from importlib import resources
from typing import Any

import pygal
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from drover.charts import drawn, settings
from drover.model.units import format_duration, format_rate, format_size
from drover.reports.figures import MigrationFigures, Report

_PARTS = ("stopping", "last_epoch", "verifying", "moving_memory", "starting")
_MOST = 30
"""Bars in a picture: of more, those that are largest."""


def as_html(report: Report) -> str:
    """One file without scripts, and without anything that is elsewhere."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals.update(size=format_size, rate=format_rate, duration=format_duration, date=_date)
    template = environment.from_string((resources.files(__package__) / "report.html").read_text())
    return template.render(
        report=report,
        summary=report.summary,
        downtime_chart=_downtime_chart(report.migrations),
        moved_chart=_moved_chart(report.migrations),
        slowed=[one for one in report.migrations if _was_slowed(one)],
        failed=[one for one in report.migrations if one.errors],
    )


def _downtime_chart(migrations: list[MigrationFigures]) -> Markup | None:
    parts = [(one.vm, one.downtime) for one in migrations if one.downtime is not None]
    largest = sorted(parts, key=lambda part: part[1].seconds)[-_MOST:]
    bars = {part: [getattr(downtime, part) for _, downtime in largest] for part in _PARTS}
    return _stacked([vm for vm, _ in largest], bars, lambda seconds: format_duration(seconds or 0))


def _moved_chart(migrations: list[MigrationFigures]) -> Markup | None:
    moved = [(one.vm, one.moved) for one in migrations if one.moved.background + one.moved.foreground > 0]
    largest = sorted(moved, key=lambda part: part[1].background + part[1].foreground)[-_MOST:]
    bars = {kind: [getattr(moved, kind) for _, moved in largest] for kind in ("background", "foreground", "memory")}
    return _stacked([vm for vm, _ in largest], bars, lambda size: format_size(int(size or 0)))


def _stacked(names: list[str], bars: dict[str, list[Any]], form: Any) -> Markup | None:
    if not names:
        return None
    chart = pygal.HorizontalStackedBar(**settings(form, height=110 + 30 * len(names)))
    chart.x_labels = names
    for title, values in bars.items():
        chart.add(title.replace("_", " "), values)
    return drawn(chart)


def _was_slowed(one: MigrationFigures) -> bool:
    return one.backpressure.writes_slowed_seconds > 0 or one.backpressure.background_held_seconds > 0


def _date(at: float | None) -> str:
    return "—" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
