"""The course of a plan: what begins, goes on, stops, whatever ends how."""

from hypothesis import given
from hypothesis import strategies as st

from drover.plans.course import Course, End, Planned

DATABASE = Planned(name="database", members=("d1", "d2"))
SHOP = Planned(name="shop", members=("s1", "s2"), after=("database",))
ALONE = Planned(name="alone", members=("a",))


def test_what_comes_after_begins_when_all_of_what_it_waits_for_has_finished() -> None:
    course = Course([DATABASE, SHOP], at_once=4)
    assert course.begin().begin == ["d1", "d2"]
    assert course.ended("d1", End.FINISHED).begin == []
    assert course.ended("d2", End.FINISHED).begin == ["s1", "s2"]


def test_a_group_whose_vm_fails_pauses_and_what_comes_after_it_never_begins() -> None:
    course = Course([DATABASE, SHOP, ALONE], at_once=2)
    assert course.begin().begin == ["d1", "d2"]
    turn = course.ended("d1", End.FAILED)
    assert (turn.interrupt, turn.begin) == (["d2"], ["a"])
    assert course.ended("d2", End.FAILED).begin == []
    assert course.ended("a", End.FINISHED).begin == []
    assert course.unfinished == ["database", "shop"]


def test_a_killed_process_is_started_again_but_not_for_ever() -> None:
    course = Course([ALONE], at_once=1)
    course.begin()
    for _ in range(3):
        assert course.ended("a", End.KILLED).begin == ["a"]
    assert course.ended("a", End.KILLED).begin == []
    assert course.unfinished == ["alone"]


def test_what_an_earlier_run_finished_is_not_begun_again() -> None:
    course = Course([Planned(name="shop", members=("s1", "s2"), finished=frozenset({"s1"}))], at_once=2)
    assert course.begin().begin == ["s2"]
    course.ended("s2", End.FINISHED)
    assert course.unfinished == []


@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=6),
    at_once=st.integers(1, 6),
    ends=st.lists(st.sampled_from([End.FINISHED, End.FINISHED, End.FAILED, End.KILLED])),
    chance=st.randoms(use_true_random=False),
)
def test_every_course_ends_and_keeps_to_its_limit(sizes, at_once, ends, chance) -> None:  # type: ignore[no-untyped-def]
    batches = [
        Planned(
            name=f"g{number}",
            members=tuple(f"g{number}-{member}" for member in range(size)),
            after=(f"g{chance.randrange(number)}",) if number and chance.random() < 0.5 else (),
        )
        for number, size in enumerate(sizes)
    ]
    course = Course(batches, at_once)
    running = list(course.begin().begin)
    failed = False
    while running:
        assert len(running) <= max(at_once, max(sizes))
        one = running.pop(chance.randrange(len(running)))
        end = ends.pop() if ends else End.FINISHED
        turn = course.ended(one, end)
        failed |= end is not End.FINISHED
        assert set(turn.interrupt) <= set(running)
        running += turn.begin
    assert failed or not course.unfinished
