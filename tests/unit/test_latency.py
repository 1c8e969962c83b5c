"""Budgets as an administrator writes them; the p99 of a histogram is close to that of the requests in it."""

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drover.errors import InputError
from drover.model.latency import BOUNDARIES, Latencies, LatencyBudget


@pytest.mark.parametrize(
    ("text", "baseline", "limit"),
    [
        ("+20%", 0.010, 0.012),
        ("+5ms", 0.010, 0.015),
        ("+20%,+5ms", 0.010, 0.012),
        ("+5ms, +20%", 0.100, 0.105),
        ("+1s", 0.5, 1.5),
        ("off", 0.010, float("inf")),
    ],
)
def test_each_limit_that_is_given_holds(text: str, baseline: float, limit: float) -> None:
    budget = LatencyBudget.parse(text)
    assert budget.limit(baseline) == pytest.approx(limit)
    assert LatencyBudget.parse(str(budget)) == budget
    assert bool(budget) == (text != "off")


@pytest.mark.parametrize(
    "text", ["", "20%", "+", "+%", "+0%", "+0ms", "+5ms,+6ms", "+20%,", "++5ms", "+5mb", "+1.2.3%"]
)
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        LatencyBudget.parse(text)


@given(st.lists(st.integers(20_000, 9_000_000_000), min_size=1, max_size=300))
def test_the_p99_is_in_the_bin_of_the_slowest_but_one_percent(nanoseconds: list[int]) -> None:
    bins = [0] * (len(BOUNDARIES) + 1)
    for each in nanoseconds:
        bins[bisect_left(BOUNDARIES, each)] += 1
    figure = Latencies(requests=len(nanoseconds), seconds=1, bins=tuple(bins)).figure * 1e9
    exact = sorted(nanoseconds)[max(0, -(-99 * len(nanoseconds) // 100) - 1)]
    assert exact / 1.11 <= figure <= exact * 1.11


def test_without_bins_the_figure_is_the_mean() -> None:
    before, after = Latencies(requests=10, seconds=1), Latencies(requests=30, seconds=2)
    assert after.since(before).figure == pytest.approx(0.05)
    assert Latencies().figure == 0


def test_a_vm_that_was_started_again_counts_from_zero() -> None:
    assert Latencies(requests=5, seconds=1).since(Latencies(requests=30, seconds=2)).requests == 5


def test_one_vdisk_without_a_histogram_makes_it_a_mean() -> None:
    counted = Latencies(requests=2, seconds=1, bins=(2, *(0,) * len(BOUNDARIES)))
    uncounted = Latencies(requests=2, seconds=3)
    assert Latencies.sum([counted, Latencies()]).bins
    assert Latencies.sum([counted, uncounted]).figure == pytest.approx(1)
