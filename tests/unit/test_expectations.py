"""What the planner expects of a VM: from its forecast, else from what was observed, else from its size."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from drover.estimator.answer import Estimator
from drover.model.forecast import Question
from drover.model.migration import Facts, Spec
from drover.model.timeline import Basis
from drover.planner.expect import ASSUMED_LINK, Expectation, Expectations
from drover.store import ForecastStore, LinkStore, MigrationStore
from tests.unit.test_forecast import GB, ask_of, link, observation
from tests.unit.test_plan_command import vm

RATE = 10e6
SPEC = Spec(vm="vm", source="a", destination="b")
SIZE = 50 << 30


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DROVER_DATA", str(tmp_path))


def lasts(expected: Expectation, rate: float = RATE) -> float:
    return expected.fixed + expected.wire / min(expected.rate or rate, rate) + expected.cutover


def test_a_vm_that_nobody_looked_at_is_reckoned_by_its_size() -> None:
    found = Expectations("a", "b")
    assert (found.link, found.known) == (ASSUMED_LINK, False)
    one = replace(vm("web"), vdisks=(replace(vm("web").vdisks[0], allocated=100 * int(GB)),))
    expected = found.of(one, SPEC)
    assert (expected.basis, expected.wire) == (Basis.SIZE, pytest.approx(51 * GB))
    slower = found.of(one, SPEC.model_copy(update={"bandwidth": 1000}))
    assert slower.rate == 1000
    assert 0 < expected.cutover <= slower.cutover


def test_what_was_observed_comes_close_to_the_simulation(monkeypatch: pytest.MonkeyPatch) -> None:
    LinkStore().add(link(RATE).model_copy(update={"at": time.time()}))
    seen = observation(size=SIZE)
    monkeypatch.setattr(Estimator, "latest", lambda _self, uuid: seen if uuid == "uuid-vm" else None)
    found = Expectations("a", "b")
    expected = found.of(vm("vm"), SPEC)
    assert (found.link, found.known, expected.basis) == (pytest.approx(RATE), True, Basis.OBSERVATION)
    simulated = ask_of(RATE, Question(max_downtime=30.0), seen).whole
    assert lasts(expected) == pytest.approx(simulated.duration.p50, rel=0.1)
    assert found.of(vm("other"), SPEC).basis is Basis.SIZE


def test_a_forecast_counts_more_than_either() -> None:
    LinkStore().add(link(RATE).model_copy(update={"at": time.time()}))
    made = ask_of(RATE, Question(max_downtime=30.0), observation(size=SIZE))
    migration = MigrationStore().add(SPEC, Facts(uuid="uuid-vm"))
    found = Expectations("a", "b")
    assert found.of(vm("vm"), SPEC, migration.id).basis is Basis.SIZE
    ForecastStore().add(migration.id, made, made)
    expected = found.of(vm("vm"), SPEC, migration.id)
    assert expected.basis is Basis.FORECAST
    assert lasts(expected) == pytest.approx(made.whole.duration.p50, rel=0.01)
    assert expected.wire == made.whole.wire_bytes.p50
