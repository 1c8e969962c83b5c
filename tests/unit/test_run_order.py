"""A run follows the worked-out order: within limits, anew when something ends or its plan changes, and says who waits.

The workflows are the real ones on their database; the migrations' processes are simulated.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drover.model.migration import Facts, Spec, State
from drover.model.timeline import Basis, Progressing
from drover.planner.expect import Expectation
from drover.planner.parts import Part, Parts, PartVm
from drover.plans.course import End
from drover.plans.file import parse
from drover.plans.needs import Resource
from drover.plans.wishes import Vms, wishes
from drover.store import MigrationStore, OrderStore, PlanStore, RunStore
from drover.store.plans import RunKind, RunState, StoredRun
from drover.workflows import carry, durable
from drover.workflows.start import enqueue, plan_changed

HEAD = "version: 1\nplan: move\nfrom: alpha\nto: beta\n"
LINK = Resource("link", "alpha → beta")
GIB = 2.0**30


class Simulated:
    """Migrations that end when the test says so, in place of processes."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.store = MigrationStore()
        self.ids: dict[str, str] = {}
        self._ends: dict[str, End] = {}
        self._copied: set[str] = set()

    def prepare(self, text: str, sizes: dict[str, float], groups: tuple[tuple[str, ...], ...]) -> dict[str, Any]:
        """What checking and recording a plan would come to; VMs that no group has go alone."""
        plan = parse(text, "plan")
        for vm in sizes:
            spec = Spec(vm=vm, source="a:///", destination="b:///")
            self.ids[vm] = self.store.add(spec, Facts(uuid=vm)).id
        batches = [(group.group, True, members) for group, members in zip(plan.groups, groups, strict=True)]
        grouped = {vm for _, _, members in batches for vm in members}
        batches += [(vm, False, (vm,)) for vm in sizes if vm not in grouped]
        vms = {vm: self._vm(vm, size) for vm, size in sizes.items()}
        said = wishes(plan, [Vms(name=name, group=g, vms=[vms[vm] for vm in members]) for name, g, members in batches])
        parts = [
            Part(name=name, group=group, vms=tuple(vms[vm] for vm in members), **vars(said[name]))
            for name, group, members in batches
        ]
        return {
            "plan": plan.plan,
            "at_once": plan.at_once,
            "limits": plan.limits.model_dump(),
            "batches": [
                {"name": part.name, "members": list(part.migrations), "after": list(part.after), "finished": []}
                for part in parts
            ],
            "parts": Parts(parts=tuple(parts), link=100e6, link_known=True).model_dump(mode="json"),
        }

    def _vm(self, name: str, size: float) -> PartVm:
        return PartVm(
            name=name, uuid=name, migration=self.ids[name],
            expected=Expectation(fixed=1.0, wire=size, cutover=5.0, basis=Basis.SIZE),
            copying=frozenset({Resource("host", "alpha")}), cutover=frozenset({Resource("host", "beta")}),
            throughout=frozenset({LINK}),
        )  # fmt: skip

    async def attend(self, migration: str, _: float, *, copied: Callable[[], Awaitable[None]]) -> End:
        name = next(name for name, number in self.ids.items() if number == migration)
        self.begun.append(name)
        self.enter(name, State.PREPARING)
        told = False
        while name not in self._ends:
            if name in self._copied and not told:
                self.enter(name, State.REPLICATING, State.READY)
                await copied()
                told = True
            await asyncio.sleep(0.02)
        if self._ends[name] is End.FINISHED:
            self.enter(name, State.CANCELLED)
        return self._ends[name]

    def enter(self, name: str, *states: State) -> None:
        migration = self.store.get(self.ids[name])
        migration.facts.timings.begun_at = time.time()
        for state in states:
            self.store.enter(migration, state)

    def end(self, name: str, end: End = End.FINISHED) -> None:
        self._ends[name] = end

    def copied(self, name: str) -> None:
        self._copied.add(name)

    def waits(self) -> dict[str, str]:
        names = {number: name for name, number in self.ids.items()}
        return {names[number]: reason for number, reason in OrderStore().waits(names).items()}


@pytest.fixture
def simulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulated]:
    monkeypatch.setenv("DROVER_DATA", str(tmp_path))
    simulated = Simulated()
    monkeypatch.setattr(carry, "attend", simulated.attend)
    durable.launch(tmp_path, runs_at_once=4)
    yield simulated
    durable.close()


