"""Limits of simultaneous cutovers: kept whoever asks, freed by every end and every death, told to who waits."""

import threading
from pathlib import Path

import pytest

from drover.model.group import Member
from drover.model.migration import Facts, Migration, Spec, State
from drover.replicator.barrier import Barrier
from drover.store import CutoverStore, GroupStore, MigrationStore

HOST, FAST, SLOW = "host munich", "pool fast at munich", "pool slow at munich"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MigrationStore:
    monkeypatch.setenv("DROVER_DATA", str(tmp_path))
    return MigrationStore()


def migrations(store: MigrationStore, count: int) -> list[Migration]:
    return [store.add(Spec(vm=f"vm{n}", source="a", destination="b"), Facts()) for n in range(count)]


def enter(store: MigrationStore, migration: Migration, *states: State) -> None:
    for state in states:
        store.enter(migration, state)


def test_a_place_is_kept_by_the_state_and_free_when_it_is_over(
    store: MigrationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, three = migrations(store, 3)
    places = CutoverStore()
    places.limit({one.id: [HOST, FAST], two.id: [HOST, SLOW], three.id: [SLOW]}, {HOST: 1, SLOW: 1})
    assert places.take([one.id]) is None
    assert places.take([one.id]) is None, "it has it already"
    assert places.take([two.id]) == "host munich has 1 of 1 cutovers"
    assert places.take([three.id]) is None, "another pool"
    enter(store, one, State.PREPARING, State.REPLICATING, State.CUTTING_OVER, State.FAILED)
    assert places.take([two.id]) is not None, "as fresh as it is, it may go on at once"
    monkeypatch.setattr("drover.store.cutovers._FRESH", 0.0)
    assert places.take([two.id]) is None
    enter(store, two, State.PREPARING, State.REPLICATING, State.CUTTING_OVER)
    assert places.take([three.id]) == "pool slow at munich has 1 of 1 cutovers"
    assert places.take([one.id]) == "host munich has 1 of 1 cutovers"
    enter(store, two, State.VERIFYING, State.STARTING, State.FINISHED)
    assert places.take([one.id]) is None


def test_what_is_larger_than_a_limit_goes_where_nobody_else_is(store: MigrationStore) -> None:
    ids = [migration.id for migration in migrations(store, 4)]
    places = CutoverStore()
    places.limit({number: [HOST] for number in ids}, {HOST: 2})
    assert places.take(ids[:1]) is None
    assert places.take(ids[1:]) == "host munich has 1 of 2 cutovers"
    places.limit({ids[0]: [FAST]}, {HOST: 2})
    assert places.take(ids[1:]) is None
    # Nothing said: no limit.
    places.limit({number: [HOST] for number in ids}, {})
    assert places.take(ids[:1]) is None


def test_two_who_ask_at_once_do_not_both_get_the_last_place(store: MigrationStore) -> None:
    ids = [migration.id for migration in migrations(store, 8)]
    CutoverStore().limit({number: [HOST] for number in ids}, {HOST: 3})
    start, found = threading.Barrier(len(ids)), []

    def take(number: str) -> None:
        start.wait()
        found.append(CutoverStore().take([number]))

    threads = [threading.Thread(target=take, args=(number,)) for number in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found.count(None) == 3
    assert set(found) == {None, "host munich has 3 of 3 cutovers"}


def test_a_gate_waits_for_a_place_and_a_group_for_one_for_each(
    store: MigrationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drover.replicator.barrier._KEEP", 0.0)
    one, *two = migrations(store, 3)
    group = GroupStore().add("plan", "shop", [Member(migration=each.id, vm=each.spec.vm) for each in two])
    CutoverStore().limit({each.id: [HOST] for each in (one, *two)}, {HOST: 2})
    alone, *both = (Barrier(each, store.folder) for each in (one, *two))
    assert alone.waits_for(None) is None and alone.waits_for(False) is None
    assert CutoverStore().take([each.id for each in two]) is None, "a gate that is shut has taken none"
    enter(store, one, State.PREPARING, State.REPLICATING, State.READY)
    CutoverStore().limit({each.id: [] for each in two}, {})
    assert alone.waits_for(True) is None
    CutoverStore().limit({each.id: [HOST] for each in (one, *two)}, {HOST: 2})
    assert both[0].waits_for(True) == "ready; the group shop waits for vm2"
    assert both[1].waits_for(True) == "ready; host munich has 1 of 2 cutovers"
    enter(store, one, State.CUTTING_OVER, State.VERIFYING, State.STARTING, State.FINISHED)
    monkeypatch.setattr("drover.store.cutovers._FRESH", 0.0)
    assert both[0].waits_for(True) is None
    assert both[1].waits_for(True) is None
    assert (both[0].attempt, both[1].attempt) == (group.attempt, group.attempt)
