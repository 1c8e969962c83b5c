"""The order of a plan: what it wishes, pins that hold or are refused, whose turn it is and what the others wait for."""

import math
from collections import Counter
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drover.errors import InputError
from drover.model.order import Limits, Pin
from drover.plans.course import Course, End, Planned
from drover.plans.needs import Needs, Resource, caps, needs_of
from drover.plans.pins import sequence
from drover.plans.resolve import resolve
from drover.plans.turns import PLAN, Standing, turns
from tests.unit.test_plan_resolve import SITE, plan, specs

BERLIN, MUNICH, LINK = Resource("host", "berlin"), Resource("host", "munich"), Resource("link", "berlin → munich")


@dataclass(frozen=True, kw_only=True)
class Batch:
    name: str
    after: tuple[str, ...] = ()
    pin: Pin | None = None
    room: Counter[Resource] = field(default_factory=Counter)


def test_priorities_and_pins_are_those_of_groups_and_of_vms_that_go_alone() -> None:
    batches = resolve(
        plan(
            groups=[{"group": "db", "vms": ["db*"], "priority": 7, "pin": {"position": 1}}],
            vms=["web-*"],
            exceptions=[
                {"vms": ["web-*"], "priority": 3},
                {"vms": ["web-2"], "pin": {"not_before": "2026-12-05T22:00:00Z"}},
                {"vms": ["*"], "settings": {"bandwidth": "8mbit"}},
            ],
        ),
        SITE,
    )
    assert [(one.name, one.priority, one.pin) for one in batches] == [
        ("db", 7, Pin(position=1)),
        ("web-1", 3, None),
        ("web-2", 3, Pin(not_before="2026-12-05T22:00:00Z")),
    ]


