"""Probes of the lab's link against what it was set to, and that they leave nothing behind. Needs root."""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from drover.errors import EngineError
from drover.estimator import probe as probes
from drover.estimator.rates import epoch_cost
from drover.lab import Lab
from drover.model.observation import LinkObservation, Workload
from tests.estimator.test_observe import wait_until
from tests.migration.world import guards, processes

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the lab needs root")
_SCRIPT = """
import sys
from drover.estimator.probe import probe
say = lambda share, words: print(words, flush=True)
probe(sys.argv[1], sys.argv[2], on_progress=say)
"""
HEADERS = 1500 / 1448
"""Bytes of IP packets, which the link counts, for each byte that TCP carries."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    path = Path(tempfile.mkdtemp(prefix="lab-")).resolve()
    made = Lab(path)
    try:
        made.up()
        yield made
    finally:
        made.reset()
        shutil.rmtree(path, ignore_errors=True)


def nothing_left(lab: Lab) -> bool:
    engines = [words for words in processes(lab).values() if any(b"/libvirt/drover/" in word for word in words)]
    folders = [path for site in lab.sites for path in (site.folder / "lib" / "drover").glob("*")]
    return not engines and not folders


def observe(lab: Lab, *, rate: float, round_trip: float, loss: float = 0.0, budget: int = 160 << 20) -> LinkObservation:
    lab.link.set(rate=rate, delay=round_trip / 2, loss=loss)
    alpha, beta = (site.uri for site in lab.sites)
    sent = lab.link.describe()["counters"]["alpha_to_beta"]["bytes"]
    found = probes.probe(alpha, beta, budget=budget, share=1.0)
    sent = lab.link.describe()["counters"]["alpha_to_beta"]["bytes"] - sent
    # Sending again what was lost is not in the budget, nor are headers.
    assert sent < budget * HEADERS * (1.05 + found.state.retransmitted / found.state.segments)
    assert nothing_left(lab)
    return found


@pytest.mark.parametrize(("mbit", "round_trip", "loss"), [(100, 0.02, 0.0), (50, 0.04, 0.002)], ids=["clean", "losing"])
def test_a_probe_finds_what_the_link_was_set_to(lab: Lab, mbit: int, round_trip: float, loss: float) -> None:
    truth = mbit * 1e6 / 8
    found = observe(lab, rate=truth, round_trip=round_trip, loss=loss)
    best = max(probe.rate.value for probe in found.bulk.values())
    assert best * HEADERS == pytest.approx(truth, rel=0.10)
    assert found.state.round_trip.value == pytest.approx(round_trip, rel=0.05)
    if loss:
        # A busy machine drops more than the emulator was told to; `bench probe` asks for a factor of 1.5.
        assert loss / 2 <= found.state.loss <= loss * 2.5
    else:
        assert found.state.loss < 0.0005
    assert found.state.mtu == 1500
    epochs = [probe for probe in found.probes if probe.workload is Workload.EPOCH]
    assert len({probe.blocks for probe in epochs}) == 3
    cost = epoch_cost(found.probes)
    assert cost is not None and round_trip < cost[0] < 10 * round_trip
    assert LinkObservation.model_validate_json(found.model_dump_json()) == found


def test_a_probe_that_is_interrupted_leaves_nothing(lab: Lab) -> None:
    lab.link.set(rate=10e6, delay=0.005, loss=0)
    alpha, beta = (site.uri for site in lab.sites)

    def interrupt(_share: float, words: str) -> None:
        if words.startswith("bulk"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        probes.probe(alpha, beta, on_progress=interrupt)
    assert nothing_left(lab)


@pytest.mark.parametrize("at", ["waiting", "bulk over 2"])
def test_a_probe_that_is_killed_leaves_nothing(lab: Lab, tmp_path: Path, at: str) -> None:
    lab.link.set(rate=10e6, delay=0.005, loss=0)
    alpha, beta = (site.uri for site in lab.sites)
    process = subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, alpha, beta], stdout=subprocess.PIPE,
        env={**os.environ, "DROVER_DATA": str(tmp_path)},
    )  # fmt: skip
    assert process.stdout is not None
    while not (line := process.stdout.readline()).startswith(at.encode()):
        assert line, "it ended before it was killed"
    engines = [words for words in processes(lab).values() if any(b"/libvirt/drover/" in word for word in words)]
    assert len(engines) == 2 and guards(tmp_path)
    process.kill()
    process.communicate(timeout=30)
    wait_until(lambda: nothing_left(lab))
    wait_until(lambda: not guards(tmp_path))


def test_a_probe_that_ends_needs_its_guard_no_more(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DROVER_DATA", str(tmp_path))
    lab.link.set(rate=50e6, delay=0.001, loss=0)
    alpha, beta = (site.uri for site in lab.sites)
    probes.probe(alpha, beta, budget=16 << 20, share=1.0, connections=(1,))
    assert nothing_left(lab) and not guards(tmp_path)


def test_a_link_that_breaks_is_told_and_nothing_is_left(lab: Lab) -> None:
    lab.link.set(rate=10e6, delay=0.005, loss=0)
    alpha, beta = (site.uri for site in lab.sites)
    timer = threading.Timer(4.0, lab.link.cut)
    timer.start()
    try:
        with pytest.raises(EngineError, match="broke while it was probed"):
            probes.probe(alpha, beta, share=1.0)
    finally:
        timer.join()
        lab.link.heal()
    assert nothing_left(lab)


def test_a_limit_is_kept(lab: Lab) -> None:
    lab.link.set(rate=50e6, delay=0.001, loss=0)
    alpha, beta = (site.uri for site in lab.sites)
    found = probes.probe(alpha, beta, budget=16 << 20, share=1.0, bandwidth_limit=4_000_000, connections=(1,))
    # Of 50 MB/s; what waited while the machine was busy goes all at once.
    assert 2.5e6 < found.bulk[1].rate.value < 6.5e6
