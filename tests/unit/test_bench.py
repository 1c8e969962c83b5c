"""The bench's own judgement: what it counts as equal, as met, and what one failure does to the others."""

import os
from pathlib import Path

import pytest
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
