"""Reports: parts add up, interruptions are told with their cures, no cell is a formula, no page runs a name."""

import csv
import io
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from drover.cli.main import app
from drover.engine.status import Sent
from drover.model.group import Member
from drover.model.migration import Cutover, CutoverFacts, Facts, Migration, ReplicaVdisk, Spec, State
from drover.model.totals import Totals
from drover.replicator.events import Progress, Slowed
from drover.replicator.tally import Tally
from drover.reports.figures import Downtime, Report, faults, figures, summary
from drover.reports.gather import report
from drover.reports.page import as_html
from drover.reports.table import as_csv
from drover.store import GroupStore, MigrationStore

CUTOVER = CutoverFacts(
    mode=Cutover.RESUME, stopping_at=100.0, stopped_at=100.1, last_epoch_seconds=0.3, last_epoch_bytes=1 << 20,
    verified_at=100.6, left_at=100.8, memory_bytes=1 << 28, memory_moved_at=101.5, started_at=102.0,
)  # fmt: skip


def vdisk(size: int) -> ReplicaVdisk:
    return ReplicaVdisk(
        name="vda", size=size, source_path="/a", source_format="raw", pool="p", volume="v", format="raw"
    )


def test_the_parts_of_a_downtime_add_up() -> None:
    downtime = Downtime.of(CUTOVER)
    assert downtime is not None
    parts = downtime.model_dump()
    assert parts.pop("seconds") == pytest.approx(2.0)
    assert sum(parts.values()) == pytest.approx(2.0)
    assert [round(value, 3) for value in parts.values()] == [0.1, 0.3, 0.2, 0.9, 0.5]
    assert Downtime.of(CUTOVER.model_copy(update={"mode": Cutover.MANUAL})) is None
    assert Downtime.of(CUTOVER.model_copy(update={"started_at": None})) is None


@given(st.lists(st.floats(0, 100), min_size=5, max_size=5), st.booleans(), st.booleans())
def test_no_part_is_negative(gaps: list[float], moved: bool, left: bool) -> None:
    at = [1000.0]
    for gap in gaps:
        at.append(at[-1] + gap)
    facts = CutoverFacts(
        mode=Cutover.RESTART, stopping_at=at[0], stopped_at=at[1], last_epoch_seconds=gaps[1] * 1.2, verified_at=at[2],
        left_at=at[3] if left else None, memory_moved_at=at[4] if moved else None, started_at=at[5],
    )  # fmt: skip
    downtime = Downtime.of(facts)
    assert downtime is not None
    parts = downtime.model_dump()
    assert parts.pop("seconds") == pytest.approx(sum(parts.values()), abs=1e-6)
    assert min(parts.values()) >= -1e-9


def test_interruptions_are_told_with_what_was_done() -> None:
    history = [
        (1.0, "state", "planned"), (2.0, "state", "preparing"), (3.0, "state", "replicating"),
        (4.0, "state", "paused: the pool fast is full"), (5.0, "note", "the pool was made larger"),
        (6.0, "state", "preparing"), (7.0, "note", "1 GiB is left to send"), (8.0, "state", "replicating"),
        (9.0, "note", "not about it"), (10.0, "state", "failed: no answer"), (11.0, "state", "cancelled"),
    ]  # fmt: skip
    full, silent = faults(history)
    assert (full.state, full.what, full.at, full.until) == ("paused", "the pool fast is full", 4.0, 6.0)
    assert full.done == ["the pool was made larger", "1 GiB is left to send"]
    assert (silent.state, silent.until, silent.done) == ("failed", None, ["cancelled"])
    assert faults(history[:3]) == []


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000), st.booleans()), max_size=20))
def test_totals_go_on_over_engines_that_begin_at_nothing(steps: list[tuple[int, int, bool]]) -> None:
    totals, raw, foreground, expected = Totals(), 0, 0, [0, 0]
    for background, more, restarted in steps:
        if restarted and background + more < raw:
            raw = foreground = 0
            # Another Drover goes on with what is stored.
            totals = Totals.model_validate_json(totals.model_dump_json())
        raw, foreground = raw + background + more, foreground + more
        expected = [expected[0] + background, expected[1] + more]
        Tally(totals).sent([Sent(raw_bytes=raw, foreground_bytes=foreground)])
    # A counter that is not lower than before cannot be told from one that went on.
    assert totals.background_bytes + totals.foreground_bytes <= sum(expected)
    if not any(restarted for _, _, restarted in steps):
        assert [totals.background_bytes, totals.foreground_bytes] == expected


