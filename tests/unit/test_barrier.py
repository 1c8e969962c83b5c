"""The barrier of migration groups: real members in threads on a real database, some of which fail."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drover.errors import GroupError, MigrationError
from drover.model.group import Group, Mark, Member, Phase
from drover.model.migration import Cutover, CutoverFacts, Facts, Migration, Spec
from drover.replicator.barrier import Barrier
from drover.store import GroupStore, MigrationStore


class World:
    """A group of VMs, and what became of each: `source`, `destination`, or nothing yet."""

    def __init__(self, folder: Path, count: int, turns: list[int] | None = None) -> None:
        self.folder = folder
        store = MigrationStore(folder)
        self.migrations = [
            store.add(Spec(vm=f"vm{number}", source="a", destination="b"), Facts()) for number in range(count)
        ]
        turns = turns or [0] * count
        members = [Member(migration=m.id, vm=m.spec.vm, turn=t) for m, t in zip(self.migrations, turns, strict=True)]
        self.group = GroupStore(folder).add("move", "shop", members)
        self.started: dict[str, float] = {}

    def now(self) -> Group:
        return GroupStore(self.folder).get(self.group.id)

    def phase(self) -> Phase:
        return self.now().phase

    def live(self, migration: Migration, fails_at: str | None = None, error: Exception | None = None) -> str:
        """What a migration does at its cutover, with a failure somewhere; where its VM is in the end."""
        barrier = Barrier(migration, self.folder)
        facts = migration.facts
        try:
            before = self.now().attempt
            while barrier.waits_for(True) is not None:
                if self.now().attempt != before:
                    return "source"
                time.sleep(0.01)
            facts.cutover = CutoverFacts(mode=Cutover.RESUME, attempt=barrier.attempt, stopping_at=time.time())
            _raise_at("stopping", fails_at, error)
            barrier.stands_still()
            facts.cutover.source_off = True
            _raise_at("leaving", fails_at, error)
            barrier.can_start()
        except MigrationError as caught:
            barrier.failed(caught)
            facts.cutover = None
            return "source"
        barrier.wait_for_turn()
        self.started[migration.id] = time.monotonic()
        barrier.runs()
        return "destination"


def _raise_at(place: str, wanted: str | None, error: Exception | None) -> None:
    if place == wanted:
        assert error is not None
        raise error


def together(*lives: Callable[[], str]) -> list[str]:
    ends: list[str | None] = [None] * len(lives)

    def run(number: int) -> None:
        ends[number] = lives[number]()

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(len(lives))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert None not in ends, "a member waits for ever"
    return [end for end in ends if end is not None]


@pytest.fixture
def world(data: Path) -> Iterator[World]:
    yield World(data, 3)


def test_all_start_once_all_can(world: World) -> None:
    ends = together(*(lambda m=m: world.live(m) for m in world.migrations))
    assert ends == ["destination"] * 3
    assert world.phase() is Phase.STARTING
    assert max(world.started.values()) - min(world.started.values()) < 1


def test_nobody_cuts_over_before_all_are_ready(world: World) -> None:
    one, two, three = world.migrations
    barriers = [Barrier(one, world.folder), Barrier(two, world.folder)]
    for _ in range(2):
        assert all("vm2" in (barrier.waits_for(True) or "") for barrier in barriers)
    assert world.phase() is Phase.GATHERING
    assert Barrier(three, world.folder).waits_for(True) is None
    assert world.phase() is Phase.STOPPING


def test_a_member_that_died_when_it_was_ready_is_not_ready(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drover.store.groups._FRESH", 0.2)
    dead, *others = world.migrations
    Barrier(dead, world.folder).waits_for(True)
    time.sleep(0.3)
    assert all(Barrier(other, world.folder).waits_for(True) is not None for other in others)
    assert world.phase() is Phase.GATHERING


def test_a_gate_that_shuts_again_keeps_the_group_waiting(world: World) -> None:
    barriers = [Barrier(migration, world.folder) for migration in world.migrations]
    barriers[0].waits_for(True)
    assert barriers[0].waits_for(False) == "its own gate is shut"
    assert all(barrier.waits_for(True) is not None for barrier in barriers[1:])
    assert world.phase() is Phase.GATHERING


@pytest.mark.parametrize("place", ["stopping", "leaving"])
def test_one_that_fails_takes_all_back_and_a_second_try_brings_all(world: World, place: str) -> None:
    broken = MigrationError("its pool is full")
    first, *others = world.migrations
    ends = together(lambda: world.live(first, place, broken), *(lambda m=m: world.live(m) for m in others))
    assert ends == ["source"] * 3 and not world.started
    assert world.now().reason == "vm0: its pool is full"
    assert together(*(lambda m=m: world.live(m) for m in world.migrations)) == ["destination"] * 3


def test_a_member_that_says_nothing_keeps_nobody_for_ever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Barrier, "_patience", 0.5)
    silent, *others = world.migrations

    def die(migration: Migration) -> str:
        while Barrier(migration, world.folder).waits_for(True) is not None:
            time.sleep(0.01)
        return "dead"

    ends = together(lambda: die(silent), *(lambda m=m: world.live(m) for m in others))
    assert ends == ["dead", "source", "source"]
    assert "vm0 kept the others waiting" in str(world.now().reason)


def test_one_that_was_killed_while_the_others_left_takes_them_back_when_it_goes_on(world: World) -> None:
    killed, *others = world.migrations
    barrier = Barrier(killed, world.folder)

    def dies_and_goes_on() -> str:
        while barrier.waits_for(True) is not None:
            time.sleep(0.01)
        time.sleep(0.2)
        Barrier(killed, world.folder).begin()
        return "source"

    ends = together(dies_and_goes_on, *(lambda m=m: world.live(m) for m in others))
    assert ends == ["source"] * 3


def test_one_that_was_killed_after_it_had_left_still_belongs_to_its_attempt(world: World) -> None:
    late, *others = world.migrations
    barrier = Barrier(late, world.folder)
    ends = together(
        lambda: world.live(late, "leaving", MigrationError("x")), *(lambda m=m: world.live(m) for m in others)
    )
    assert ends == ["source"] * 3
    late.facts.cutover = CutoverFacts(mode=Cutover.RESUME, attempt=0, stopping_at=0, source_off=True)
    with pytest.raises(GroupError):
        barrier.can_start()


def test_a_vm_left_behind_by_its_group_goes_alone(world: World) -> None:
    assert together(*(lambda m=m: world.live(m) for m in world.migrations)) == ["destination"] * 3
    back = world.migrations[0]
    barrier = Barrier(back, world.folder)
    back.facts.cutover = None
    barrier.failed(MigrationError("it did not start"))
    assert world.now().member(back.id).mark is Mark.OUT
    assert world.live(back) == "destination"


def test_a_cancelled_member_is_waited_for_no_more(world: World) -> None:
    gone, *others = world.migrations
    Barrier(gone, world.folder).leave()
    assert together(*(lambda m=m: world.live(m) for m in others)) == ["destination"] * 2


def test_turns_and_delays(data: Path) -> None:
    world = World(data, 3, turns=[0, 1, 2])
    delayed = World(data / "delayed", 2, turns=[0, 1])
    assert together(*(lambda m=m: world.live(m) for m in reversed(world.migrations))) == ["destination"] * 3
    order = sorted(world.started, key=lambda migration: world.started[migration])
    assert order == [migration.id for migration in world.migrations]
    assert world.phase() is Phase.STARTING
    assert together(*(lambda m=m: delayed.live(m) for m in delayed.migrations)) == ["destination"] * 2


def test_a_vm_without_a_group_waits_for_nobody(data: Path) -> None:
    migration = MigrationStore(data).add(Spec(vm="alone", source="a", destination="b"), Facts())
    barrier = Barrier(migration, data)
    barrier.begin()
    assert barrier.waits_for(True) is None and barrier.attempt is None
    migration.facts.cutover = CutoverFacts(mode=Cutover.RESUME, stopping_at=0)
    barrier.stands_still()
    barrier.can_start()
    assert barrier.wait_for_turn() is None


PLACES = st.sampled_from([None, None, "stopping", "leaving"])


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(failures=st.lists(PLACES, min_size=2, max_size=4))
def test_wherever_members_fail_all_end_on_the_same_side(
    tmp_path_factory: pytest.TempPathFactory, failures: list[str | None]
) -> None:
    world = World(tmp_path_factory.mktemp("group"), len(failures))
    lives = [
        (lambda m=m, place=place: world.live(m, place, MigrationError("broken")))
        for m, place in zip(world.migrations, failures, strict=True)
    ]
    ends = set(together(*lives))
    assert ends == ({"source"} if any(failures) else {"destination"})
