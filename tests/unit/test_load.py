"""A latency budget is recommended where the VM would notice the copy, with what it costs, and nowhere else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drover.estimator.load import Load, share_within, stretch
from drover.model.forecast import Question
from drover.model.latency import LatencyBudget
from drover.model.observation import IoSample, VmObservation
from tests.unit.test_forecast import ask_of, observation

GB = 1_000_000_000


def io(vdisk: str, at: float, requests: int, seconds: float) -> IoSample:
    """Half of them reads."""
    return IoSample(
        vdisk=vdisk, at=at, read_bytes=0, write_bytes=0, read_requests=requests // 2, write_requests=requests // 2,
        read_seconds=seconds / 2, write_seconds=seconds / 2,
    )  # fmt: skip


def busy(requests: int = 200, size: int = 400 * GB, name: str = "db") -> VmObservation:
    """Its requests take 2 ms, and its disk gives 800 MB/s beside them."""
    samples = [io("vda", 10 * k, 10 * requests * k, 0.02 * requests * k) for k in range(7)]
    return observation(name, size=size).model_copy(update={"io": samples})


def advice(rate: float, *vms: VmObservation, question: Question | None = None) -> list[str]:
    return [said for said in ask_of(rate, question or Question(), *vms).warnings if "--max-latency" in said]


def test_the_load_is_that_of_all_vdisks_and_survives_a_restart() -> None:
    series = [io("vda", 0, 100, 1), io("vdb", 0, 0, 0), io("vda", 10, 300, 3), io("vdb", 10, 100, 0.5)]
    load = Load.of([*series, io("vda", 20, 0, 0), io("vda", 30, 100, 1)])
    assert load is not None
    assert load.requests == pytest.approx(400 / 30)
    assert load.latency == pytest.approx(3.5 / 400)
    assert Load.of([]) is Load.of([io("vda", 0, 5, 1), io("vda", 9, 5, 1)]) is Load.of([io("vda", 0, 5, 1)]) is None


@given(st.floats(0, 0.89))
def test_a_copy_that_takes_what_is_allowed_stretches_by_what_is_allowed(share: float) -> None:
    growth = stretch(share) - 1
    assert share_within(growth) == pytest.approx(share, abs=1e-9)


def test_what_would_be_noticed_is_said_with_what_it_buys_and_costs() -> None:
    (said,) = advice(GB, busy())
    assert said.startswith("db: ") and "2 ms on the average" in said
    # Of 800 MB/s half is read, whatever the link, and a third may be: 1500 s instead of 1000 s, more or less.
    assert "about 1.9 times as long" in said and "about 254 MiB/s" in said
    assert "--max-latency +50%" in said and "7 min 45 s more" in said


@pytest.mark.parametrize(
    ("rate", "vm"),
    [
        (10e6, busy()),
        (GB, busy(requests=10)),
        (GB, busy(size=4 * GB)),
        (GB, observation("idle", size=400 * GB)),
        (GB, busy().model_copy(update={"content": []})),
    ],
    ids=["a thin link", "a quiet VM", "a brief copy", "no I/O seen", "no sample of its content"],
)
def test_what_would_not_be_noticed_or_is_not_known_is_not_said(rate: float, vm: VmObservation) -> None:
    assert advice(rate, vm) == []


def test_each_vm_is_judged_by_itself_and_a_given_budget_is_not_recommended_again() -> None:
    both = advice(10 * GB, busy(), busy(requests=5, name="web"))
    assert len(both) == 1 and both[0].startswith("db: ")
    assert advice(GB, busy(), question=Question(max_latency=LatencyBudget.parse("+20%"))) == []
