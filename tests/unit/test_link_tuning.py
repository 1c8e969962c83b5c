"""What follows from a probe, what TCP's figures mean, and that observations of links are kept."""

from pathlib import Path

import pytest

from drover.engine.status import Connection, LinkStatus, Tcp, TcpTotals
from drover.errors import InputError
from drover.estimator.path import Watch, between, loss
from drover.estimator.probe import probe
from drover.estimator.tuning import Buffers, HeldUp, buffer_advice, is_faster, judge, tune
from drover.model.observation import Interval, LinkObservation, LinkState, Probe, Workload
from drover.store.links import LinkStore

MB = 1e6
SYSCTL = """net.ipv4.tcp_rmem = 4096\t131072\t6291456
net.ipv4.tcp_wmem = 4096\t16384\t4194304
net.core.rmem_max = 212992
"""


def bulk(connections: int, rate: float, spread: float = 0.01) -> Probe:
    interval = Interval(value=rate, low=rate * (1 - spread), high=rate * (1 + spread))
    return Probe(at=0, workload=Workload.BULK, connections=connections, bytes=1, seconds=1, rate=interval)


def observation(*probes: Probe, at: float = 5.0, round_trip: float = 0.05) -> LinkObservation:
    state = LinkState(at=at, round_trip=Interval.exactly(round_trip), loss=0.0, segments=1, mtu=1500, retransmitted=0)
    return LinkObservation(source="a", destination="b", at=at, state=state, probes=list(probes))


def test_the_knee_and_what_each_step_gave() -> None:
    found = tune(observation(bulk(1, 10 * MB), bulk(2, 19 * MB), bulk(4, 31 * MB), bulk(8, 31.5 * MB)))
    assert found.connections == 4
    assert found.socket_buffer == round(2 * 31 * MB * 0.05 / 4)
    assert [row.kept for row in found.ledger] == [True, True, True, False]
    assert found.ledger[2].before == found.ledger[1].after
    assert (found.compression, found.chunk_size) == ("auto", 512 << 10)
    assert any("512 KiB" in reason for reason in found.reasons)


def test_nothing_measured_and_a_link_too_fast_to_compress_for() -> None:
    assert tune(observation()).connections == 1
    assert tune(observation(bulk(1, 3e9))).compression == "none"


def test_a_setting_is_kept_only_if_it_is_faster_beyond_doubt() -> None:
    before = Interval(value=100, low=95, high=105)
    assert judge("x", "1", before=before, after=Interval(value=110, low=104, high=116)).kept
    assert not judge("x", "1", before=before, after=Interval(value=110, low=90, high=130)).kept
    assert not is_faster(before, Interval(value=102, low=101, high=103))


def test_the_sysctl_that_holds_the_link_back_is_named() -> None:
    buffers = Buffers.parse(SYSCTL)
    assert buffers == Buffers(receive=6291456, send=4194304)
    assert Buffers.parse("net.ipv4.tcp_rmem = 1 2\n") is None
    calm = HeldUp()
    advice = buffer_advice(rate=125 * MB, round_trip=0.1, connections=4, held_up=calm, sender=buffers, receiver=buffers)
    assert len(advice) == 1, "6.25 MB are needed: only what sends has less"
    assert "net.ipv4.tcp_wmem of the source's host" in advice[0] and "8388608" in advice[0]
    fits = buffer_advice(rate=1 * MB, round_trip=0.1, connections=1, held_up=calm, sender=buffers, receiver=buffers)
    assert fits == []
    full = HeldUp(receiver=0.8)
    told = buffer_advice(rate=50 * MB, round_trip=0.1, connections=2, held_up=full, sender=None, receiver=buffers)
    assert "tcp_rmem" in told[0] and "80%" in told[0] and str(2 * 6291456) in told[0]


def test_loss_is_what_was_sent_again_in_earnest() -> None:
    assert loss(TcpTotals()) == 0
    sent = TcpTotals(segments=1000, retransmitted_segments=12, spurious_segments=2)
    assert loss(sent) == 0.01
    assert loss(TcpTotals(segments=10, retransmitted_segments=1, spurious_segments=5)) == 0
    assert between(sent, TcpTotals(segments=1500, retransmitted_segments=12)).segments == 500


def test_the_round_trip_is_that_of_the_idle_link_and_the_loss_that_without_a_queue() -> None:
    def link(ping: float, smoothed: float, sent: TcpTotals) -> LinkStatus:
        tcp = Tcp(
            round_trip_seconds=smoothed, min_round_trip_seconds=0.0402, mss=1400, path_mtu=1452, congestion="cubic"
        )
        one = Connection(index=0, state="up", tcp=tcp)
        return LinkStatus(state="up", each_connection=[one], round_trip_seconds=ping, tcp=sent)

    watch = Watch()
    with pytest.raises(ValueError, match="nothing"):
        watch.state()
    for ping in (0.043, 0.0425, 0.055, 0.0428):
        watch.see(link(ping, 0.045, TcpTotals()), idle=True)
    watch.see(link(0.2, 0.21, TcpTotals(segments=9000, retransmitted_segments=900)))
    state = watch.state()
    assert (state.round_trip.value, state.round_trip.low, state.round_trip.high) == (0.0425, 0.0402, 0.21)
    watch.see(link(0.0411, 0.045, TcpTotals()), idle=True)
    watch.see(link(0.0411, 0.21, TcpTotals(segments=9000, retransmitted_segments=900)), idle=True)
    assert watch.round_trip == 0.0402, "what the engines add is taken off"
    assert (state.loss, state.mtu, watch.congestion, watch.mss) == (0.1, 1452, "cubic", 1400)
    watch.see_gentle(TcpTotals(segments=2000, retransmitted_segments=2))
    assert watch.state().loss == 0.001


def test_observations_are_kept_by_link_and_time(tmp_path: Path) -> None:
    store = LinkStore(tmp_path)
    assert store.latest("a", "b") is None
    first, second = observation(bulk(1, 5 * MB), at=10), observation(at=20)
    store.add(second)
    store.add(first)
    store.add(first.model_copy(update={"destination": "c"}))
    assert LinkStore(tmp_path).latest("a", "b") == second
    assert store.all("a", "b") == [first, second]
    assert store.all("a", "b", since=15) == [second]
    assert [link.destination for link in store.all()] == ["b", "c", "b"]
    assert store.latest("b", "a") is None


@pytest.mark.parametrize(
    "asked", [{"budget": 1 << 20}, {"share": 0.0}, {"share": 1.5}, {"bandwidth_limit": 0}, {"connections": (0,)}]
)
def test_probes_that_make_no_sense_are_refused_before_anything_starts(asked: dict[str, float]) -> None:
    with pytest.raises(InputError):
        probe("qemu:///nowhere", "qemu:///nowhere", **asked)  # type: ignore[arg-type]
