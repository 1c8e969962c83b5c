"""Which finished migrations are set beside their forecasts, and what of them."""

import time
from pathlib import Path

import pytest

from drover.estimator.answer import Estimator
from drover.estimator.score import scores
from drover.model.forecast import Method, Range
from drover.model.migration import Cutover, CutoverFacts, Facts, Migration, Spec, State, Timings
from drover.model.observation import VmObservation
from drover.store import MigrationStore
from tests.unit.test_forecast import DAY, link, observation


def finished(name: str, *, created: float, begun: float, took: float, devices: tuple[str, ...] = ()) -> Migration:
    end = begun + took
    cutover = CutoverFacts(
        mode=Cutover.RESTART, stopping_at=end - 4, stopped_at=end - 3, verified_at=end - 2, started_at=end - 1
    )
    timings = Timings(begun_at=begun, replicating_at=begun + 1, copied_at=end - 6, compared_at=end - 5)
    return Migration(
        id=name,
        spec=Spec(vm=name, source="a", destination="b", devices=list(devices)),
        state=State.FINISHED,
        facts=Facts(uuid=f"uuid-{name}", token=1, cutover=cutover, timings=timings, sent_bytes=1000),
        created_at=created,
        updated_at=end,
    )


@pytest.fixture
def estimator(tmp_path: Path) -> Estimator:
    estimator = Estimator(tmp_path)
    estimator.links.add(link(20e6).model_copy(update={"source": "a", "destination": "b", "at": time.time()}))
    return estimator


def observed(estimator: Estimator, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: VmObservation = observation("web")
    monkeypatch.setattr(estimator, "latest", lambda _uuid: seen)


def test_the_time_in_the_queue_is_no_part_of_it(estimator: Estimator, monkeypatch: pytest.MonkeyPatch) -> None:
    observed(estimator, monkeypatch)
    migration = finished("m-1", created=0.0, begun=5000.0, took=60.0)
    estimator.remember(migration)
    (score,) = scores([migration], estimator.forecasts.all())
    assert score.duration == 60 and score.downtime == 3 and score.method is Method.NETWORK


def test_who_shared_the_link_is_left_out(estimator: Estimator, monkeypatch: pytest.MonkeyPatch) -> None:
    observed(estimator, monkeypatch)
    long, within, after = (
        finished(name, created=0.0, begun=begun, took=took)
        for name, begun, took in (("m-1", 100.0, 500.0), ("m-2", 200.0, 50.0), ("m-3", 700.0, 50.0))
    )
    for migration in (long, within, after):
        estimator.remember(migration)
    made = estimator.forecasts.all()
    assert [score.migration for score in scores([after, within, long], made)] == ["m-3"]
    assert [score.migration for score in scores([after, long], made)] == ["m-3", "m-1"]


def test_the_road_is_scored_as_the_road(estimator: Estimator, monkeypatch: pytest.MonkeyPatch) -> None:
    observed(estimator, monkeypatch)
    migration = finished("m-1", created=0.0, begun=0.0, took=90000.0, devices=("d-1",))
    assert estimator.before(migration) is None, "nobody said how long the devices travel"
    shown = estimator.before(migration, DAY)
    assert shown is not None and shown.recommended is Method.DEVICE
    assert isinstance(shown.whole.duration, Range) and shown.whole.duration.p50 > 80000
    (score,) = scores([migration], estimator.forecasts.all())
    assert score.method is Method.DEVICE and score.duration == 90000
    assert score.raw.duration == shown.whole.duration


def test_a_forecast_is_remembered_once(estimator: Estimator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    observed(estimator, monkeypatch)
    migration = MigrationStore(tmp_path).add(Spec(vm="web", source="a", destination="b"), Facts(uuid="u"))
    estimator.remember(migration)
    first = estimator.forecasts.all()[migration.id]
    estimator.remember(migration)
    assert estimator.forecasts.all()[migration.id] == first
