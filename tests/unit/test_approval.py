"""A group that waits for somebody's leave: all may be ready, and nothing is stopped before it is given."""

from pathlib import Path

import pytest

from drover.alerts.watcher import watched
from drover.model.group import Mark, Member, Phase
from drover.model.migration import Facts, Spec
from drover.model.plan import Group, Plan
from drover.plans.file import dump, parse
from drover.replicator.barrier import Barrier
from drover.store import GroupStore, MigrationStore


def group_of(folder: Path, *, approval: bool) -> tuple[str, list[Barrier]]:
    store = MigrationStore(folder)
    members = [store.add(Spec(vm=vm, source="a:///", destination="b:///"), Facts()) for vm in ("web", "db")]
    rows = [Member(migration=one.id, vm=one.spec.vm) for one in members]
    group = GroupStore(folder).add("office", "both", rows, approval=approval)
    return group.id, [Barrier(one, folder) for one in members]


def all_ready(barriers: list[Barrier]) -> list[str | None]:
    return [barrier.waits_for(True) for barrier in barriers]


def test_without_it_nobody_is_asked(data: Path) -> None:
    _, barriers = group_of(data, approval=False)
    all_ready(barriers)
    assert all_ready(barriers)[-1] is None
    assert watched(data)["approvals"] == []


def test_all_are_ready_and_wait_until_somebody_approves(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drover.replicator.barrier._KEEP", 0.0)
    groups, (group, barriers) = GroupStore(data), group_of(data, approval=True)
    assert groups.waiting_for_approval() == []
    assert "waits for db" in str(barriers[0].waits_for(True))
    assert watched(data)["approvals"] == [], "one of them could not go yet"
    all_ready(barriers)
    for said in all_ready(barriers):
        assert f"drover approve {group}" in str(said)
    assert groups.get(group).phase is Phase.GATHERING
    (waiting,) = watched(data)["approvals"]
    assert waiting.id == group and f"drover approve {group}" in str(waiting.remedy)
    assert groups.approve(group, "boss")
    assert not groups.approve(group, "boss"), "once"
    assert all_ready(barriers)[-1] is None
    assert groups.get(group).phase is Phase.STOPPING
    assert watched(data)["approvals"] == []


def test_it_is_given_once_for_all_attempts(data: Path) -> None:
    groups, (group, barriers) = GroupStore(data), group_of(data, approval=True)
    groups.approve(group, "boss")
    all_ready(barriers)
    for member in groups.get(group).members:
        groups.mark(group, member.migration, Mark.READY, attempt=0)
    groups.advance(group, attempt=0, phase=Phase.GATHERING)
    assert groups.get(group).phase is Phase.STOPPING
    groups.take_back(group, attempt=0, reason="a test")
    assert not groups.waits_for_approval(group)


@pytest.mark.parametrize(("said", "means"), [("", None), ("    approval: yes\n", True), ("    approval: no\n", False)])
def test_a_plan_says_so_or_leaves_it_to_who_carries_it_out(said: str, means: bool | None) -> None:
    text = f"version: 1\nplan: office\nfrom: a\nto: b\ngroups:\n  - group: both\n    vms: [web, db]\n{said}"
    plan = parse(text, "plan")
    assert isinstance(plan, Plan) and isinstance(plan.groups[0], Group)
    assert plan.groups[0].approval is means
    assert parse(dump(plan), "again") == plan
