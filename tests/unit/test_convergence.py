"""Write backpressure against simulated VMs: only where it helps, no more than it takes, never below the floor."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drover.platforms.libvirt.power import limited
from drover.replicator.convergence import EPOCH_SECONDS, Load, Verdict, WriteLimit, advise, judge
from drover.replicator.speed import Amplification

FLOOR = 100_000


@dataclass
class World:
    """A VM that would write `demand` bytes/s and dirties `amplification` times that, and a link of `capacity`."""

    demand: float
    amplification: float
    capacity: float
    left: float = 0.0
    time_left: float | None = None
    room: float | None = None

    def load(self, writes: float) -> Load:
        dirty = writes * self.amplification
        return Load(
            copied=not self.left,
            left=int(self.left),
            background=max(0.0, self.capacity - dirty) if self.left else 0.0,
            foreground=min(dirty, self.capacity),
            time_left=self.time_left,
            capacity=self.capacity,
            dirty_rate=dirty,
            room=self.room,
        )

    def run(self, control: WriteLimit, steps: int) -> list[float]:
        """What the VM writes, step by step."""
        written = []
        for _ in range(steps):
            writes = self.demand if control.limit is None else min(self.demand, control.limit)
            control.step(writes, judge(self.load(writes)))
            written.append(writes)
        return written


worlds = st.builds(
    World,
    demand=st.floats(200e3, 500e6),
    amplification=st.floats(1, 16),
    capacity=st.floats(1e6, 1e9),
    room=st.floats(1e6, 1e9),
)


def bearable(world: World) -> float:
    """Bytes/s of writes at which epochs stay within the room."""
    assert world.room is not None
    return world.room / (EPOCH_SECONDS + world.room / world.capacity) / world.amplification


@given(worlds)
def test_it_slows_to_what_fits_and_no_further(world: World) -> None:
    control = WriteLimit(floor=FLOOR)
    written = world.run(control, 100)
    assert min(written) >= min(FLOOR, world.demand)
    if world.demand < 0.9 * bearable(world):
        assert control.limit is None
        assert min(written) == world.demand
    else:
        assert written[-1] <= max(bearable(world), FLOOR)
        assert min(written) >= min(0.85 * bearable(world), world.demand) or min(written) <= FLOOR


@given(worlds)
def test_steps_are_small(world: World) -> None:
    written = world.run(WriteLimit(floor=FLOOR), 60)
    assert all(after >= 0.79 * before for before, after in pairwise(written))


@given(worlds)
def test_it_lets_go_when_it_converges(world: World) -> None:
    control = WriteLimit(floor=FLOOR)
    world.run(control, 60)
    world.capacity *= 1e6
    world.room = 1e15
    world.run(control, 60)
    assert control.limit is None


@given(worlds)
def test_epochs_of_the_writes_that_fit_do_fit(world: World) -> None:
    """The formula against the process: each epoch holds what is dirtied while the one before travels."""
    assert world.room is not None
    dirty_rate, size = bearable(world) * world.amplification, world.room * 3
    for _ in range(2000):
        size = dirty_rate * (EPOCH_SECONDS + size / world.capacity)
    assert size <= world.room * 1.1


@given(st.floats(1, 30), st.floats(0.05, 0.9))
def test_the_target_time_is_met_if_it_can_be(excess: float, share: float) -> None:
    world = World(demand=10e6, amplification=8, capacity=80e6 / excess, left=100e9)
    world.time_left = world.left / (share * world.capacity)
    control = WriteLimit(floor=1)
    written = world.run(control, 100)
    assert world.load(written[-1]).background >= 0.99 * world.left / world.time_left


def test_what_slower_writes_do_not_help_slows_nobody() -> None:
    hopeless = [
        World(demand=10e6, amplification=8, capacity=50e6, room=-1),
        World(demand=10e6, amplification=8, capacity=50e6, left=100e9, time_left=100),
        World(demand=10e6, amplification=8, capacity=50e6, left=100e9, time_left=-1),
    ]
    for world in hopeless:
        verdict = judge(world.load(world.demand))
        assert WriteLimit(floor=FLOOR).step(world.demand, verdict) is None
        words = advise(verdict, write_rate=world.demand, leave=True, floor=FLOOR, limit=None)
        assert words is not None and "would not help" in words
        assert WriteLimit(floor=FLOOR, limit=200_000, demand=220_000).step(200_000, verdict) is None


def test_a_background_that_the_latency_budget_holds_is_not_the_writes_fault() -> None:
    held = Load(
        copied=False, left=10**11, background=1e6, foreground=2e6, time_left=1000, held="--max-latency holds it"
    )
    verdict = judge(held)
    assert not verdict.curable
    assert "--max-latency" in (verdict.reason or "")
    assert judge(Load(copied=False, left=10**11, background=1e6, foreground=2e7, held="x")).reason is None


def test_the_prediction_says_what_would_help() -> None:
    verdict = Verdict(share=0.5, reason="it does not converge")
    refused = advise(verdict, write_rate=5 << 20, leave=False, floor=FLOOR, limit=None)
    assert refused is not None and "--write-backpressure" in refused and "5.0 MiB/s" in refused
    at_floor = advise(verdict, write_rate=FLOOR, leave=True, floor=FLOOR, limit=FLOOR)
    assert at_floor is not None and "--write-floor" in at_floor
    assert advise(Verdict(share=2), write_rate=1, leave=False, floor=FLOOR, limit=None) is None


def test_amplification_is_that_of_an_epochs_beginning() -> None:
    amplification = Amplification()
    written = 50 << 20
    amplification.add(3, 900 << 20, written)
    for epoch in (4, 5):
        amplification.add(epoch, 0, written)
        for dirty in (16, 24, 28, 30, 30):
            written += 1 << 20
            amplification.add(epoch, dirty << 20, written)
    assert amplification.factor == 16
    amplification.add(6, 0, 0)
    assert amplification.factor == 16


@pytest.mark.parametrize(
    ("own", "reads", "writes"),
    [
        ({}, 0, 1000),
        ({"write_bytes_sec": 500, "read_bytes_sec": 70}, 70, 500),
        ({"total_bytes_sec": 5000, "total_bytes_sec_max": 9000}, 4000, 1000),
        ({"total_bytes_sec": 1000}, 100, 900),
        ({"total_iops_sec": 10, "write_bytes_sec": 5000, "write_bytes_sec_max": 9000}, 0, 1000),
    ],
)
def test_limits_of_the_administrators_own_still_hold(own: dict[str, int], reads: int, writes: int) -> None:
    new = limited(own, 1000)
    assert (new["read_bytes_sec"], new["write_bytes_sec"], new["total_bytes_sec"]) == (reads, writes, 0)
    assert new["write_bytes_sec_max"] == 0
    assert new.get("total_iops_sec") == own.get("total_iops_sec")
