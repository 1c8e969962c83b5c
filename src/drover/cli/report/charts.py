"""The report's pictures, as SVG that needs no script."""

import math
from collections.abc import Mapping, Sequence

import pygal
from markupsafe import Markup

from drover.charts import drawn, settings
from drover.estimator.draw import subject
from drover.estimator.link_hours import rates_by_hour
from drover.model.forecast import Forecast
from drover.model.observation import Interval, LinkObservation, VmObservation
from drover.model.units import format_duration, format_rate, format_size

_WINDOWS = tuple(10 ** (exponent / 4) for exponent in range(15))
"""1 second to about an hour."""
_MARKS = (1, 10, 60, 600, 3600)
"""Seconds that the time axis of such windows names."""
_STEPS = 6
"""The most lines across a chart."""


def duration_chart(shown: Forecast) -> Markup:
    """How long each method takes and how long the VM is down: the middle, and the limits of 80 of 100 cases."""
    chart = pygal.HorizontalBar(
        **settings(lambda seconds: format_duration(seconds), height=90 + 70 * len(shown.options))
    )
    chart.x_labels = [str(option.method) for option in reversed(shown.options)]
    for title, quantity in (("duration", "duration"), ("down for", "downtime")):
        ranges = [getattr(option, quantity) for option in reversed(shown.options)]
        chart.add(title, [{"value": r.p50, "ci": {"low": r.p10, "high": r.p90}} for r in ranges])
    return drawn(chart)


def dirty_chart(observations: Sequence[VmObservation]) -> Markup:
    """Distinct bytes written within a time, by VM."""
    curves = [(observation.vm, subject(observation).curve) for observation in observations]
    form = settings(lambda size: format_size(size), height=320)
    form["y_labels"] = _even(max((curve(_WINDOWS[-1]) for _, curve in curves), default=0))
    # By powers of ten: a second and an hour are both to be seen.
    chart = pygal.XY(**form, x_value_formatter=lambda power: format_duration(10**power), dots_size=2)
    chart.x_labels = [math.log10(mark) for mark in _MARKS]
    for vm, curve in curves:
        chart.add(vm, [(math.log10(window), curve(window)) for window in _WINDOWS])
    return drawn(chart)


def link_chart(link: LinkObservation) -> Markup:
    """What the link carries over more and more connections."""
    return _rates({str(connections): probe.rate for connections, probe in sorted(link.bulk.items())})


def hours_chart(links: Sequence[LinkObservation]) -> Markup | None:
    """What the link carries by the hour of the day; None if only one hour was measured."""
    hours = rates_by_hour(links)
    if len(hours) < 2:
        return None
    return _rates({f"{hour:02}:00": rate for hour, rate in hours.items()})


def _rates(bars: Mapping[str, Interval]) -> Markup:
    form = settings(lambda rate: format_rate(rate), height=280)
    form["y_labels"] = _even(max((rate.high for rate in bars.values()), default=0))
    chart = pygal.Bar(**form, show_legend=False)
    chart.x_labels = list(bars)
    chart.add("rate", [{"value": rate.value, "ci": {"low": rate.low, "high": rate.high}} for rate in bars.values()])
    return drawn(chart)


def _even(most: float) -> list[float]:
    """Labels from 0 to above `most` bytes that are round in units of 1024."""
    step = 2.0 ** max(math.ceil(math.log2(max(most, 1) / _STEPS)), 0)
    return [step * number for number in range(math.ceil(most / step) + 1)]
