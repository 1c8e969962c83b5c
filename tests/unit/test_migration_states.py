"""A migration's life has the steps that the design lists and no others."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drover.model.migration import State, may_follow


def test_the_straight_way_leads_to_the_end() -> None:
    way = [
        State.PLANNED, State.PREPARING, State.REPLICATING, State.READY, State.CUTTING_OVER,
        State.VERIFYING, State.STARTING, State.FINISHED,
    ]  # fmt: skip
    assert all(may_follow(before, after) for before, after in pairwise(way))


@pytest.mark.parametrize("state", [state for state in State if not state.ended])
def test_whatever_has_not_ended_can_be_paused_cancelled_or_fail(state: State) -> None:
    assert may_follow(state, State.PAUSED)
    assert may_follow(state, State.CANCELLED)
    assert may_follow(state, State.FAILED)


@pytest.mark.parametrize("end", [State.FINISHED, State.CANCELLED])
def test_an_end_is_an_end(end: State) -> None:
    assert [after for after in State if may_follow(end, after)] == [end]


@given(st.lists(st.sampled_from(list(State)), max_size=30))
def test_no_walk_starts_the_destination_before_verification(steps: list[State]) -> None:
    """The only ways into `starting` are verification, and a run that takes up what an earlier one verified."""
    at = State.PLANNED
    for step in steps:
        if not may_follow(at, step):
            continue
        if step is State.STARTING and at is not State.STARTING:
            assert at in (State.VERIFYING, State.PAUSED, State.FAILED, State.PREPARING)
        at = step
