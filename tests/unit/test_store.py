"""What the store was told survives; one process at a time runs a migration."""

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from drover.errors import DroverError, InputError, MigrationError
from drover.model.migration import Facts, Spec, State
from drover.store import MigrationStore
from drover.store.database import Database


@pytest.fixture
def store(data: Path) -> MigrationStore:
    return MigrationStore(data)


def spec(vm: str = "web-1") -> Spec:
    return Spec(vm=vm, source="qemu:///system", destination="qemu+ssh://other/system")


def test_facts_and_states_are_read_back_as_written(store: MigrationStore, data: Path) -> None:
    migration = store.add(spec(), Facts(uuid="u", epoch=3, io_tune={"vda": {"write_bytes_sec": 7}}))
    store.enter(migration, State.PREPARING)
    store.enter(migration, State.PAUSED, reason="the link is cut", remedy="heal it")
    again = MigrationStore(data).get(migration.id)
    assert again == migration
    assert [text for _, _, text in store.history(migration.id)] == ["planned", "preparing", "paused: the link is cut"]


def test_a_step_that_the_life_of_a_migration_has_not_is_refused_and_changes_nothing(store: MigrationStore) -> None:
    migration = store.add(spec(), Facts())
    with pytest.raises(MigrationError):
        store.enter(migration, State.STARTING)
    assert store.get(migration.id).state is State.PLANNED


def test_the_beginning_of_an_id_is_enough_unless_it_is_two(store: MigrationStore) -> None:
    first, second = store.add(spec("a"), Facts()), store.add(spec("b"), Facts())
    assert store.get(first.id[:-1]) in (first, second)
    for unclear in ("m-", "", "nothing", "%", "_"):
        with pytest.raises(InputError):
            store.get(unclear)


def test_a_second_process_is_refused_until_the_first_is_dead(store: MigrationStore, data: Path) -> None:
    migration = store.add(spec(), Facts())
    script = (
        "import sys, time; from pathlib import Path; from drover.store import MigrationStore\n"
        "store = MigrationStore(Path(sys.argv[1])); m = store.get(sys.argv[2])\n"
        "with store.running(m): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, data, migration.id], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match="another drover process"), store.running(migration):
            pass
    finally:
        holder.kill()
        holder.wait()
    with store.running(migration):
        pass


def test_a_database_that_is_none_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "drover.sqlite").write_bytes(b"this is no database" * 100)
    with pytest.raises(DroverError, match=r"drover\.sqlite cannot be used") as refused:
        MigrationStore(tmp_path)
    assert "DROVER_DATA" in str(refused.value)


def test_a_record_of_another_version_is_named(store: MigrationStore, data: Path) -> None:
    migration = store.add(spec(), Facts())
    with Database(data).transaction() as db:
        db.execute(sa.text("UPDATE migrations SET state = 'levitating'"))
    with pytest.raises(DroverError, match=migration.id):
        store.all()
