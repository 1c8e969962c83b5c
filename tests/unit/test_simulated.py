"""Simulated migrations keep the invariants, whatever dies when; the same seed makes the same world."""

from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drover.errors import InputError, MigrationError, PlatformError
from drover.model.inventory import Power
from drover.model.migration import Migration, Spec, State
from drover.platforms.simulated import SimulatedWatched, World, parse
from drover.replicator.check import check
from drover.replicator.migrate import plan
from drover.replicator.record import clear_away
from drover.replicator.simulated import KilledError, cancel, migrate
from drover.store import LiveStore, MigrationStore
from tests.simulated import assert_invariants

SOURCE = "simulated:///alpha?vms=40&seed=7&speed=1e6&failures=0.2"
DESTINATION = "simulated:///beta?speed=1e6"
_CALLS = ("written", "power", "capture", "release", "open_replica", "store", "arrive", "drop")


@pytest.fixture
def store(tmp_path: Path) -> MigrationStore:
    return MigrationStore(tmp_path)


def planned(store: MigrationStore, number: int, source: str = SOURCE) -> Migration:
    spec = Spec(vm=f"sim-alpha-{number:05}", source=source, destination=DESTINATION)
    return plan(store, spec, check(spec, store)[0])


def test_a_site_follows_from_its_seed(tmp_path: Path) -> None:
    world = World(tmp_path)
    one, other = parse(SOURCE), parse(SOURCE.replace("seed=7", "seed=8"))
    assert [vm.profile for vm in world.vms(one).values()] == [vm.profile for vm in world.vms(one).values()]
    assert not world.vms(one).keys() & world.vms(other).keys()
    for uuid in world.vms(one):
        assert world.vm(one, uuid) is not None


@pytest.mark.parametrize("uri", ["simulated:///a?vms=-1", "simulated://h/a", "simulated:///A", "simulated:///a?x=1"])
def test_wrong_parameters_are_named(uri: str) -> None:
    with pytest.raises(InputError):
        parse(uri)


def test_a_real_and_a_simulated_site_do_not_go_together(store: MigrationStore) -> None:
    with pytest.raises(InputError, match="one end only"):
        check(Spec(vm="x", source=SOURCE, destination="qemu:///system"), store)


@settings(derandomize=True, database=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(number=st.integers(0, 39), deaths=st.lists(st.tuples(st.sampled_from(_CALLS), st.integers(1, 6)), max_size=4))
def test_no_write_is_lost_and_one_copy_runs_whatever_dies(
    store: MigrationStore, number: int, deaths: list[tuple[str, int]]
) -> None:
    """A run dies before or after the so-maniest call of the world; the next goes on where it stands."""
    seed = store.newest_event()
    source = SOURCE.replace("seed=7", f"seed={seed}")
    migration = planned(store, number, source)
    pending = list(deaths)
    for _ in range(20):
        try:
            with dying(*pending.pop()) if pending else dying("none", 0):
                migrate(store, store.get(migration.id), 0)
            break
        except (KilledError, MigrationError):
            world = World(store.folder)
            over = store.get(migration.id).facts.cutover
            if over is None or not over.handed_over:
                assert_invariants(world, source, DESTINATION, migration.facts.uuid, finished=False)
            world.close()
    assert store.get(migration.id).state is State.FINISHED
    world = World(store.folder)
    assert_invariants(world, source, DESTINATION, migration.facts.uuid, finished=True)
    world.close()


def dying(call: str, at: int):  # type: ignore[no-untyped-def]
    """Within it the world kills whoever makes this call for the so-maniest time: odd ones when it is done."""
    if call == "none":
        return patch.object(World, "close", World.close)
    made, real = 0, getattr(World, call)

    def wrapped(self: World, *given: object, **named: object) -> object:
        nonlocal made
        made += 1
        if made == at and at % 2 == 0:
            raise KilledError(call)
        answer = real(self, *given, **named)
        if made == at:
            raise KilledError(call)
        return answer

    return patch.object(World, call, wrapped)


def test_a_copy_that_differs_is_noticed_and_not_started(store: MigrationStore) -> None:
    writes = next(n for n in range(40) if World(store.folder).find(parse(SOURCE), f"sim-alpha-{n:05}").profile.rate)  # type: ignore[union-attr]
    source = SOURCE.replace("0.2", "0")
    migration = planned(store, writes, source)
    # As if epochs were acknowledged that were never sent.
    unsent = patch("drover.replicator.simulated._Run._epoch", lambda _self, after, _step: after)
    with unsent, pytest.raises(MigrationError, match="differ"):
        migrate(store, migration, 0)
    assert store.get(migration.id).state is State.PAUSED
    assert_invariants(World(store.folder), source, DESTINATION, migration.facts.uuid, finished=False)


def test_an_older_run_is_fenced_at_the_copy(tmp_path: Path) -> None:
    world, uuid = World(tmp_path), next(iter(World(tmp_path).vms(parse(SOURCE))))
    world.open_replica(uuid, 1)
    world.open_replica(uuid, 2)
    with pytest.raises(PlatformError, match="newer run"):
        world.store(uuid, 1, {0: 1})
    with pytest.raises(PlatformError, match="newer run"):
        world.arrive(parse(SOURCE), parse(DESTINATION), uuid, 1, starts=True)


def test_pause_and_cancel_leave_it_at_the_source(store: MigrationStore) -> None:
    slow = planned(store, 2, SOURCE.replace("1e6", "300"))
    LiveStore(store.folder).ask_to_pause(slow.id)
    with pytest.raises(KeyboardInterrupt):
        migrate(store, slow, 0)
    assert store.get(slow.id).state is State.PAUSED
    with pytest.raises(InputError, match="already migrating"):
        check(slow.spec, store)
    cancel(store, slow)
    assert store.get(slow.id).state is State.CANCELLED
    assert_invariants(World(store.folder), slow.spec.source, DESTINATION, slow.facts.uuid, finished=False)


def test_its_events_name_what_changed(tmp_path: Path) -> None:
    watched, world, site = SimulatedWatched(SOURCE, tmp_path), World(tmp_path), parse(SOURCE)
    uuid = next(one.uuid for one in watched.everything() if one.state is Power.RUNNING)
    assert watched.changed(0) == set()
    world.power(site, uuid, on=False)
    assert watched.changed(1) == {uuid}
    found = watched.one(uuid)
    assert found is not None and found.state is Power.OFF


def test_what_a_dead_server_had_half_recorded_is_cleared_away(store: MigrationStore) -> None:
    spec = Spec(vm="sim-alpha-00003", source=SOURCE, destination=DESTINATION)
    left = plan(store, spec, check(spec, store)[0], run="r-1")
    other = planned(store, 4)
    clear_away("r-2", store)
    assert store.get(left.id).state is State.PLANNED
    clear_away("r-1", store)
    assert store.get(left.id).state is State.CANCELLED and store.get(other.id).state is State.PLANNED
    check(spec, store)
