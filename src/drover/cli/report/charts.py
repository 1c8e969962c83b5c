"""The report's pictures, as SVG that needs no script."""

from collections.abc import Sequence

import pygal
from markupsafe import Markup

from drover.charts import drawn, settings
from drover.estimator.draw import subject
from drover.estimator.link_hours import rates_by_hour
from drover.model.forecast import Forecast
from drover.model.observation import LinkObservation, VmObservation
from drover.model.units import format_duration, format_rate, format_size

_WINDOWS = tuple(10 ** (exponent / 4) for exponent in range(15))
"""1 second to about an hour."""


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
    form = settings(lambda size: format_size(size), height=320)
    chart = pygal.XY(**form, x_value_formatter=lambda seconds: format_duration(seconds), dots_size=2)
    for observation in observations:
        curve = subject(observation).curve
        chart.add(observation.vm, [(window, curve(window)) for window in _WINDOWS])
    return drawn(chart)


def link_chart(link: LinkObservation) -> Markup:
    """What the link carries over more and more connections."""
    chart = pygal.Bar(**settings(lambda rate: format_rate(rate), height=280), show_legend=False)
    bulk = sorted(link.bulk.items())
    chart.x_labels = [str(connections) for connections, _ in bulk]
    rates = [probe.rate for _, probe in bulk]
    chart.add("rate", [{"value": rate.value, "ci": {"low": rate.low, "high": rate.high}} for rate in rates])
    return drawn(chart)


def hours_chart(links: Sequence[LinkObservation]) -> Markup | None:
    """What the link carries by the hour of the day; None if only one hour was measured."""
    hours = rates_by_hour(links)
    if len(hours) < 2:
        return None
    chart = pygal.Bar(**settings(lambda rate: format_rate(rate), height=280), show_legend=False)
    chart.x_labels = [f"{hour:02}:00" for hour in hours]
    chart.add("rate", [{"value": rate.value, "ci": {"low": rate.low, "high": rate.high}} for rate in hours.values()])
    return drawn(chart)
