"""The forecast of a plan: batches in their order behind their barriers, each VM as the plan asks, every row told."""

import json
import math
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from drover.cli import estimate as estimating
from drover.cli.main import app
from drover.cli.questions import ask
from drover.errors import InputError
from drover.estimator.order import Bunch, Order
from drover.estimator.simulate import FOREVER, Machine, Outcome, Phases, simulate
from drover.estimator.simulate import Path as Way
from drover.model.forecast import Batch, Forecast, Method, Question, VmQuestion
from drover.model.hours import Hours
from drover.model.migration import Cutover
from drover.model.observation import LinkObservation
from drover.model.plan import Plan
from drover.plans import site
from drover.plans.resolve import resolve
from drover.plans.site import Resolved
from tests.unit.test_forecast import GB, ask_of, link, machine, observation
from tests.unit.test_plan_command import PLAN, vm

WAY = Way(rate=10e6, cover=GB)


def order(*bunches: tuple[tuple[int, ...], tuple[str, ...]], at_once: int = 4) -> Order:
    """Bunches called a, b, …: their members, and what they come after."""
    named = zip("abcdefgh", bunches, strict=False)
    return Order(
        bunches=tuple(Bunch(name=name, members=members, after=after) for name, (members, after) in named),
        at_once=at_once,
    )


def test_who_finds_no_room_begins_when_the_one_before_is_done() -> None:
    alone = simulate([machine()], WAY, Phases())[0]
    first, second = simulate([machine(), machine()], WAY, Phases(), order(((0,), ()), ((1,), ()), at_once=1))
    assert (first.begun, second.begun) == (0.0, first.duration)
    assert first.duration == pytest.approx(alone.duration, rel=0.01)
    assert second.duration == pytest.approx(2 * alone.duration, rel=0.01)


def test_a_group_comes_after_another_and_is_down_and_done_together() -> None:
    machines = [machine(GB), machine(GB), machine(5 * GB)]
    single, small, large = simulate(machines, WAY, Phases(), order(((0,), ()), ((1, 2), ("a",))))
    assert small.begun == large.begun == single.duration
    assert (small.duration, small.downtime) == (large.duration, large.downtime)
    # The small one waits at the barrier, and the large one has the whole way.
    assert large.duration - large.begun == pytest.approx(6 * GB * 0.5 / 10e6, rel=0.1)


def test_who_is_started_later_is_down_for_longer() -> None:
    together = Order.together(2)
    plain = simulate([machine(GB), machine(GB)], WAY, Phases(), together)
    first, second = simulate([machine(GB), replace(machine(GB), starts_after=10.0)], WAY, Phases(), together)
    assert (first.downtime, second.downtime) == (plain[0].downtime, plain[0].downtime + 10)
    assert first.duration == second.duration == plain[0].duration + 10


def test_a_vm_keeps_to_its_own_bandwidth() -> None:
    slow = replace(machine(), bandwidth=1e6)
    (held,) = simulate([slow], WAY, Phases())
    assert held.duration == pytest.approx(10 * GB * 0.5 / 1e6, rel=0.02)


def test_a_cutover_waits_for_the_window_that_it_fits_into() -> None:
    night = Hours.model_validate({"days": ["sat"], "from": "22:00", "to": "23:00", "timezone": "UTC"})
    opens = datetime(2026, 12, 5, 22, tzinfo=UTC).timestamp()
    free = simulate([machine(), machine()], WAY, Phases(), order(((0,), ()), ((1,), ())))

    def first_waits(before: float, vm: Machine = machine()) -> tuple[Outcome, Outcome]:  # noqa: B008
        both = order(((0,), ()), ((1,), ("a",)))
        bunches = (replace(both.bunches[0], windows=(night,)), both.bunches[1])
        one, other = simulate([vm, machine()], WAY, Phases(), replace(both, bunches=bunches, begins=opens - before))
        return one, other

    one, other = first_waits(86400.0)
    assert one.duration == pytest.approx(86400 + one.downtime + Phases().finish, abs=0.01)
    assert one.downtime == pytest.approx(free[0].downtime, rel=0.1) and one.wire_bytes >= free[0].wire_bytes
    assert other.begun == one.duration, "what comes after it waits as well"
    late, _ = first_waits(-3600 + free[0].downtime / 2)
    assert late.duration > 6 * 86400, "this one closes too soon"
    never, _ = first_waits(0.0, replace(machine(), memory=1e12))
    assert not never.opened and never.duration >= FOREVER


def test_one_that_never_ends_keeps_nobody_from_beginning() -> None:
    # It writes faster than the link carries, and never the same twice: all that can be done is to give it up.
    endless = machine(1e15, dirty=lambda seconds: 1e9 * seconds)
    stuck, after = simulate([endless, machine()], WAY, Phases(), order(((0,), ()), ((1,), ("a",))))
    assert not stuck.opened and stuck.duration == FOREVER
    assert after.begun == pytest.approx(FOREVER) and after.opened


