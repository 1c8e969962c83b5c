"""The timeline of a plan: what it is reckoned from, how far what runs is, what people and programs are shown of it."""

import json
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from typer.testing import CliRunner

from drover.cli.main import app
from drover.errors import InputError
from drover.model.hours import Hours
from drover.model.migration import State
from drover.model.order import Limits, Pin
from drover.model.plan import Plan
from drover.model.timeline import Basis, Progressing, Timeline
from drover.model.units import format_moment
from drover.model.vm import Labels
from drover.planner.expect import ASSUMED_LINK, Expectation
from drover.planner.parts import Part, Parts, PartVm, Wishes
from drover.planner.timeline import Going, Sight, work_out
from drover.plans import site
from drover.plans.needs import Resource
from drover.store import LinkStore
from tests.unit.test_forecast import link
from tests.unit.test_plan_command import vm
from tests.unit.test_planner import every

NOW = 1796508000.0
PLAN = """\
version: 1
plan: move
from: a:///
to: b:///
at_once: 2
groups:
  - {group: database, vms: ["db*"], priority: 2}
  - {group: shop, vms: [web], after: [database]}
vms: ["<old>"]
exceptions:
  - {vms: ["<old>"], pin: {not_before: "2099-12-05T22:00:00Z"}}
"""


def part(name: str, *vms: str, wire: float = 1000.0, cutover: float = 5, **more: object) -> Part:
    return Part(
        name=name,
        group=len(vms) > 0,
        vms=tuple(
            PartVm(
                name=one, uuid=one, migration=f"m-{one}",
                expected=Expectation(fixed=10, wire=wire, cutover=cutover, basis=Basis.SIZE),
                copying=frozenset({Resource("host", "a")}), cutover=frozenset(), throughout=frozenset(),
            )
            for one in vms or (name,)
        ),
        **more,  # type: ignore[arg-type]
    )  # fmt: skip


def worked_out(*parts: Part, going: Going | None = None, **sights: Sight) -> Timeline:
    return work_out(
        "move", Parts(parts=parts, link=100.0, link_known=True), at_once=1, limits=Limits(), now=NOW,
        sights={f"m-{name}": sight for name, sight in sights.items()}, going=going,
        windows=lambda one: every(1000, 100) if one.name == "shop" else None,
    )  # fmt: skip


def test_what_runs_goes_on_from_where_it_is_and_what_is_finished_stays() -> None:
    found = worked_out(
        part("done"), part("shop", "web", after=("db",)), part("db"), part("late", priority=1),
        going=Going(begun={"db", "done"}, waits={"shop": "waits for db"}),
        done=Sight(state=State.FINISHED, begun=NOW - 50, ended=NOW - 5),
        db=Sight(state=State.REPLICATING, begun=NOW - 10, ended=None, left=0.5, holding="its gate is shut"),
    )  # fmt: skip
    rows = {row.name: row for row in found.rows}
    assert [row.name for row in found.rows] == ["done", "db", "late", "shop"]
    assert (rows["done"].state, rows["done"].begin, rows["done"].end) == (Progressing.FINISHED, NOW - 50, NOW - 5)
    assert (rows["db"].begin, rows["db"].copied, rows["db"].end) == (NOW - 10, NOW + 15, NOW + 20)
    assert (rows["db"].state, rows["db"].waits_for) == (Progressing.RUNNING, "its gate is shut")
    assert (rows["late"].begin, rows["late"].state) == (NOW + 20, Progressing.WAITING)
    assert (rows["shop"].copied, rows["shop"].cutover) == (NOW + 65, NOW + 900)
    assert rows["shop"].waits_for == "waits for db"
    assert found.end == rows["shop"].end == NOW + 905


def test_what_failed_holds_up_what_comes_after_it_and_says_why() -> None:
    failed = Sight(state=State.FAILED, begun=NOW - 10, ended=None, reason="the link was lost")
    parts = [part("db"), part("app", after=("db",)), part("web")]
    found = worked_out(*parts, going=Going(begun={"db"}, lost={"db", "app"}), db=failed)
    rows = {row.name: row for row in found.rows}
    assert (rows["db"].state, rows["db"].waits_for) == (Progressing.STOPPED, "db: the link was lost")
    assert (rows["app"].begin, rows["app"].waits_for) == (None, "db will not finish")
    assert rows["web"].begin == NOW and found.end is None
    # Without a run it would begin again.
    again = worked_out(*parts, db=failed)
    assert again.end is not None and {row.begin is None for row in again.rows} == {False}


def test_another_version_of_the_plan_changes_what_is_wished() -> None:
    parts = Parts(parts=(part("db", "db1"), part("web")), link=1.0, link_known=False)
    wished = parts.wished({"db": Wishes(after=("web", "new")), "web": Wishes(pin=Pin(position=1), priority=3)})
    assert [(one.after, one.pin, one.priority) for one in wished.parts] == [
        (("web",), None, 0),
        ((), Pin(position=1), 3),
    ]
    assert Parts.model_validate(json.loads(wished.model_dump_json())) == wished
    assert [one.name for one in wished.arranged(["web", "db"]).parts] == ["web", "db"]


