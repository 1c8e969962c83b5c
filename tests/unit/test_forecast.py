"""The forecast: its simulation against closed forms, its advice, its answers to what-ifs, its report."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drover.cli.questions import ask
from drover.cli.report import write_report
from drover.errors import InputError
from drover.estimator.answer import Answer
from drover.estimator.draw import subject
from drover.estimator.forecast import Known, forecast
from drover.estimator.order import Order
from drover.estimator.phases import History
from drover.estimator.simulate import FOREVER, Machine, Phases, simulate
from drover.estimator.simulate import Path as Way
from drover.model.forecast import Forecast, Method, Question, Range
from drover.model.migration import Cutover
from drover.model.observation import (
    Content,
    DirtySample,
    Interval,
    LinkObservation,
    LinkState,
    Probe,
    VmObservation,
    Workload,
)

GB = 1e9
DAY = Range(p10=20 * 3600, p50=24 * 3600, p90=30 * 3600)


def machine(
    content: float = 10 * GB, dirty: Callable[[float], float] = lambda _: 0.0, max_downtime: float = 30.0
) -> Machine:
    return Machine(
        name="vm", allocated=content, content=content, ratio=0.5, dirty_ratio=1.0, dirty=dirty, memory=0.0,
        max_downtime=max_downtime,
    )  # fmt: skip


def test_a_quiet_vm_takes_its_bytes_over_the_rate() -> None:
    (outcome,) = simulate([machine()], Way(rate=10e6, cover=GB), Phases())
    fixed = Phases().prepare + 10 * GB / Phases().verify_rate + outcome.downtime
    assert outcome.duration == pytest.approx(10 * GB * 0.5 / 10e6 + fixed, rel=0.02)
    assert outcome.opened


def test_disks_limit_where_the_link_does_not() -> None:
    (outcome,) = simulate([machine()], Way(rate=100 * GB, cover=100e6), Phases())
    assert outcome.duration == pytest.approx(100 + 10 * GB / Phases().verify_rate, rel=0.1)


def test_writes_make_it_longer_by_what_they_take_of_the_link() -> None:
    stream = machine(dirty=lambda seconds: 4e6 * seconds)
    (quiet,), (busy,) = (simulate([one], Way(rate=10e6, cover=GB), Phases()) for one in (machine(), stream))
    # The copied share grows from 0 to 1: dx/dt = (B - w·x)/S, so T = S/w · ln(B/(B - w)).
    assert busy.duration - quiet.duration == pytest.approx(5 * GB / 4e6 * math.log(10 / 6) - 500, rel=0.15)


def test_a_vm_that_writes_more_than_the_link_carries_does_not_get_through_the_gate() -> None:
    (outcome,) = simulate([machine(dirty=lambda s: 20e6 * s)], Way(rate=10e6, cover=GB), Phases())
    assert not outcome.opened
    assert outcome.duration <= FOREVER


def test_vms_share_the_link() -> None:
    alone = simulate([machine()], Way(rate=10e6, cover=GB), Phases())[0]
    both = simulate([machine(), machine()], Way(rate=10e6, cover=GB), Phases())
    assert both[0].duration == pytest.approx(2 * alone.duration, rel=0.05)


def test_a_group_is_down_and_done_together() -> None:
    small, large = simulate([machine(GB), machine()], Way(rate=10e6, cover=GB), Phases(), Order.together(2))
    assert (small.duration, small.downtime) == (large.duration, large.downtime)


@settings(max_examples=60)
@given(
    content=st.floats(0, 1e13), rate=st.floats(1e5, 1e10), cover=st.floats(1e6, 1e10),
    write=st.floats(0, 1e9), hot=st.floats(1, 1e12), together=st.booleans(),
)  # fmt: skip
def test_it_always_comes_to_an_end(
    content: float, rate: float, cover: float, write: float, hot: float, together: bool
) -> None:
    vm = machine(content, dirty=lambda seconds: min(write * seconds, hot))
    order = Order.together(2) if together else Order.each(2)
    for outcome in simulate([vm, vm], Way(rate=rate, cover=cover), Phases(), order):
        assert 0 < outcome.downtime < math.inf
        assert 0 < outcome.duration < math.inf
        assert outcome.wire_bytes >= 0


def observation(name: str = "vm", size: int = 512 << 20, write: float = 3e6, hot: float = 60e6) -> VmObservation:
    windows = (1.0, 2.0, 5.0, 10.0, 20.0, 60.0)
    share = Interval(value=0.3, low=0.28, high=0.32)
    return VmObservation(
        id="o-1", vm=name, uuid=name, site="a", began_at=0, ended_at=60, memory=128 << 20, sizes={"vda": size},
        dirty=[DirtySample(vdisk="vda", at=t, window=t, bytes=int(min(write * t, hot))) for t in windows],
        content=[
            Content(
                vdisk="vda", at=0, size=size, allocated=size, chunks=400, zero=share,
                duplicate=Interval.exactly(0), ratios={"lz4": Interval.exactly(0.5), "zstd": Interval.exactly(0.35)},
                speeds={"lz4": 500e6, "zstd": 200e6}, read_rate=800e6,
            )
        ],
    )  # fmt: skip


def link(rate: float, at: float = 0.0) -> LinkObservation:
    interval = Interval(value=rate, low=rate * 0.98, high=rate * 1.02)
    state = LinkState(at=at, round_trip=Interval.exactly(0.02), loss=0, segments=1, mtu=1500, retransmitted=0)
    probes = [Probe(at=at, workload=Workload.BULK, connections=n, bytes=1, seconds=1, rate=interval) for n in (1, 2, 4)]
    return LinkObservation(source="a", destination="b", at=at, state=state, probes=probes)


def known(*observations: VmObservation, links: list[LinkObservation]) -> Known:
    subjects = [subject(one) for one in observations or (observation(),)]
    return Known(source="a", destination="b", subjects=subjects, links=links, history=History([]))


def ask_of(rate: float, question: Question, *observations: VmObservation) -> Forecast:
    return forecast(known(*observations, links=[link(rate)]), question)


def test_more_bandwidth_is_sooner_done() -> None:
    times = [ask_of(rate, Question()).whole.duration.p50 for rate in (2e6, 10e6, 50e6)]
    assert times == sorted(times, reverse=True)


def test_the_range_holds_the_middle() -> None:
    whole = ask_of(20e6, Question()).whole
    for said in (whole.duration, whole.downtime, whole.wire_bytes):
        assert 0 < said.p10 < said.p50 < said.p90


def test_a_device_wins_where_the_link_is_thin_and_the_break_even_lies_between() -> None:
    large = observation(size=20 << 40, write=1e3)
    thin, thick = (ask_of(rate, Question(shipping=DAY), large) for rate in (2e6, 2e9))
    assert (thin.recommended, thick.recommended) == (Method.DEVICE, Method.NETWORK)
    assert thin.break_even is not None
    assert 2e6 < thin.break_even < 2e9


def test_an_impossible_downtime_is_said_to_be_so() -> None:
    said = ask_of(20e6, Question(max_downtime=0.5))
    assert said.whole.opens == 0
    assert any("do not depend on what the VM writes" in warning for warning in said.warnings)


def test_backpressure_is_advised_only_where_it_helps() -> None:
    busy = ask_of(4e6, Question(max_downtime=20, cutover=Cutover.RESUME), observation(write=30e6, hot=500e6))
    assert "--write-backpressure" in busy.settings
    assert "--write-backpressure" not in ask_of(50e6, Question(max_downtime=30)).settings


def test_a_target_time_that_may_be_missed_is_a_warning() -> None:
    assert any("target time" in warning for warning in ask_of(2e6, Question(target_time=10)).warnings)


def test_several_vms_are_told_apart_and_summed() -> None:
    said = ask_of(20e6, Question(together=True), observation("web"), observation("db"))
    assert [vm.vm for vm in said.vms] == ["web", "db"]
    assert said.whole.wire_bytes.p50 > max(vm.wire_bytes.p50 for vm in said.vms)


def test_without_a_limit_the_trade_off_is_shown_until_it_fits() -> None:
    rows = ask_of(20e6, Question()).trade_off
    assert [row.max_downtime for row in rows] == sorted(row.max_downtime for row in rows)
    assert rows[-1].opens > 0.95
    assert not ask_of(20e6, Question(max_downtime=5)).trade_off


def test_a_link_never_measured_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(InputError, match="never measured") as caught:
        forecast(known(links=[]), Question())
    assert "--link-rate" in str(caught.value.remedy)
    assert forecast(known(links=[]), Question(link_rate=10e6)).whole.duration.p50 > 10


def test_the_question_is_read_from_texts() -> None:
    empty = dict.fromkeys(("target_time", "cutover", "bandwidth", "compression", "connections", "write_backpressure"))
    said = ask(**empty, max_downtime="5s", together=True, shipping="20h..45h", device_rate="80MB", link_rate="100mbit")
    assert (said.max_downtime, said.link_rate, said.device_rate) == (5, 12.5e6, 80e6)
    assert said.shipping == Range(p10=20 * 3600, p50=30 * 3600, p90=45 * 3600)
    for wrong in ({"shipping": "9h..2h"}, {"max_downtime": "0s"}, {"cutover": "later"}, {"connections": 99}):
        with pytest.raises(InputError):
            ask(**(empty | {"max_downtime": None, "together": False, "shipping": None, "device_rate": None} | wrong))


def test_the_report_is_one_file_that_loads_nothing(tmp_path: Path) -> None:
    name = "web<script>"
    said = ask_of(20e6, Question(shipping=DAY), observation(name))
    target = tmp_path / "report.html"
    write_report(Answer(raw=said, shown=said, observations=[observation(name)], links=[link(20e6)]), target)
    page = target.read_text()
    assert "<script" not in page
    assert not any(f'{attribute}="http' in page for attribute in ("src", "href"))
    assert page.count("<svg") == 3