@st.composite
def orders(draw: st.DrawFn) -> tuple[list[Machine], Order]:
    bunches: list[tuple[tuple[int, ...], tuple[str, ...]]] = []
    count = 0
    for number in range(draw(st.integers(1, 5))):
        size = draw(st.integers(1, 3))
        before = draw(st.lists(st.sampled_from("abcde"[:number]), max_size=2, unique=True)) if number else []
        bunches.append((tuple(range(count, count + size)), tuple(before)))
        count += size
    sizes = draw(st.lists(st.sampled_from([0.0, 1e8, 3e9]), min_size=count, max_size=count))
    machines = [machine(size, dirty=lambda seconds: min(1e6 * seconds, 1e8)) for size in sizes]
    return machines, order(*bunches, at_once=draw(st.integers(1, 6)))


@settings(max_examples=40)
@given(orders())
def test_nobody_begins_too_early_and_never_too_many(drawn: tuple[list[Machine], Order]) -> None:
    machines, planned = drawn
    outcomes = simulate(machines, WAY, Phases(), planned)
    spans = {
        bunch.name: {(outcomes[place].begun, outcomes[place].duration) for place in bunch.members}
        for bunch in planned.bunches
    }
    assert all(len(times) == 1 for times in spans.values()), "a bunch begins and ends as one"
    begun, ended = ({name: min(times)[end] for name, times in spans.items()} for end in (0, 1))
    for bunch in planned.bunches:
        assert all(begun[bunch.name] >= ended[name] for name in bunch.after)
        beside = [one for one in planned.bunches if begun[one.name] <= begun[bunch.name] < ended[one.name]]
        assert sum(len(one.members) for one in beside) <= planned.at_once or beside == [bunch]
        assert math.isfinite(ended[bunch.name]) and ended[bunch.name] > begun[bunch.name]


def planned(**fields: Any) -> Resolved:
    plan = Plan.model_validate({"version": 1, "plan": "p", "from": "a:///", "to": "b:///", **fields})
    vms = [vm(name) for name in ("db1", "db2", "web")]
    return Resolved(plan=plan, vms={one.uuid: one for one in vms}, batches=resolve(plan, vms))


GROUPS: dict[str, Any] = {
    "groups": [{"group": "database", "vms": ["db*"]}, {"group": "shop", "vms": ["web"], "after": ["database"]}]
}


def question(resolved: Resolved, **given: Any) -> Question:
    return ask(**{"together": False, "shipping": None, "device_rate": None, **given}, planned=resolved)


def test_the_plan_says_what_is_asked_of_each_vm_and_an_option_holds_for_all() -> None:
    said = planned(
        **GROUPS,
        at_once=7,
        settings={"max_downtime": "10s", "bandwidth": "8mbit", "connections": 3, "target_time": "1h"},
        exceptions=[{"vms": ["db1"], "settings": {"cutover": "restart", "max_downtime": "1m"}}],
    )
    asked = question(said)
    rest = {"bandwidth": 1e6, "target_time": 3600}
    assert asked.batches == (
        Batch(
            name="database",
            group=True,
            vms=(
                VmQuestion(vm="db1", cutover=Cutover.RESTART, max_downtime=60, **rest),
                VmQuestion(vm="db2", max_downtime=10, **rest),
            ),
        ),
        Batch(name="shop", group=True, vms=(VmQuestion(vm="web", max_downtime=10, **rest),), after=("database",)),
    )
    assert (asked.at_once, asked.connections, asked.bandwidth, asked.max_downtime) == (7, 3, None, None)
    other = question(said, max_downtime="5s", connections=9, bandwidth="80mbit", link_rate="1gbit")
    assert {one.max_downtime for batch in other.batches for one in batch.vms} == {5}
    assert {one.bandwidth for batch in other.batches for one in batch.vms} == {1e6}
    assert (other.connections, other.bandwidth, other.link_rate) == (9, 10e6, 125e6)
    with pytest.raises(InputError, match="--together"):
        question(said, together=True)


def test_waits_between_turns_add_up() -> None:
    turns = [{"vms": ["db2"]}, {"vms": ["db1"], "after": "10s"}, {"vms": ["web"], "after": "5s"}]
    (batch,) = question(planned(groups=[{"group": "g", "vms": ["*"], "power_on": turns}])).batches
    assert {one.vm: one.starts_after for one in batch.vms} == {"db2": 0, "db1": 10, "web": 15}


def forecast_of(resolved: Resolved) -> Forecast:
    """VMs that are small, and a link that carries 20 MB/s."""
    names = [member.vm for batch in resolved.batches for member in batch.members]
    return ask_of(20e6, question(resolved), *[observation(name) for name in names])


def test_there_is_a_row_for_each_vm_each_group_and_the_whole() -> None:
    said = forecast_of(planned(**GROUPS))
    assert [row.vm for row in said.vms] == ["db1", "db2", "web"]
    database, shop = said.groups
    assert (database.vm, shop.vm, said.whole.vm) == ("database", "shop", "3 VMs")
    assert shop.begins == database.duration
    assert said.whole.duration == shop.duration
    assert said.vms[0].downtime == database.downtime
    assert not said.trade_off, "the plan says what is allowed"
    assert forecast_of(planned(vms=["web"])).groups == []


