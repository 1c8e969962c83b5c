"""One process at a time may do a thing, and one that was replaced does nothing any more."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from drover import fence
from drover.engine.client import EngineClient
from drover.errors import InputError
from drover.fence import FencedError
from drover.model.group import Mark, Member, Phase
from drover.model.migration import Facts, Spec, State
from drover.platforms.libvirt.connection import doing
from drover.platforms.libvirt.host import LocalHost
from drover.store import GroupStore, MigrationStore, claims
from drover.store.claims import Claim, Claims, HeldError
from drover.store.database import Database, DatabaseGoneError
from drover.store.location import FILE
from drover.store.migrations import _append
from tests.postgresql import Cluster

NAME = "m-1"


@pytest.fixture
def places(postgresql: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Path]]:
    """Two data folders, as on two hosts, that share a database; times are a tenth of what they are."""
    for name, seconds in {"_EVERY": 0.1, "_TRUSTED": 0.3, "_SILENT": 0.6}.items():
        monkeypatch.setattr(claims, name, seconds)
    address = postgresql.new_schema()
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / FILE).write_text(address)
    yield tmp_path / "here", tmp_path / "there"


def of(folder: Path) -> Claims:
    return Claims(Database(folder))


def stop(claim: Claim) -> None:
    """As if its process stood still."""
    claim._ended.set()


def until(wanted: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not wanted():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_who_lives_keeps_it_and_who_lets_go_gives_it_at_once(places: tuple[Path, Path]) -> None:
    here, there = map(of, places)
    first = here.take(NAME, alone_here=True)
    time.sleep(1.5)
    with pytest.raises(HeldError, match="process"):
        there.take(NAME, alone_here=True)
    assert there.holder(NAME, elsewhere=True) is not None and here.holder(NAME, elsewhere=True) is None
    assert there.living("m-") == [NAME] and there.living("server ") == []
    first.require()
    first.release()
    second = there.take(NAME, alone_here=True)
    assert second.token > first.token
    there.forget(second)
    assert here.token(NAME) == 0


def test_a_dead_one_of_the_same_folder_is_replaced_at_once(places: tuple[Path, Path]) -> None:
    stop(of(places[0]).take(NAME, alone_here=True))
    with pytest.raises(HeldError):
        of(places[1]).take(NAME, alone_here=True)
    of(places[0]).take(NAME, alone_here=True).release()


def test_one_that_stood_still_acts_no_more(places: tuple[Path, Path]) -> None:
    lost = threading.Event()
    stopped = of(places[0]).take(NAME, alone_here=True, on_lost=lost.set)
    stop(stopped)
    until(lambda: of(places[1]).holder(NAME) is None)
    other = of(places[1]).take(NAME, alone_here=True)
    assert other.token == stopped.token + 1
    assert not claims.stands(places[0], NAME, stopped.token) and claims.stands(places[0], NAME, other.token)
    stopped._ended.clear()
    acts: list[Callable[[], object]] = [
        stopped.require,
        lambda: LocalHost("here", None).run("true"),
        lambda: EngineClient("source", places[0] / "none.sock").stop(),
        lambda: doing("pausing").__enter__(),
        lambda: GroupStore(places[0]).all(),
    ]
    with fence.under(stopped):
        for act in acts:
            with pytest.raises(FencedError, match=NAME):
                act()
    assert lost.is_set()
    other.require()
    with fence.under(other):
        GroupStore(places[1]).all()
    other.release()


def test_it_is_not_taken_within_a_transaction_of_who_has_it(places: tuple[Path, Path]) -> None:
    holder, taken = of(places[0]).take(NAME, alone_here=True), threading.Event()

    def take() -> None:
        until(lambda: of(places[1]).holder(NAME) is None)
        of(places[1]).take(NAME, alone_here=True).release()
        taken.set()

    with fence.under(holder), Database(places[0]).transaction() as db:
        stop(holder)
        # Only who stands in a transaction is fenced here: the other thread is the other host's.
        fence._held.remove(holder)
        other = threading.Thread(target=take)
        other.start()
        time.sleep(1)
        assert not taken.is_set()
        db.execute(sa.text("SELECT 1"))
        fence._held.append(holder)
    other.join(20)
    assert taken.is_set()


def test_one_that_stands_still_in_a_transaction_keeps_nobody_waiting(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "_STUCK", 500)
    holder = of(places[0]).take(NAME, alone_here=True)
    with pytest.raises(DatabaseGoneError), Database(places[0]).transaction() as db:
        holder.require_in(db)
        stop(holder)
        until(lambda: of(places[1]).holder(NAME) is None)
        of(places[1]).take(NAME, alone_here=True).release()
        db.execute(sa.text("SELECT 1"))


def test_a_migration_is_taken_over_with_what_is_known_of_it(places: tuple[Path, Path]) -> None:
    here, there = MigrationStore(places[0]), MigrationStore(places[1])
    mine = here.add(Spec(vm="web", source="a:///", destination="b:///"), Facts())
    read_early = there.get(mine.id)
    with pytest.raises(FencedError), here.running(mine):
        here.enter(mine, State.PREPARING)
        mine.facts.token = 5
        here.save(mine)
        assert there.is_running(mine.id) and here.is_running(mine.id)
        with pytest.raises(InputError, match="another drover process"), there.running(read_early):
            pass
        (claim,) = fence.held()
        assert isinstance(claim, Claim)
        stop(claim)
        until(lambda: not there.is_running(mine.id))
        fence._held.clear()
        with there.running(read_early):
            assert (read_early.facts.token, read_early.state) == (5, State.PREPARING)
            there.enter(read_early, State.PAUSED)
        fence._held.append(claim)
        claim._ended.clear()
        here.enter(mine, State.REPLICATING)
    assert here.get(mine.id).state is State.PAUSED


def test_tokens_only_grow(data: Path) -> None:
    made = [of(data).take(NAME, alone_here=True) for _ in range(3)]
    assert [claim.token for claim in made] == [1, 2, 3]
    for claim in made:
        claim.release()
    assert of(data).take(NAME, alone_here=True).token == 4


def test_a_mark_of_an_attempt_that_is_being_taken_back_does_not_count(postgresql: Cluster, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(postgresql.new_schema())
    spec = Spec(vm="web", source="a:///", destination="b:///")
    migrations = [MigrationStore(tmp_path).add(spec, Facts()) for _ in range(2)]
    groups = GroupStore(tmp_path)
    members = [Member(migration=one.id, vm="web", turn=0, delay=0) for one in migrations]
    group = groups.add("plan", "pair", members).id
    for one in migrations:
        groups.mark(group, one.id, Mark.READY, attempt=0)
    groups.advance(group, attempt=0, phase=Phase.GATHERING)
    late = threading.Thread(target=lambda: groups.mark(group, migrations[0].id, Mark.VERIFIED, attempt=0))
    with Database(tmp_path).transaction() as db:
        # As `take_back` does, and the mark comes in the middle of it.
        db.execute(sa.text("UPDATE groups SET phase = 'gathering', attempt = 1"))
        late.start()
        time.sleep(0.3)
        db.execute(sa.text("UPDATE members SET mark = 0"))
    late.join(20)
    assert {member.mark for member in groups.get(group).members} == {Mark.REPLICATING}


def test_events_are_seen_in_the_order_of_their_numbers(postgresql: Cluster, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(postgresql.new_schema())
    store = MigrationStore(tmp_path)
    one = store.add(Spec(vm="web", source="a:///", destination="b:///"), Facts())
    other = threading.Thread(target=lambda: store.note(one, "second"))
    with Database(tmp_path).transaction() as db:
        _append(db, one.id, "note", "first")
        other.start()
        time.sleep(0.3)
        assert [text for *_, text in store.happened(0, 9)] == ["planned"]
    other.join(20)
    assert [text for *_, text in store.happened(0, 9)] == ["planned", "first", "second"]
