"""A link that is probed again and again during an observation."""

import threading
from datetime import datetime

import pytest

from drover.errors import EngineError
from drover.estimator.link_hours import rates_by_hour
from drover.estimator.repeated import Repeated
from drover.model.observation import Interval, LinkObservation, LinkState, Probe, Workload


def test_it_goes_on_after_a_failure_until_it_is_left() -> None:
    times, enough = [0], threading.Event()

    def probe() -> None:
        times[0] += 1
        if times[0] == 1:
            raise EngineError("the link broke", remedy="mend it")
        if times[0] == 3:
            enough.set()

    with Repeated(probe, 0.01) as repeated:
        assert enough.wait(10)
    done = times[0]
    assert len(repeated.failures) == 1 and "the link broke" in repeated.failures[0]
    assert not enough.wait(0.05) or times[0] == done


def test_none_is_never() -> None:
    with Repeated(lambda: pytest.fail("it was probed"), None):
        pass


def test_the_hours_of_the_day_with_their_spread() -> None:
    def link(hour: int, minute: int, rate: float) -> LinkObservation:
        at = datetime(2026, 11, 3, hour, minute).timestamp()
        probe = Probe(at=at, workload=Workload.BULK, connections=1, bytes=1, seconds=1.0, rate=Interval.exactly(rate))
        state = LinkState(at=at, round_trip=Interval.exactly(0.01), loss=0.0, segments=1, mtu=1500, retransmitted=0)
        return LinkObservation(source="a", destination="b", at=at, state=state, probes=[probe])

    hours = rates_by_hour([link(22, 5, 9e6), link(12, 0, 2e6), link(12, 50, 4e6)])
    assert list(hours) == [12, 22]
    assert hours[12] == Interval(value=3e6, low=2e6, high=4e6) and hours[22].value == 9e6