GROUP = {"group": "db", "vms": ["db*"]}
SHOP = {"group": "shop", "vms": ["web-*"], "after": ["db"]}
WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "a VM of a group": (
        {"groups": [GROUP], "exceptions": [{"vms": ["db1"], "priority": 1}]}, "db1 a priority or a pin", "the group"
    ),
    "a position that is not there": (
        {"groups": [{**GROUP, "pin": {"position": 2}}]}, "the plan has 1 groups", "1 to 1"
    ),
    "one position for two": (
        {"vms": ["web-*"], "exceptions": [{"vms": ["web-*"], "pin": {"position": 2}}]},
        "web-1 and web-2 are both pinned to position 2", "of its own",
    ),
    "before what it comes after": (
        {
            "groups": [GROUP, {**SHOP, "pin": {"position": 2}}],
            "vms": ["legacy-1"],
            "exceptions": [{"vms": ["legacy-1"], "pin": {"position": 1}}],
        },
        "shop is pinned to position 2, but what it comes after cannot all begin before that: db", "a later position",
    ),
    "after what comes after it": (
        {"groups": [{**GROUP, "pin": {"position": 2}}, SHOP]}, "db is pinned to position 2, but nothing else", "earlier"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_kept_is_refused(what: str) -> None:
    fields, message, remedy = WRONG[what]
    with pytest.raises(InputError) as refused:
        resolve(plan(**fields), SITE)
    assert message in refused.value.message
    assert remedy in str(refused.value.remedy)


@st.composite
def pinned(draw: st.DrawFn) -> list[Batch]:
    made: list[Batch] = []
    count = draw(st.integers(1, 5))
    for number in range(count):
        after = draw(st.lists(st.sampled_from([one.name for one in made]), max_size=2, unique=True)) if made else []
        position = draw(st.one_of(st.none(), st.none(), st.integers(1, count)))
        made.append(
            Batch(name=str(number), after=tuple(after), pin=None if position is None else Pin(position=position))
        )
    return draw(st.permutations(made))


def keeps(row: tuple[Batch, ...]) -> bool:
    place = {one.name: number for number, one in enumerate(row, 1)}
    return all(
        (one.pin is None or one.pin.position == place[one.name])
        and all(place[name] < place[one.name] for name in one.after)
        for one in row
    )


@given(pinned(), st.permutations(range(5)))
def test_a_row_is_found_if_there_is_one(batches: list[Batch], preference: list[int]) -> None:
    possible = [row for row in permutations(batches) if keeps(row)]
    try:
        row = tuple(sequence(batches, lambda one: preference[int(one.name)]))
    except InputError:
        assert not possible
        return
    assert row in possible


def batch(name: str, *after: str, pin: Pin | None = None, **room: int) -> Batch:
    resources = {"berlin": BERLIN, "munich": MUNICH, "link": LINK, "plan": PLAN}
    return Batch(name=name, after=after, pin=pin, room=Counter({resources[key]: count for key, count in room.items()}))


def test_why_each_waits_is_told() -> None:
    at = "2026-12-05T22:00:00+00:00"
    row = [
        batch("database", berlin=2, plan=2),
        batch("shop", "database", plan=1),
        batch("mail", berlin=1, plan=1),
        batch("huge", berlin=2, plan=1),
        batch("elsewhere", plan=1),
        batch("later", pin=Pin(not_before=at), plan=1),
        batch("lost", "gone", plan=1),
        batch("many", munich=9, plan=2),
        batch("small", plan=1),
        batch("third", pin=Pin(position=9), plan=1),
        batch("last", plan=1),
    ]
    standing = Standing(
        now=0.0, load={BERLIN: 1, PLAN: 1}, most={"host": 2, "plan": 4}, begun={"begun"}, lost={"gone", "lost"}
    )
    chosen = turns(row, standing)
    assert [one.name for one in chosen.begin] == ["elsewhere", "many"]
    said = chosen.waits
    assert said["database"] == "host berlin has 1 of 2"
    assert said["shop"] == "waits for database"
    assert said["huge"] == "host berlin has 1 of 2"
    assert said["mail"] == "database is before it, and waits for room: host berlin"
    assert said["later"].startswith("does not begin before 2026-12-0")
    assert said["lost"] == "gone did not finish"
    assert said["small"] == "the plan has 4 of 4 at once"
    assert said["third"] == "pinned to position 9: database begins first"
    assert said["last"] == "begins after third, which is pinned before it"
    assert chosen.wake == 1796508000.0


def test_what_uses_which_host_pool_and_link() -> None:
    (web,) = resolve(plan(**{"vms": ["web-1"], "pools": {"vda": "fast"}, "from": "qemu+ssh://root@a/system"}), SITE)
    needs = needs_of(specs([web])["web-1"], next(vm for vm in SITE if vm.name == "web-1"))
    assert sorted(map(str, needs.copying)) == ["host a", "pool / at a"]
    assert sorted(map(str, needs.cutover)) == ["host b:///", "pool fast at b:///", "pool the only pool at b:///"]
    assert sorted(map(str, needs.throughout)) == ["link a → b:///"]


def planned(name: str, *members: str, copies: Resource = BERLIN, **more: Any) -> Planned:
    needs = Needs(copying=frozenset({copies}), throughout=frozenset({LINK}))
    return Planned(name=name, members=members, needs=dict.fromkeys(members, needs), **more)


def test_a_host_is_free_for_the_next_when_all_is_copied_and_the_link_when_it_has_ended() -> None:
    course = Course([planned("a", "a"), planned("b", "b"), planned("c", "c")], 9, Limits(per_host=1, per_link=2))
    assert course.begin().begin == ["a"]
    assert course.waits == {"b": "host berlin has 1 of 1", "c": "host berlin has 1 of 1"}
    assert course.copied("a").begin == ["b"]
    assert course.copied("b").begin == []
    assert course.waits == {"c": "link berlin → munich has 2 of 2"}
    assert course.ended("a", End.FAILED).begin == ["c"]


def test_what_has_to_wait_for_its_time_keeps_the_course_awake() -> None:
    course = Course([planned("a", "a", pin=Pin(not_before="2026-12-05T22:00:00Z"))], 9)
    assert course.begin(1796507999.0).begin == []
    assert (course.wake, course.idle) == (1796508000.0, False)
    assert course.begin(1796508000.0).begin == ["a"]
    assert course.wake is None
    course.ended("a", End.FINISHED)
    assert course.idle


def test_another_order_holds_from_then_on() -> None:
    a, b, c = (planned(name, name) for name in "abc")
    course = Course([a, b, c], 1)
    assert course.begin().begin == ["a"]
    course.arrange([c, a, b], 2, Limits())
    assert course.begin().begin == ["c"]
    assert course.ended("a", End.FINISHED).begin == ["b"]


@given(
    sizes=st.lists(st.tuples(st.integers(1, 4), st.sampled_from([BERLIN, MUNICH])), min_size=1, max_size=6),
    limits=st.builds(Limits, per_host=st.none() | st.integers(1, 4), per_link=st.none() | st.integers(1, 4)),
    at_once=st.integers(1, 6),
    ends=st.lists(st.sampled_from([End.FINISHED, End.FINISHED, End.FAILED, End.KILLED])),
    chance=st.randoms(use_true_random=False),
)
def test_every_course_ends_and_keeps_to_its_limits(  # type: ignore[no-untyped-def]
    sizes, limits, at_once, ends, chance
) -> None:
    batches = [
        planned(
            f"g{number}",
            *(f"g{number}-{member}" for member in range(size)),
            copies=host,
            after=(f"g{chance.randrange(number)}",) if number and chance.random() < 0.5 else (),
        )
        for number, (size, host) in enumerate(sizes)
    ]
    by_member = {member: batch for batch in batches for member in batch.members}
    course, most = Course(batches, at_once, limits), caps(limits, at_once)
    running, copied, failed = list(course.begin().begin), set(), False
    while running:
        assert set(running) == set(course.running)
        for kind, uses in (("plan", PLAN), ("link", LINK), ("host", BERLIN), ("host", MUNICH)):
            there = [
                member
                for member in running
                if kind != "host" or (member not in copied and uses in by_member[member].needs[member].copying)
            ]
            # What is larger than the limit goes where nothing else does.
            assert len(there) <= most.get(kind, math.inf) or len({by_member[one].name for one in there}) == 1
        one = chance.choice(running)
        if one not in copied and chance.random() < 0.5:
            copied.add(one)
            running += course.copied(one).begin
            continue
        running.remove(one)
        end = ends.pop() if ends else End.FINISHED
        turn = course.ended(one, end)
        failed |= end is not End.FINISHED
        running += turn.begin
    assert course.idle
    assert failed or not course.unfinished
    assert set(course.waits) <= set(course.unfinished)