def test_another_version_of_the_plan_means_vms_by_their_labels_without_asking_the_site() -> None:
    web = part("web")
    web = web.model_copy(update={"vms": (web.vms[0].model_copy(update={"labels": Labels(tags=("late",))}),)})
    kept = Parts.model_validate_json(Parts(parts=(part("app"), web), link=1.0, link_known=False).model_dump_json())
    exception = {"vms": ["tag:late"], "priority": 5}
    plan = Plan.model_validate(
        {"version": 1, "plan": "move", "from": "a", "to": "b", "vms": ["*"], "exceptions": [exception]}
    )
    assert [one.priority for one in kept.wishing(plan).parts] == [0, 5]


def test_a_group_cuts_over_in_its_maintenance_window() -> None:
    # 2026-12-05, a Saturday, 22:00 UTC.
    night = Hours(days=("sun",), start="01:00", end="03:00", timezone="Europe/Zurich")
    short = Hours(start="05:00", end="05:01", timezone="UTC")
    both = (part("db", windows=(night,)), part("web", windows=(short,), cutover=90))
    found = work_out(
        "move", Parts(parts=both, link=100.0, link_known=True),
        at_once=2, limits=Limits(), now=NOW, sights={},
    )  # fmt: skip
    rows = {row.name: row for row in found.rows}
    assert (rows["db"].copied, rows["db"].cutover) == (NOW + 30, NOW + 2 * 3600)
    assert (rows["web"].end, rows["web"].waits_for) == (None, "no window is left that is long enough for its cutover")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DROVER_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(site, "look", lambda _: [vm(name) for name in ("<old>", "db1", "db2", "web")])
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN)
    return path


def run(*words: str | Path) -> str:
    result = CliRunner(env={"COLUMNS": "160"}).invoke(app, ["plan", *map(str, words)])
    assert result.exit_code == 0, result.output
    return result.output


def test_people_see_a_chart(file: Path) -> None:
    lines = run("timeline", file).splitlines()
    then = 4100191200.0
    assert lines[0].startswith(f"move: done {format_moment(then)[:-1]}")
    assert lines[1] == "nobody measured the link: 107 MiB/s assumed; 4 VMs by their sizes"
    rows = {line.split()[0]: line for line in lines[3:-1]}
    assert list(rows) == ["database", "shop", "<old>"]
    assert "priority 2" in rows["database"] and "▓" in rows["database"]
    assert "waits for database" in rows["shop"]
    assert f"does not begin before {format_moment(then)}; pinned" in rows["<old>"]


def test_programs_read_the_same_and_pages_are_written(file: Path, tmp_path: Path) -> None:
    LinkStore().add(link(rate=50e6).model_copy(update={"source": "a:///", "destination": "b:///", "at": time.time()}))
    html, svg = tmp_path / "t.html", tmp_path / "t.svg"
    said = json.loads(run("timeline", file, "--json", "--html", html, "--svg", svg))
    assert said.pop("event") == "timeline"
    found = Timeline.model_validate(said)
    assert [row.name for row in found.rows] == ["database", "shop", "<old>"]
    assert found.link_known and found.link_rate == pytest.approx(50e6) != ASSUMED_LINK
    assert {vm.basis for row in found.rows for vm in row.vms} == {Basis.SIZE}
    texts = [one.text for one in ET.fromstring(svg.read_text()).iter("{http://www.w3.org/2000/svg}text")]
    assert {"database", "shop", "<old>"} <= set(texts)
    page = html.read_text()
    assert "&lt;old&gt;" in page and "<old>" not in page and "<script" not in page


def test_what_is_pinned_by_hand_is_in_the_file_and_in_the_order(file: Path) -> None:
    assert run("pin", file, "database", "--position", "2").startswith("database is pinned to position 2;")
    assert file.read_text() == PLAN.replace("priority: 2}", "priority: 2, pin: {position: 2}}")
    rows = json.loads(run("timeline", file, "--json"))["rows"]
    assert [row["name"] for row in rows] == ["<old>", "database", "shop"]
    run("pin", file, "<old>", "--position", "1", "--not-before", "2099-01-01T00:00:00Z", "--json")
    for words, said in (
        (["shop", "--position", "1"], "comes after database"),
        (["shop", "--position", "4"], "the plan has 3 groups"),
        (["shop"], "the pin says nothing"),
        (["shop", "--position", "0"], "greater than or equal to 1"),
        (["shop", "--not-before", "tomorrow"], "not a date with a time"),
        (["mail", "--position", "1"], "no group 'mail'"),
    ):
        with pytest.raises(InputError) as refused:
            CliRunner().invoke(app, ["plan", "pin", str(file), *words], catch_exceptions=False)
        assert said in refused.value.message and refused.value.remedy
    run("unpin", file, "database")
    assert "position: 2" not in file.read_text() and "position: 1" in file.read_text()
