"""Maintenance windows: who may cut over now, what is waited for, who may say that it need not wait."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from drover.alerts.watcher import watched
from drover.cli.approve import _approve as approve
from drover.errors import InputError
from drover.model.group import Group, Mark, Member, Phase
from drover.model.hours import Hours
from drover.model.migration import Facts, Migration, Spec
from drover.plans.batch import Batch
from drover.plans.batch import Member as BatchMember
from drover.replicator.barrier import Barrier
from drover.replicator.record import record
from drover.replicator.window import CutoverWindow, Outside, turns
from drover.store import GroupStore, LiveStore, MigrationStore

NIGHT = Hours.model_validate({"days": ["sat"], "from": "22:00", "to": "04:00", "timezone": "UTC"})
OPENS = datetime(2026, 12, 5, 22, tzinfo=UTC).timestamp()
CLOSES = OPENS + 6 * 3600


def migration(folder: Path, vm: str = "web", windows: tuple[Hours, ...] = (NIGHT,)) -> Migration:
    return MigrationStore(folder).add(Spec(vm=vm, source="a:///", destination="b:///", windows=windows), Facts())


def at(folder: Path, one: Migration, now: float, predicted: float = 5.0) -> str | None:
    return CutoverWindow(one, folder, clock=lambda: now).waits_for(predicted)


def test_without_windows_any_time_is_right(tmp_path: Path) -> None:
    assert at(tmp_path, migration(tmp_path, windows=()), OPENS - 1) is None


def test_it_waits_for_the_window_and_says_which(tmp_path: Path) -> None:
    one = migration(tmp_path)
    said = at(tmp_path, one, OPENS - 7200)
    assert said is not None and "the window that opens Sat 2026-12-05 22:00 (UTC), in 2 h 00 min" in said
    assert f"drover approve {one.id} --now" in said
    assert at(tmp_path, one, OPENS) is None
    assert at(tmp_path, one, CLOSES) is not None


def test_a_window_that_closes_too_soon_is_as_good_as_closed(tmp_path: Path) -> None:
    one = migration(tmp_path)
    assert at(tmp_path, one, CLOSES - 60, predicted=30) is None
    said = at(tmp_path, one, CLOSES - 60, predicted=60)
    assert said is not None and "is too short for the 1 min 02 s" in said and "Sat 2026-12-12 22:00" in said


def test_windows_survive_a_restart(tmp_path: Path) -> None:
    one = MigrationStore(tmp_path).get(migration(tmp_path).id)
    assert one.spec.windows == (NIGHT,)
    assert at(tmp_path, one, OPENS - 1) is not None


def test_an_administrator_may_say_now_and_it_is_noted_who(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DROVER_DATA", str(tmp_path))
    one, other = migration(tmp_path), migration(tmp_path, "free", windows=())
    approve(one.id, group=False, now=True)
    assert at(tmp_path, one, OPENS - 7200) is None
    assert "outside its windows" in MigrationStore(tmp_path).history(one.id)[-1][2]
    assert not LiveStore(tmp_path).free_of_windows(one.id, "again"), "once"
    with pytest.raises(InputError, match="free waits for no window"):
        approve(other.id, group=False, now=True)


def group_of(folder: Path, **given: bool) -> tuple[Group, list[Migration]]:
    members = [migration(folder, vm) for vm in ("web", "db")]
    rows = [Member(migration=one.id, vm=one.spec.vm, turn=n, delay=10.0 * n) for n, one in enumerate(members)]
    return GroupStore(folder).add("office", "both", rows, **given), members


def look(folder: Path, members: list[Migration], barriers: list[Barrier], now: float) -> list[str | None]:
    return [barrier.waits_for(True, at(folder, one, now)) for one, barrier in zip(members, barriers, strict=True)]


def test_a_group_waits_for_its_window_and_then_goes_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drover.replicator.barrier._KEEP", 0.0)
    group, members = group_of(tmp_path)
    barriers = [Barrier(one, tmp_path) for one in members]
    for said in look(tmp_path, members, barriers, OPENS - 60):
        assert f"drover approve {group.id} --now" in str(said)
    now = GroupStore(tmp_path).get(group.id)
    assert now.phase is Phase.GATHERING and {member.mark for member in now.members} == {Mark.WAITING}
    # The turns and their delays have to fit as well.
    assert turns(now) == 11.5
    assert all("too short" in str(said) for said in look(tmp_path, members, barriers, CLOSES - 18))
    assert GroupStore(tmp_path).get(group.id).phase is Phase.GATHERING
    look(tmp_path, members, barriers, OPENS)
    assert look(tmp_path, members, barriers, OPENS) == [None, None]
    assert GroupStore(tmp_path).get(group.id).phase is Phase.STOPPING
    # Whoever has been let through is not held by a window that closes meanwhile: the others stand still already.
    assert look(tmp_path, members, barriers, CLOSES) == [None, None]


def test_one_whose_window_has_no_room_left_keeps_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drover.replicator.barrier._KEEP", 0.0)
    group, (web, db) = group_of(tmp_path)
    fast, slow = Barrier(web, tmp_path), Barrier(db, tmp_path)
    for _ in range(3):
        assert "db" in str(fast.waits_for(True, at(tmp_path, web, CLOSES - 60, predicted=5)))
        assert "too short" in str(slow.waits_for(True, at(tmp_path, db, CLOSES - 60, predicted=55)))
    assert GroupStore(tmp_path).get(group.id).phase is Phase.GATHERING


def test_approval_is_asked_for_before_the_window_opens(tmp_path: Path) -> None:
    group, members = group_of(tmp_path, approval=True)
    barriers = [Barrier(one, tmp_path) for one in members]
    assert watched(tmp_path)["approvals"] == []
    assert all("also waits for approval" in str(said) for said in look(tmp_path, members, barriers, OPENS - 60))
    (waiting,) = watched(tmp_path)["approvals"]
    assert waiting.id == group.id


def test_now_is_for_a_group_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DROVER_DATA", str(tmp_path))
    group, members = group_of(tmp_path, approval=True)
    with pytest.raises(InputError, match="with its group") as refused:
        approve(members[0].id, group=False, now=True)
    assert f"drover approve {group.id} --now" in str(refused.value.remedy)
    approve(group.id, group=True, now=True)
    assert not GroupStore(tmp_path).waits_for_approval(group.id)
    assert [at(tmp_path, one, OPENS - 60) for one in members] == [None, None]


def test_the_time_outside_windows_is_counted_while_nothing_else_is_waited_for() -> None:
    now = [0.0]
    outside = Outside(clock=lambda: now[0])
    said = []
    for passed, window, ready in (
        (1, "closed", None), (1, "closed", False), (1, "closed", True), (2, "closed", None), (3, "closed", True),
        (4, None, True), (5, None, True), (1, "closed", True),
    ):  # fmt: skip
        said.append(outside.look(window, ready=ready))
        now[0] += passed
    assert outside.seconds == 1 + 2 + 3 + 1
    assert said == [False, False, True, False, False, False, False, True]


def test_a_plan_that_is_run_again_gives_its_migrations_its_new_windows(tmp_path: Path) -> None:
    store, one, running = MigrationStore(tmp_path), migration(tmp_path), migration(tmp_path, "db")
    for number, each in enumerate((one, running)):
        each.facts.uuid = f"uuid-{number}"
        store.save(each)
        GroupStore(tmp_path).add("move", each.spec.vm, [Member(migration=each.id, vm=each.spec.vm)])
    noon = NIGHT.model_copy(update={"start": "12:00"})

    def batch(number: int, each: Migration) -> Batch:
        spec = each.spec.model_copy(update={"windows": (noon,), "bandwidth": 1})
        member = BatchMember(vm=spec.vm, uuid=f"uuid-{number}", spec=spec)
        return Batch(name=spec.vm, group=False, members=(member,))

    batches = [batch(0, one), batch(1, running)]
    with store.running(running):
        record("move", batches, store, lambda _: [], approval=False)
    assert store.get(one.id).spec == one.spec.model_copy(update={"windows": (noon,)}), "nothing else of it"
    assert "its windows are now sat 12:00–04:00 UTC" in store.history(one.id)[-1][2]
    assert store.get(running.id).spec.windows == (NIGHT,), "its process would not know"
    record("move", batches, store, lambda _: [], approval=False)
    assert store.get(running.id).spec.windows == (noon,)
