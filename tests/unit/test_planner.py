"""The planner: schedules that keep every limit, dependency, window and pin, close to the best order that there is."""

import math
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drover.errors import InputError
from drover.model.order import Pin
from drover.planner.schedule import schedule
from drover.planner.solve import solve
from drover.planner.work import Job, NextWindow, Slot, Task, World, makespan
from drover.plans.needs import Needs, Resource
from drover.plans.turns import PLAN

NOW = 1796508000.0
"""2026-12-05 22:00 UTC."""
LINK = 100.0
A, B, THERE = Resource("host", "a"), Resource("host", "b"), Resource("host", "there")
WORST = 1.1
"""How much longer than the best of all orders the planner's may take."""


def task(vm: str = "vm", *, wire: float = 1000.0, fixed: float = 0.0, cutover: float = 0.0, host: Resource = A) -> Task:
    needs = Needs(copying=frozenset({host}), cutover=frozenset({THERE}))
    return Task(vm=vm, fixed=fixed, wire=wire, cutover=cutover, needs=needs)


def job(name: str, *tasks: Task, **more: object) -> Job:
    return Job(name, tasks or (task(name),), **more)  # type: ignore[arg-type]


def world(link: float = LINK, **most: int) -> World:
    return World(now=NOW, link=link, most=most)


def every(period: float, length: float, until: float = math.inf) -> NextWindow:
    """Windows of `length` seconds at the end of each period from NOW on."""

    def following(after: datetime, needed: timedelta) -> datetime | None:
        at, long = after.timestamp() - NOW, needed.total_seconds()
        number = math.floor(at / period)
        while long <= length:
            opens = max((number + 1) * period - length, at)
            if opens >= until:
                return None
            if opens + long <= (number + 1) * period + 1e-6:
                return datetime.fromtimestamp(NOW + opens, UTC)
            number += 1
        return None

    return following


def minutes(slots: list[Slot]) -> dict[str, tuple[float | None, ...]]:
    """Seconds after NOW at which each begins, has copied, cuts over, ends."""
    return {
        slot.name: tuple(
            None if at is None else round(at - NOW, 3) for at in (slot.begin, slot.copied, slot.cutover, slot.end)
        )
        for slot in slots
    }


def test_the_link_is_shared_and_what_cannot_fill_its_share_leaves_it_to_the_others() -> None:
    slow = Task(vm="slow", fixed=0, wire=200, rate=20, cutover=5)
    found = minutes(schedule([job("slow", slow), job("fast", task(wire=1600, cutover=5))], world()))
    # 20 for the slow one, 80 for the other, which has all of it from then on.
    assert found == {"slow": (0, 10, 10, 15), "fast": (0, 18, 18, 23)}


def test_a_group_is_copied_whole_and_cuts_over_as_one() -> None:
    group = job("group", task("small", wire=500, cutover=3), task("large", wire=1500, cutover=7, fixed=4))
    # 5 s of the small one alone, of which the large one prepares for 4.
    assert minutes(schedule([group, job("next", after=("group",))], world())) == {
        "group": (0, 20, 20, 27),
        "next": (27, 37, 37, 37),
    }


def test_limits_at_the_source_count_copies_and_at_the_destination_cutovers() -> None:
    row = [job(name, task(cutover=100, host=host)) for name, host in (("a", A), ("b", B), ("c", A))]
    assert minutes(schedule(row, world(host=1))) == {
        "a": (0, 20, 20, 120),
        "b": (0, 20, 120, 220),
        "c": (20, 30, 220, 320),
    }


def test_a_cutover_waits_for_its_window() -> None:
    night = every(1000, 100)
    row = [job("a", task(cutover=60), next_window=night), job("b", task(cutover=200), next_window=night)]
    one, other = schedule(row, world())
    assert minutes([one, other]) == {"a": (0, 20, 900, 960), "b": (0, 20, None, None)}
    assert other.problem == "no window is left that is long enough for its cutover"
    (_, lost) = schedule([row[1], job("c", after=("b",))], world())
    assert (lost.begin, lost.problem) == (None, "b will not finish")


def test_the_longest_chain_goes_first() -> None:
    # As it stands, the chain begins last, and half of the link lies idle meanwhile.
    rate = {"rate": LINK / 2}
    single = [Job(f"s{n}", (Task(vm="x", fixed=0, wire=1000, cutover=0, **rate),)) for n in range(4)]
    chain = [
        Job(f"c{n}", (Task(vm="x", fixed=0, wire=1000, cutover=0, **rate),), (f"c{n - 1}",) if n else ())
        for n in range(4)
    ]
    jobs = [*single, *chain]
    assert makespan(schedule(jobs, world(plan=2)), NOW) == 120
    assert makespan(solve(jobs, world(plan=2)).slots, NOW) == 80


def test_priorities_come_first_and_reach_what_has_to_go_before() -> None:
    jobs = [job("a"), job("b", task(wire=9000)), job("c", after=("b",), priority=5), job("d", priority=2)]
    assert [one.name for one in solve(jobs, world(plan=1)).row] == ["b", "c", "d", "a"]