def until(wanted: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not wanted():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def start(
    monkeypatch: pytest.MonkeyPatch, simulated: Simulated, text: str, sizes: dict[str, float],
    groups: tuple[tuple[str, ...], ...] = (), without: tuple[str, ...] = (),
) -> None:  # fmt: skip
    PlanStore().put("move", text, "boss")
    prepared = simulated.prepare(text, sizes, groups)
    for field in without:
        del prepared[field]
    monkeypatch.setattr(carry, "prepare", lambda _: prepared)
    target = {"plan": "move", "version": 1}
    RunStore().add(StoredRun(id="r-1", kind=RunKind.PLAN, target=target, name="move", by="boss"))
    enqueue("r-1")


def test_the_next_begins_when_one_ends_however_it_ends_and_each_that_waits_says_why(
    simulated: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = "groups:\n- {group: db, vms: [d1, d2]}\n- {group: shop, vms: [s], after: [db]}\n"
    text = HEAD + "at_once: 9\nlimits: {per_host: 2, per_link: 3}\nvms: [w1, w2, w3]\n" + groups
    sizes = {"w1": 9 * GIB, "w2": 2 * GIB, "w3": GIB, "d1": GIB, "d2": GIB, "s": 40 * GIB}
    start(monkeypatch, simulated, text, sizes, (("d1", "d2"), ("s",)))
    # The longest chain goes first, though it stands last.
    until(lambda: sorted(simulated.begun) == ["d1", "d2"] and len(simulated.waits()) == 4)
    assert simulated.waits()["s"] == "waits for db"
    assert {simulated.waits()[vm] for vm in ("w1", "w2", "w3")} == {"host alpha has 2 of 2"}
    simulated.copied("d1")
    until(lambda: len(simulated.begun) == 3)
    # All is copied, so that the host has room; the link has none before somebody ends.
    simulated.copied("d2")
    until(lambda: "link alpha → beta has 3 of 3" in simulated.waits().values())
    simulated.end("d1")
    until(lambda: len(simulated.begun) == 4)
    simulated.end("d2", End.FAILED)
    until(lambda: simulated.waits().get("s") == "db did not finish")
    for vm in ("w1", "w2", "w3"):
        simulated.end(vm)
    until(lambda: RunStore().get("r-1").state is RunState.HELD)
    assert set(simulated.begun) == set(sizes) - {"s"}
    assert "not finished: " in str(RunStore().get("r-1").reason)
    timeline = OrderStore().get("r-1")
    assert timeline is not None and timeline.end is None
    states = {row.name: row.state for row in timeline.rows}
    assert (states["db"], states["shop"]) == (Progressing.STOPPED, Progressing.WAITING)
    assert simulated.waits() == {}


def test_a_plan_that_is_applied_anew_changes_the_order_of_what_waits(
    simulated: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = HEAD + "at_once: 1\nvms: [a, b, c]\n"
    start(monkeypatch, simulated, text, {"a": 3 * GIB, "b": 2 * GIB, "c": GIB})
    until(lambda: len(simulated.begun) == 1 and len(simulated.waits()) == 2)
    (first,) = simulated.begun
    last = OrderStore().get("r-1").rows[-1].name  # type: ignore[union-attr]
    # What cannot be followed is told, and what was followed goes on.
    PlanStore().put("move", text + f"exceptions:\n- {{vms: [{last}], pin: {{position: 4}}}}\n", "boss")
    plan_changed("r-1")
    until(lambda: "pinned to position 4" in str(RunStore().get("r-1").reason))
    PlanStore().put("move", text + f"exceptions:\n- {{vms: [{last}], pin: {{position: 2}}}}\n", "boss")
    plan_changed("r-1")
    until(lambda: OrderStore().get("r-1").rows[1].name == last)  # type: ignore[union-attr]
    until(lambda: RunStore().get("r-1").reason is None)
    simulated.end(first)
    until(lambda: simulated.begun[1:] == [last])
    for vm in "abc":
        simulated.end(vm)
    until(lambda: RunStore().get("r-1").state is RunState.FINISHED)


def test_what_an_older_drover_prepared_goes_on_in_the_order_of_its_plan(
    simulated: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = HEAD + "at_once: 1\nvms: [a, b]\n"
    start(monkeypatch, simulated, text, {"a": GIB, "b": 9 * GIB}, without=("parts", "limits", "plan"))
    until(lambda: simulated.begun == ["a"])
    simulated.copied("a")
    plan_changed("r-1")
    simulated.end("a")
    simulated.end("b")
    until(lambda: RunStore().get("r-1").state is RunState.FINISHED)
    assert simulated.begun == ["a", "b"]
