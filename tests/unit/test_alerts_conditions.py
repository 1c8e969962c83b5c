"""What is told of a world: which conditions hold in it, and that nothing else does."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drover.alerts.conditions import NEWS, Approval, Condition, World, conditions, epilogue
from drover.alerts.config import Event
from drover.alerts.summary import summarise
from drover.model.group import Group, Member, Phase
from drover.model.migration import INTERRUPTED, Cutover, CutoverFacts, Facts, Migration, Spec, State, Timings

NOW = 2e9


def migration(
    state: State = State.REPLICATING, *, id_: str = "m-1", token: int = 1, downtime: float | None = None, **changed: Any
) -> Migration:
    spec = {name: changed.pop(name) for name in ("max_downtime", "target_time") if name in changed}
    cutover = None
    if downtime is not None:
        cutover = CutoverFacts(
            mode=Cutover.RESUME, stopping_at=NOW - 100, stopped_at=NOW - 99, started_at=NOW - 100 + downtime
        )
    facts = Facts(token=token, cutover=cutover, timings=Timings(replicating_at=NOW - 600))
    named = Spec(vm="web-1", source="a:///", destination="b:///", **spec)
    times = {"created_at": NOW - 700, "updated_at": NOW - 50}
    return Migration(**{"id": id_, "spec": named, "state": state, "facts": facts, **times, **changed})


def progress(link: str = "up", **changed: Any) -> dict[str, dict[str, Any]]:
    return {"m-1": {"event": "progress", "link": link, "at": NOW, "expected": None, "prediction": None, **changed}}


def expected(time_left: float | None, downtime: float) -> dict[str, Any]:
    left = None if time_left is None else {"p10": time_left, "p50": time_left * 2, "p90": time_left * 3}
    return {"time_left": left, "downtime": {"p10": downtime, "p50": downtime * 2, "p90": downtime * 3}}


def found(*migrations: Migration, now: float = NOW, **known: Any) -> list[Condition]:
    return conditions(World(migrations=migrations, **known), now)


def only(held: list[Condition]) -> Condition:
    (condition,) = held
    return condition


@pytest.mark.parametrize("state", State)
def test_a_migration_without_trouble_is_nothing_to_tell(state: State) -> None:
    if state is not State.FAILED:
        assert found(migration(state), progress=progress()) == []


def test_failed_and_paused_for_a_reason() -> None:
    failed = only(found(migration(State.FAILED, reason="disk full", remedy="make room", token=3)))
    assert (failed.key, failed.event, failed.severity) == ("failed:m-1:3", Event.FAILED, "critical")
    assert "disk full" in failed.text and failed.remedy == "make room" and failed.since == NOW - 50
    paused = only(found(migration(State.PAUSED, reason="disk full")))
    assert paused.severity == "warning" and "drover resume m-1" in str(paused.remedy)
    # Whoever stopped it knows.
    assert found(migration(State.PAUSED, reason=INTERRUPTED)) == []


def test_the_link_of_what_runs() -> None:
    lost = only(found(migration(), progress=progress("down: timed out")))
    assert lost.key == "link-lost:m-1" and "down: timed out" in lost.text and lost.since is None
    assert found(migration(State.PAUSED), progress=progress("down")) == []
    assert found(migration()) == []


def test_a_duration_that_cannot_be_met() -> None:
    # 600 s gone; 500 more at least.
    late = only(found(migration(target_time=1000), progress=progress(expected=expected(500, 1))))
    assert late.key == "objective-missed:m-1:duration" and not late.news
    assert "18 min 20 s" in late.text and "16 min 40 s" in late.text
    assert found(migration(target_time=1200), progress=progress(expected=expected(500, 1))) == []
    # Past it already, nobody need forecast that; and a migration that stopped for it stays late.
    assert found(migration(target_time=500)) != []
    held = found(migration(State.PAUSED, target_time=500, reason="the gate did not open"))
    assert {condition.event for condition in held} == {Event.FAILED, Event.OBJECTIVE_MISSED}
    assert found(migration(State.FINISHED, target_time=500)) == []


def test_a_downtime_that_cannot_be_met_or_was_not() -> None:
    missed = only(found(migration(max_downtime=5), progress=progress(expected=expected(1, 6))))
    assert missed.key == "objective-missed:m-1:downtime" and "6.0 s" in missed.text and not missed.news
    assert found(migration(max_downtime=7), progress=progress(expected=expected(1, 6))) == []
    foreseen = only(found(migration(), progress=progress(prediction="the VM writes faster than the link carries")))
    assert "faster than the link" in foreseen.text
    was = only(found(migration(State.FINISHED, max_downtime=5, downtime=8)))
    assert was.key == missed.key and was.news and "8.0 s" in was.text
    assert found(migration(State.FINISHED, max_downtime=9, downtime=8)) == []
    assert found(migration(State.FINISHED, max_downtime=5, downtime=8), now=NOW + NEWS) == []


def group(*ids: str) -> Group:
    members = tuple(Member(migration=one, vm=one) for one in ids)
    return Group(id="g-1", name="shop", plan="move", phase=Phase.STARTING, attempt=0, reason=None, members=members)


def test_a_group_is_done_when_all_have_ended() -> None:
    one, other = migration(State.FINISHED), migration(State.STARTING, id_="m-2")
    assert found(one, other, groups=[group("m-1", "m-2")]) == []
    gone = migration(State.CANCELLED, id_="m-2")
    done = only(found(one, gone, groups=[group("m-1", "m-2")]))
    assert done.key == "group-done:g-1" and done.news and "Cancelled" in done.text
    # Neither an old one, nor one of which nothing arrived, is news.
    assert found(one, gone, groups=[group("m-1", "m-2")], now=NOW + NEWS) == []
    assert found(gone, groups=[group("m-2")]) == []


def test_hosts_and_approvals() -> None:
    asked = Approval(id="cutover of shop", text="The group shop is ready.", since=NOW - 5, remedy="say so")
    held = found(unreachable={"qemu+ssh://old/system": NOW - 300}, approvals=[asked])
    assert [(one.event, one.since) for one in held] == [(Event.HOST_GONE, NOW - 300), (Event.APPROVAL, NOW - 5)]


def test_what_nobody_watches_has_no_end() -> None:
    assert World(migrations=()).watched == {Event.FAILED, Event.GROUP_DONE}
    every = World(migrations=(), progress={}, unreachable={}, approvals=())
    assert every.watched == set(Event) - {Event.DAILY_SUMMARY}


def test_what_became_of_it() -> None:
    world = World(migrations=[migration(State.PAUSED, reason="full")])
    assert epilogue(world, "m-1:duration") == "web-1 (m-1) is paused: full"
    assert epilogue(world, "host") == ""


def test_the_summary_names_what_goes_what_ended_and_what_must_be_looked_at() -> None:
    world = World(migrations=[migration(), migration(State.FINISHED, id_="m-2"), migration(State.FAILED, id_="m-3")])
    title, text = summarise(world, conditions(world, NOW), NOW)
    assert title == "2 migrations under way, 1 finished since yesterday, 1 things to look at"
    assert "m-1): replicating" in text and "m-2): finished" in text and "web-1: the migration failed" in text
    many = World(migrations=[migration(id_=f"m-{number}") for number in range(70)])
    assert "and 20 more" in summarise(many, [], NOW)[1]
    assert summarise(World(migrations=()), [], NOW)[1] == "No migrations, and nothing to look at."


seconds = st.floats(0, 1e5)
live = st.fixed_dictionaries(
    {"at": st.floats(NOW - 1e4, NOW)},
    optional={
        "link": st.sampled_from(["up", "connecting", "down: cut", ""]),
        "expected": st.none() | st.builds(expected, st.none() | seconds, seconds),
        "prediction": st.none() | st.text(),
        "holding": st.none() | st.text(),
    },
)
migrations = st.builds(
    migration,
    st.sampled_from(State),
    id_=st.sampled_from(["m-1", "m-2", "m-3"]),
    token=st.integers(0, 9),
    downtime=st.none() | seconds,
    max_downtime=st.floats(1, 100),
    target_time=st.none() | st.floats(1, 1e4),
    reason=st.none() | st.text(),
    remedy=st.none() | st.text(),
    updated_at=st.floats(NOW - 2e5, NOW),
)
worlds = st.builds(
    World,
    migrations=st.lists(migrations, max_size=4, unique_by=lambda one: one.id),
    groups=st.lists(st.builds(group, st.sampled_from(["m-1", "m-4"]), st.sampled_from(["m-2", "m-3"])), max_size=1),
    progress=st.none() | st.dictionaries(st.sampled_from(["m-1", "m-2", "m-5"]), live),
    unreachable=st.none() | st.dictionaries(st.text(max_size=5), st.floats(0, NOW), max_size=2),
)


@settings(max_examples=200)
@given(worlds)
def test_in_any_world_keys_are_unique_and_stay(world: World) -> None:
    held = conditions(world, NOW)
    keys = [condition.key for condition in held]
    assert len(set(keys)) == len(keys)
    for condition in held:
        assert condition.since is None or condition.since <= NOW
        if condition.news:
            assert condition.since is not None and NOW - condition.since < NEWS
        elif condition.event is Event.LINK_LOST:
            assert condition.event in world.watched
    # A moment later the same holds, unless it became late or old meanwhile.
    later = {condition.key for condition in conditions(world, NOW + 0.001)}
    gone = [condition for condition in held if condition.key not in later]
    assert all(condition.news for condition in gone)
    summarise(world, held, NOW)