def test_what_was_slowed_and_lost_is_timed_by_looks() -> None:
    tally = Tally(totals := Totals())
    slowed = Slowed(limit=1 << 20, bytes_per_second=100.0, requests_per_second=1.0, seconds=0.0)

    def look(at: float, link: str = "up", held: bool = False, slow: Slowed | None = None) -> None:
        progress = Progress(migration="m-1", vm="web", state=State.REPLICATING, link=link, wire_rate=at, slowed=slow)
        tally.look(progress, at, held_back=held)

    look(10.0, "down: cut", held=True)
    look(11.0, "down: cut", held=True)
    look(12.0, slow=slowed)
    look(500.0, slow=slowed)
    assert (totals.link_lost_seconds, totals.held_back_seconds) == (1.0, 1.0)
    assert (totals.slowed_seconds, totals.slowed_bytes, totals.lowest_write_limit) == (6.0, 600.0, 1 << 20)
    assert totals.peak_wire_rate == 500.0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two migrations of a plan, one finished, one held; and one by itself with a name that means mischief."""
    monkeypatch.setenv("DROVER_DATA", str(tmp_path))
    monkeypatch.delenv("DROVER_SERVER", raising=False)
    store = MigrationStore(tmp_path)
    done = _migrated(store, "db1")
    held = store.add(Spec(vm="db2", source="qemu:///a", destination="qemu:///b"), Facts(uuid="u2"))
    store.enter(held, State.PREPARING)
    store.enter(held, State.PAUSED, reason="the pool fast is full", remedy="make room")
    members = [Member(migration=one.id, vm=one.spec.vm, turn=0, delay=0.0) for one in (done, held)]
    GroupStore(tmp_path).add("office", "database", members)
    store.add(
        Spec(vm="=cmd|'/c calc'!A1<script>alert(1)</script>", source="qemu:///a", destination="qemu:///b"), Facts()
    )
    return tmp_path


def _migrated(store: MigrationStore, vm: str) -> Migration:
    facts = Facts(uuid="u1", vdisks=[vdisk(10 << 30)], cutover=CUTOVER, sent_bytes=3 << 30, epochs_done=4)
    facts.timings.begun_at = 50.0
    facts.totals = Totals(
        background_bytes=6 << 30, foreground_bytes=1 << 30, epoch_bytes=1 << 30, epoch_seconds=8.0,
        slowed_seconds=3.0, slowed_bytes=1e6, lowest_write_limit=1 << 20, peak_wire_rate=2e8,
    )  # fmt: skip
    migration = store.add(Spec(vm=vm, source="qemu:///a", destination="qemu:///b"), facts)
    for state in (State.PREPARING, State.REPLICATING, State.READY, State.CUTTING_OVER, State.VERIFYING):
        store.enter(migration, state)
    store.enter(migration, State.STARTING)
    store.enter(migration, State.FINISHED)
    return migration


def test_a_plan_and_a_group_are_summed(folder: Path) -> None:
    plan = report("plan", "office", folder=folder)
    assert [one.vm for one in plan.migrations] == ["db1", "db2"]
    assert plan.summary.states == {State.PAUSED: 1, State.FINISHED: 1} and plan.summary.errors == 1
    assert plan.summary.moved.background == 6 << 30 and plan.summary.longest_downtime == pytest.approx(2.0)
    assert plan.summary.ended_at is None
    done = plan.migrations[0]
    assert (done.plan, done.group, done.epochs.mean_seconds) == ("office", "database", 2.0)
    assert done.rates.mean == pytest.approx((3 << 30) / done.duration) if done.duration else False
    assert report("group", "database", folder=folder).summary.migrations == 2
    assert report("all", folder=folder).summary.migrations == 3
    assert summary([], 0.0).migrations == 0


def test_no_cell_of_the_csv_is_a_formula(folder: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(report("all", folder=folder)))))
    mischief, held, done = rows
    assert mischief["vm"].startswith("'=cmd")
    assert held["errors"] == "paused: the pool fast is full" and held["downtime_seconds"] == ""
    assert float(done["downtime_seconds"]) == pytest.approx(2.0) and done["moved_background"] == str(6 << 30)
    for row in rows:
        assert not any(str(cell).startswith(("=", "+", "-", "@")) for cell in row.values())


@given(st.text())
def test_any_text_is_one_cell_that_nothing_runs(text: str) -> None:
    spec = Spec(vm=text, source="qemu:///a", destination="qemu:///b")
    migration = Migration(id="m-1", spec=spec, state=State.PAUSED, reason=text)
    one = figures(migration, [(1.0, "state", f"paused: {text}")], 9)
    made = Report(kind="migration", name="m-1", made_at=9.0, summary=summary([one], 9.0), migrations=[one])
    rows = list(csv.DictReader(io.StringIO(as_csv(made), newline="")))
    assert len(rows) == 1
    assert rows[0]["vm"].lstrip("'") == text.replace("\0", "").lstrip("'")
    assert not rows[0]["vm"].lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


def test_the_page_is_whole_and_runs_nothing(folder: Path) -> None:
    page = as_html(report("all", folder=folder))
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "db1" in page and "the pool fast is full" in page and "make room" in page
    assert page.count("<svg") == 2
    assert not re.search(r"""(src|href|url\()\s*=?\s*["']?(https?:)?//""", page)


@pytest.mark.usefixtures("folder")
def test_the_command_writes_every_format(tmp_path: Path) -> None:
    run = CliRunner()
    shown = run.invoke(app, ["report", "--plan", "office"])
    assert shown.exit_code == 0 and "db1" in shown.stdout and "the pool fast is full" in shown.stdout
    assert json.loads(run.invoke(app, ["report", "--group", "database", "--json"]).stdout)["kind"] == "group"
    assert run.invoke(app, ["report", "--format", "csv"]).stdout.startswith("id,vm,plan,group,")
    target = tmp_path / "report.html"
    assert run.invoke(app, ["report", "--format", "html", "--output", str(target)]).exit_code == 0
    assert target.read_text().startswith("<!doctype html>")
    for wrong in (["--format", "pdf"], ["m-none"], ["m-1", "--plan", "office"], ["--output", "x"], ["--plan", "none"]):
        assert run.invoke(app, ["report", *wrong]).exception is not None, wrong