def test_pins_hold_and_one_that_cannot_is_refused() -> None:
    jobs = [job(name) for name in "abc"]
    jobs += [job("d", pin=Pin(position=2)), job("e", pin=Pin(not_before="2026-12-05T22:05:00Z"), priority=9)]
    solution = solve(jobs, world(plan=2))
    begins = [one.begin for one in solution.slots]
    assert solution.row[1].name == "d" and begins[1] == sorted(begin for begin in begins if begin is not None)[1]
    assert minutes(solution.slots)["e"][0] == 300
    with pytest.raises(InputError, match="d is pinned to position 1, but what it comes after"):
        solve([job("c"), job("d", after=("c",), pin=Pin(position=1))], world())


def test_what_runs_stays_where_it_is_and_positions_count_from_the_first_of_all() -> None:
    running = Job("r", (Task(vm="r", fixed=0, wire=500, cutover=5),), begun=NOW - 60)
    jobs = [job("a"), job("b", pin=Pin(position=3)), running, job("c", pin=Pin(position=1))]
    solution = solve(jobs, World(now=NOW, link=LINK, most={"plan": 1}, finished={"z"}), begun=2)
    # Its place has been taken: it goes as soon as it may.
    assert [one.name for one in solution.row] == ["r", "b", "c", "a"]
    assert minutes(solution.slots)["r"] == (-60, 5, 5, 10)
    assert solution.row[1].pin == Pin(position=3)


@st.composite
def worlds(draw: st.DrawFn, most_jobs: int = 4) -> tuple[list[Job], World]:
    count = draw(st.integers(1, most_jobs))
    jobs: list[Job] = []
    for number in range(count):
        after = draw(st.lists(st.sampled_from([one.name for one in jobs]), max_size=2, unique=True)) if jobs else []
        tasks = draw(
            st.lists(
                st.builds(
                    task,
                    wire=st.integers(1, 40).map(lambda n: n * 50.0),
                    fixed=st.sampled_from([0.0, 5.0]),
                    cutover=st.sampled_from([1.0, 10.0]),
                    host=st.sampled_from([A, B]),
                ),
                min_size=1,
                max_size=3,
            )
        )
        window = draw(st.sampled_from([None, None, every(100, 20)]))
        pin = draw(st.sampled_from([None, None, None, Pin(not_before="2026-12-05T22:00:30Z")]))
        jobs.append(Job(f"j{number}", tuple(tasks), tuple(after), pin=pin, next_window=window))
    limits = draw(st.fixed_dictionaries({}, optional={"host": st.integers(1, 3), "plan": st.integers(1, 5)}))
    return jobs, world(**limits)


def broken(jobs: list[Job], slots: list[Slot], of: World) -> list[str]:
    """Rules that a schedule breaks."""
    at = {slot.name: slot for slot in slots}
    assert at.keys() == {one.name for one in jobs}
    wrong = [f"{name} never ends" for name, slot in at.items() if slot.end is None]
    if wrong:
        return wrong
    uses: dict[Resource, list[tuple[float, float, int, str]]] = {}
    for one in jobs:
        slot = at[one.name]
        assert slot.begin is not None and slot.copied is not None and slot.cutover is not None and slot.end is not None
        wrong += [f"{one.name} before {name} ends" for name in one.after if (at[name].end or 0) > slot.begin + 1e-6]
        if not slot.begin <= slot.copied <= slot.cutover <= slot.end:
            wrong.append(f"{one.name}: {slot}")
        if one.pin is not None and slot.begin < (one.pin.not_before_at or 0):
            wrong.append(f"{one.name} begins before its time")
        opens = one.opens(slot.cutover)
        if opens is None or opens > slot.cutover + 1e-6:
            wrong.append(f"{one.name} cuts over outside of its window")
        # As far as it is told when each VM of a group has copied: at least one is still at it.
        copying = Counter(host for each in one.tasks for host in each.needs.copying)
        if len(one.tasks) == 1:
            uses.setdefault(next(iter(copying)), []).append((slot.begin, slot.copied, 1, one.name))
        uses.setdefault(PLAN, []).append((slot.begin, slot.end, len(one.tasks), one.name))
        uses.setdefault(THERE, []).append((slot.cutover, slot.end, len(one.tasks), one.name))
    for resource, spans in uses.items():
        for moment in [start for start, _, _, _ in spans]:
            there = [(many, name) for start, end, many, name in spans if start <= moment < end - 1e-6]
            if len(there) > 1 and sum(many for many, _ in there) > of.most.get(resource.kind, math.inf):
                wrong.append(f"{there} at {resource}")
    return wrong


@settings(max_examples=40)
@given(worlds())
def test_no_order_of_all_is_much_better_and_no_rule_is_broken(drawn: tuple[list[Job], World]) -> None:
    jobs, of = drawn
    solution = solve(jobs, of)
    assert broken(jobs, solution.slots, of) == []
    best = min(makespan(schedule(row, of), NOW) for row in permutations(jobs))
    assert makespan(solution.slots, NOW) <= WORST * best
    # Nobody has more than the whole link, nor begins before what it comes after ends.
    assert best >= sum(each.wire for one in jobs for each in one.tasks) / LINK - 1e-6
    assert solve(jobs, of) == solution


@settings(max_examples=10)
@given(worlds(most_jobs=9))
def test_many_jobs_break_no_rule_either(drawn: tuple[list[Job], World]) -> None:
    jobs, of = drawn
    solution = solve(jobs, of)
    assert broken(jobs, solution.slots, of) == []
    assert makespan(solution.slots, NOW) <= makespan(schedule(jobs, of), NOW) + 1e-6
