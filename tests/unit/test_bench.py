"""The bench's own judgement: what it counts as equal, as met, and what one failure does to the others."""

import os
from pathlib import Path

import pytest
from bench import device
from bench.copiers import Task
from bench.equal import are_equal
from bench.goals import Goal
from bench.measure import Failure, Sample
from bench.places import loopback
from bench.rounds import Copier, take_turns

SIZE = 64 << 20


def sparse(path: Path, *writes: tuple[int, bytes]) -> Path:
    with path.open("wb") as file:
        file.truncate(SIZE)
        for offset, data in writes:
            os.pwrite(file.fileno(), data, offset)
    return path


def test_zeros_equal_a_hole_and_one_byte_anywhere_does_not(tmp_path: Path) -> None:
    one = sparse(tmp_path / "one", (1 << 20, b"data"), (9 << 20, bytes(4096)))
    assert are_equal(one, sparse(tmp_path / "same", (1 << 20, b"data")))
    assert not are_equal(one, sparse(tmp_path / "less"))
    assert not are_equal(one, sparse(tmp_path / "more", (1 << 20, b"data"), (SIZE - 1, b"x")))
    short = sparse(tmp_path / "short", (1 << 20, b"data"))
    os.truncate(short, SIZE - 1)
    assert not are_equal(one, short)


def test_a_failing_peer_and_a_wrong_copy_are_results_and_do_not_end_the_run(tmp_path: Path) -> None:
    source = sparse(tmp_path / "source", (0, b"data"))

    def right(task: Task) -> Sample:
        task.target.write_bytes(task.source.read_bytes())
        return Sample(2.0, 1.0)

    def wrong(task: Task) -> Sample:
        sparse(task.target)
        return Sample(1.0, 1.0)

    def crashing(_: Task) -> Sample:
        raise RuntimeError("it crashed")

    taking_part = [Copier("crashing", crashing, 2), Copier("wrong", wrong), Copier("right", right, 2)]
    found = take_turns(taking_part, Task(source, tmp_path / "target", loopback()))
    assert found["crashing"] == Failure("it crashed")
    assert isinstance(found["wrong"], Failure)
    assert found["right"] == Sample(2.0, 1.0)


@pytest.mark.parametrize(
    ("reached", "at_least", "verdict"),
    [(1.5, True, "met"), (1.49, True, "**NOT met**"), (1.51, False, "**NOT met**"), (None, False, "**NOT met**")],
)
def test_a_goal_is_met_or_not(reached: float | None, at_least: bool, verdict: str) -> None:
    assert Goal("speed", reached, 1.5, at_least).row()[-1] == verdict


@pytest.mark.parametrize(
    ("kernel", "limited_by", "loading", "unloading"),
    # 1000 bytes, 800 of them data, 400 on the device; dd writes 100 bytes/s, and 80 from the packs.
    [(1000.0, "dd", 0.5, 1.25), (50.0, "the slowest kernel", 2.0, 2.0)],
)
def test_a_device_is_held_against_what_is_slower(
    kernel: float, limited_by: str, loading: float, unloading: float
) -> None:
    seconds = {device.LOADING: 8.0, device.UNLOADING: 8.0, device.DD: 10.0, device.DD_BACK: 5.0}
    samples = {name: Sample(one, 1.0) for name, one in seconds.items()}
    kernels = {device.BLAKE3: (kernel, kernel), device.AES: (9e9, 9e9), device.ZSTD: (1.0, 1.0)}
    carried = device.Carried(1000, 800, 400, samples, {device.LOADING: 1, device.UNLOADING: 1}, kernels)
    goals = list(device.goals_of("mix", carried))
    assert [goal.reached for goal in goals] == [loading, unloading]
    assert all(goal.what.endswith(limited_by) for goal in goals)