def test_a_warning_names_the_batch_and_its_own_limit() -> None:
    said = forecast_of(
        planned(
            groups=GROUPS["groups"],
            exceptions=[{"vms": ["web"], "settings": {"max_downtime": "500ms", "target_time": "1s"}}],
        )
    )
    of_shop = [warning for warning in said.warnings if warning.startswith("shop: ")]
    assert any("maximum downtime of 500 ms" in warning for warning in of_shop)
    assert any("target time of 1.0 s" in warning for warning in of_shop)
    assert not any(warning.startswith("database: ") for warning in said.warnings)
    # The others of the plan need not be stopped for it.
    assert said.whole.opens == 0 and said.recommended is Method.NETWORK


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DROVER_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(site, "look", lambda _: [vm(name) for name in ("db1", "db2", "web", "legacy[1]")])
    monkeypatch.setattr(estimating, "_seen", lambda _estimator, _site, vms: [observation(name) for name in vms])
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN)
    return path


def run(*words: str | Path) -> str:
    command = ["what-if", "--link-rate", "200mbit", *map(str, words)]
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_plan_is_forecast_on_the_command_line(file: Path, tmp_path: Path) -> None:
    said = json.loads(run("--plan", file, "--json"))
    assert [(said[site], said["whole"]["vm"]) for site in ("source", "destination")] == [
        ("a:///", "4 VMs"),
        ("b:///", "4 VMs"),
    ]
    assert [group["vm"] for group in said["groups"]] == ["database", "shop"]
    text = run("--plan", file, "--html", tmp_path / "report.html")
    assert "cutover restart and resume: " in text
    rows = {line.split("  ")[0].strip() for line in text.splitlines()}
    assert {"db1", "legacy[1]", "group database", "group shop", "all 4 VMs"} <= rows
    page = (tmp_path / "report.html").read_text()
    assert "<td>group database</td>" in page and "begins after" in page


def test_what_a_plan_limits_is_kept_to_when_it_is_estimated(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def probe(source: str, destination: str, **given: Any) -> LinkObservation:
        asked.append({**given, "sites": (source, destination)})
        return link(20e6, at=time.time()).model_copy(update={"source": source, "destination": destination})

    monkeypatch.setattr(estimating, "probe", probe)
    monkeypatch.setattr(estimating, "_observe", lambda _1, _2, vms, *_: [observation(name) for name in vms])
    for at_once, limit, more in ((1, 2_000_000, []), (9, 5_000_000, []), (9, 125_000, ["--bandwidth", "1mbit"])):
        settings = "settings: {bandwidth: 8mbit, destination_address: 10.0.0.9}\n"
        several = PLAN.replace("8MiB/s", "2MB/s") + settings + f"at_once: {at_once}\n"
        file.write_text(several)
        command = ["estimate", "--plan", str(file), "--json", *more]
        result = CliRunner().invoke(app, command, catch_exceptions=False)
        assert json.loads(result.stdout)["question"]["at_once"] == at_once
        said = asked.pop()
        assert (said["sites"], said["destination_address"]) == (("a:///", "b:///"), "10.0.0.9")
        assert said["bandwidth_limit"] == limit
    file.write_text(PLAN)
    CliRunner().invoke(app, ["estimate", "--plan", str(file), "--json"], catch_exceptions=False)
    assert asked.pop()["bandwidth_limit"] is None, "some of its VMs have no limit"


def test_a_group_of_it_is_forecast_alone(file: Path) -> None:
    said = json.loads(run("--plan", file, "--group", "shop", "--json"))
    assert [one["vm"] for one in said["vms"]] == ["web"]
    assert said["groups"][0]["begins"]["p90"] == 0


@pytest.mark.parametrize(
    ("words", "message", "remedy"),
    [
        (["web", "--plan", "FILE"], "VMs were named, and a plan as well", "one of them"),
        (["--plan", "FILE", "--from", "a:///"], "come from the plan", "leave"),
        (["--plan", "FILE", "--group", "mail"], "no group 'mail'", "database, shop"),
        (["web", "--from", "a:///", "--to", "b:///", "--group", "shop"], "no plan was given", "--plan"),
        (["--from", "a:///", "--to", "b:///"], "no VM was named", "--plan"),
        (["web", "--to", "b:///"], "where the VMs run", "--from"),
        (["web", "--from", "a:///"], "where the VMs shall run", "--to"),
    ],
)
def test_what_cannot_be_meant_is_named(file: Path, words: list[str], message: str, remedy: str) -> None:
    with pytest.raises(InputError) as refused:
        run(*(str(file) if word == "FILE" else word for word in words))
    assert message in refused.value.message
    assert remedy in str(refused.value.remedy)
