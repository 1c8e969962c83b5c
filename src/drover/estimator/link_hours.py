"""What a link carries by the hour of the day: nights and noons differ. No I/O."""

from collections.abc import Sequence
from statistics import fmean

from drover.estimator.draw import hour_of, rate_of
from drover.model.observation import Interval, LinkObservation


def rates_by_hour(links: Sequence[LinkObservation]) -> dict[int, Interval]:
    """Bytes/s by local hour, in their order: the mean of the probes of that hour, the least and the most of them."""
    found: dict[int, list[float]] = {}
    for link in links:
        if (rate := rate_of(link, None)) is not None:
            found.setdefault(int(hour_of(link.at)), []).append(rate)
    return {
        hour: Interval(value=fmean(rates), low=min(rates), high=max(rates)) for hour, rates in sorted(found.items())
    }
