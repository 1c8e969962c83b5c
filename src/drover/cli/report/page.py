"""The page: what of a forecast goes into the template."""

import time
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from drover.cli.forecast_view import cutovers, rows, shared_words, span
from drover.cli.report.charts import dirty_chart, duration_chart, hours_chart, link_chart
from drover.errors import DroverError
from drover.estimator.answer import Answer
from drover.estimator.draw import subject
from drover.model.units import format_count, format_duration, format_rate, format_size


def write_report(answer: Answer, target: Path) -> None:
    """Writes the report; an older one of that name is replaced at once. Raises DroverError if it cannot be written."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals.update(
        span=span, size=format_size, rate=format_rate, duration=format_duration, count=format_count
    )
    template = environment.from_string((resources.files(__package__) / "report.html").read_text())
    write_page(target, template.render(_content(answer)))


def write_page(target: Path, page: str) -> None:
    """Writes a page; an older one of that name is replaced at once. Raises DroverError if it cannot be written."""
    part = target.with_name(target.name + ".part")
    try:
        part.write_text(page)
        part.replace(target)
    except OSError as error:
        raise DroverError(
            f"cannot write the report {target}: {error.strerror}", remedy="name a file in a folder that is writable"
        ) from error


def _content(answer: Answer) -> dict[str, Any]:
    shown = answer.shown
    now = shown.at
    ends = {name: _date(now + getattr(shown.whole.duration, name)) for name in ("p10", "p50", "p90")}
    return {
        "forecast": shown,
        "whole": shown.whole,
        "rows": rows(shown),
        "cutover": cutovers(shown),
        "made": _date(now),
        "ends": ends,
        "vms": [(observation, subject(observation)) for observation in answer.observations],
        "link": answer.links[0] if answer.links else None,
        "shared": [(one.vm, words) for one in shown.sharing if (words := shared_words(one))],
        "charts": {
            "duration": duration_chart(shown),
            "dirty": dirty_chart(answer.observations),
            "link": link_chart(answer.links[0]) if answer.links else None,
            "hours": hours_chart(answer.links),
        },
    }


def _date(at: float) -> str:
    return time.strftime("%A %d %B %Y, %H:%M", time.localtime(at))
