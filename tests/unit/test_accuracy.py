"""How forecasts learn from outcomes: intervals that are too narrow are widened until they hold what they promise."""

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drover.estimator.accuracy import ENOUGH, Correction, Score, accuracy, corrected, correction
from drover.model.forecast import Forecast, Method, Option, Question, Range, VmForecast
from drover.model.migration import Cutover
from drover.model.units import format_duration


def said(middle: float, half: float = 0.05) -> VmForecast:
    duration = Range(p10=middle * math.exp(-half), p50=middle, p90=middle * math.exp(half))
    same = Range(p10=1, p50=1, p90=1)
    return VmForecast(
        vm="vm", duration=duration, downtime=same, wire_bytes=same, cutover=Cutover.RESUME, epochs=same, opens=1
    )


def score(at: float, middle: float, was: float, half: float = 0.05) -> Score:
    raw = said(middle, half)
    return Score(
        migration=f"m-{at}", vm="vm", at=at, method="network", horizon=60, raw=raw, shown=raw,
        duration=was, downtime=1, wire_bytes=1,
    )  # fmt: skip


def outcomes(count: int, bias: float, spread: float, half: float = 0.05, seed: int = 1) -> list[Score]:
    chance = random.Random(seed)
    return [score(k, 100, 100 * math.exp(chance.gauss(bias, spread)), half) for k in range(count)]


@pytest.mark.parametrize("half", [0.01, 0.05, 0.5])
def test_eighty_of_a_hundred_outcomes_to_come_lie_within(half: float) -> None:
    learnt = correction(outcomes(60, 0.3, 0.1, half), "duration")
    interval = learnt.apply(said(100, half).duration)
    later = [one.duration for one in outcomes(400, 0.3, 0.1, half, seed=2)]
    held = sum(interval.p10 <= was <= interval.p90 for was in later) / len(later)
    assert 0.7 <= held <= 0.9


def test_forecasts_that_were_too_sure_do_not_stretch_a_wide_one_to_years() -> None:
    learnt = correction(outcomes(12, 0.0, 0.25, half=0.001), "duration")
    wide = learnt.apply(said(30, half=0.4).duration)
    assert 30 / 10 < wide.p10 < 30 < wide.p90 < 30 * 10


def test_groups_and_turns_of_a_plan_are_corrected_like_the_whole() -> None:
    row = said(100).model_copy(update={"begins": said(50).duration})
    options = [
        Option(method=method, duration=row.duration, downtime=row.downtime, wire_bytes=row.wire_bytes, note="")
        for method in (Method.NETWORK, Method.STOPPED)
    ]
    forecast = Forecast(
        at=0, source="a", destination="b", question=Question(), vms=[row], groups=[row], whole=row,
        recommended=Method.NETWORK, options=options,
    )  # fmt: skip
    scores = [replace(one, method=Method.NETWORK) for one in outcomes(60, 0.5, 0.01)]
    shown = corrected(forecast, scores)
    assert shown.groups[0] == shown.whole == shown.vms[0]
    assert shown.options[0].duration == shown.whole.duration and shown.options[1] == options[1]
    assert any(format_duration(shown.whole.downtime.p50) in reason for reason in shown.reasons)
    assert shown.whole.begins is not None
    factor = correction(scores, "duration").factor
    assert (shown.whole.duration.p50, shown.whole.begins.p50) == pytest.approx((100 * factor, 50 * factor))


def test_a_bias_is_taken_out_by_and_by() -> None:
    factors = [correction(outcomes(count, 0.5, 0.01), "duration").factor for count in (0, 1, 3, 10, 90)]
    assert factors[0] == 1
    assert factors == sorted(factors)
    assert factors[-1] == pytest.approx(math.exp(0.5), rel=0.03)


def test_few_outcomes_do_not_touch_the_width() -> None:
    assert correction(outcomes(ENOUGH - 1, 0, 0.5), "duration").stretch is None
    assert correction(outcomes(ENOUGH, 0, 0.5), "duration").stretch is not None


def test_nothing_known_changes_nothing() -> None:
    assert Correction().apply(said(7).duration) == said(7).duration


@given(st.lists(st.tuples(st.floats(0.1, 1e6), st.floats(0.1, 1e6)), min_size=1, max_size=40), st.floats(0, 3))
def test_a_corrected_interval_is_in_order_and_positive(pairs: list[tuple[float, float]], half: float) -> None:
    learnt = correction([score(k, middle, was, half) for k, (middle, was) in enumerate(pairs)], "duration")
    interval = learnt.apply(said(50, half).duration)
    assert 0 < interval.p10 <= interval.p50 <= interval.p90 < math.inf


def test_the_score_is_of_what_was_shown() -> None:
    found = accuracy([score(1, 110, 100), score(2, 90, 100), score(3, 100, 100)], "duration")
    assert found.median_error == pytest.approx(0.10)
    assert found.p90_error == pytest.approx(0.10)
    assert found.coverage == pytest.approx(1 / 3)
