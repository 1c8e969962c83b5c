"""(n) Forecasts made beforehand against what happened: 24 migrations of lab VMs, 4 write patterns × 3 links × 2 sizes.

Each VM is observed, the link is measured, the forecast is stored, then the VM is migrated. The order is shuffled, and
later forecasts learn from the migrations before, as they would for an administrator.
"""

import itertools
import json
import os
import random
import shutil
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from pydantic import TypeAdapter
from tests.migration.drover import COMMAND, Drover
from tests.migration.world import Vm

from drover.errors import CheckError
from drover.estimator.accuracy import QUANTITIES, Score, accuracy
from drover.estimator.answer import Estimator
from drover.lab import Lab
from drover.model.forecast import Range

PICTURE = Path(__file__).with_name("estimate.svg")
PATTERNS = {"idle": 1.0, "append": 50.0, "random": 60.0, "rewrite-hot": 200.0}
"""Records per second of each."""
LINKS = {
    "50 Mbit/s, 40 ms": {"rate": 50e6 / 8, "delay": 0.02},
    "200 Mbit/s, 20 ms": {"rate": 200e6 / 8, "delay": 0.01},
    "no limit": {"rate": None, "delay": 0.0},
}
SIZES = {"512 MiB": 512 << 20, "2 GiB": 2 << 30}
OBSERVED = 40
"""Seconds of observation; the sample and the probe come on top."""
MOMENTS = (0.25, 0.5, 0.75)
"""Shares of a migration's duration at which its own forecast is looked at."""
GOALS = {"duration": (0.10, 0.25), "downtime": (0.20, None)}


@dataclass(frozen=True)
class Live:
    """What a migration said of its end when this share of its duration was over, beside what came; seconds."""

    share: float
    left: Range
    was_left: float
    downtime: Range
    was_down: float


@dataclass(frozen=True)
class Case:
    """One migration; `spent` is how long the estimate took, seconds."""

    pattern: str
    link: str
    size: str
    score: Score
    spent: float
    live: list[Live]


_CASES = TypeAdapter(list[Case])


def measure(lab: Lab, folder: Path) -> list[Case]:
    """All of them; what an earlier run measured into `folder` before it was stopped is not measured again."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "cases.json"
    combinations = list(itertools.product(PATTERNS, LINKS, SIZES))
    random.Random(5).shuffle(combinations)
    cases = _CASES.validate_json(kept.read_bytes()) if kept.exists() else []
    for number, (pattern, link, size) in list(enumerate(combinations, 1))[len(cases) :]:
        lab.link.set(**LINKS[link], jitter=0.0, loss=0.0)
        vm = Vm(lab, f"bench-{number}", folder)
        lab.add_vm(vm.name, pattern=pattern, rate=PATTERNS[pattern], size=SIZES[size])
        lab.wait_console("alpha", vm.name, r"WITNESS (WROTE|NEW)", timeout=120)
        case = _case(vm, pattern, link, size)
        cases.append(case)
        kept.write_bytes(_CASES.dump_json(cases))
        print(f"  {number}: {_line(case)}", flush=True)
        for site in lab.sites:
            site.remove(vm.name)
    draw(cases, PICTURE)
    # Another look at the model needs no other hour.
    kept.rename(folder.with_name("estimate-cases.json"))
    shutil.rmtree(folder)
    return cases


def _case(vm: Vm, pattern: str, link: str, size: str) -> Case:
    alpha, beta = vm.lab.site("alpha"), vm.lab.site("beta")
    began = time.monotonic()
    _estimate(vm, alpha.uri, beta.uri)
    spent = time.monotonic() - began
    process = Drover(vm.data, *vm.arguments)
    migration = process.finish(timeout=900)["migration"]
    vm.assert_witness()
    score = next(score for score in Estimator(vm.data).scores() if score.migration == migration)
    return Case(pattern, link, size, score, spent, live(process.events, score))


def live(events: list[dict[str, Any]], score: Score) -> list[Live]:
    """What was expected at some moments of the way, where something was."""
    began = score.at - score.duration
    found = []
    for share in MOMENTS:
        moment = began + share * score.duration
        seen = [e for e in events if e["event"] == "progress" and e["at"] >= moment and e["expected"]]
        if seen and seen[0]["expected"]["time_left"]:
            said = {name: Range.model_validate(value) for name, value in seen[0]["expected"].items()}
            left = max(score.at - seen[0]["at"], 0.0)
            found.append(Live(share, said["time_left"], left, said["downtime"], score.downtime))
    return found


def _estimate(vm: Vm, source: str, destination: str) -> dict[str, Any]:
    done = subprocess.run(
        [COMMAND, "estimate", vm.name, "--from", source, "--to", destination, "--observe", f"{OBSERVED}s", "--json"],
        capture_output=True, text=True, check=False, env={**os.environ, "DROVER_DATA": str(vm.data)},
    )  # fmt: skip
    if done.returncode:
        raise CheckError(f"the estimate of {vm.name} failed: {done.stdout[-500:]} {done.stderr[-500:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _line(case: Case) -> str:
    said, score = case.score.shown, case.score
    return (
        f"{case.pattern}, {case.link}, {case.size}: {said.duration.p50:.1f} s forecast, {score.duration:.1f} s; "
        f"down {said.downtime.p50:.1f} s forecast, {score.downtime:.1f} s (estimate took {case.spent:.0f} s)"
    )


def describe(cases: list[Case]) -> str:
    """Summary, then every case; errors are shares of what happened."""
    scores = [case.score for case in cases]
    lines = [
        "| of | median error | goal | 90 % of the errors below | goal | in the 80 % interval | goal |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for quantity in QUANTITIES:
        found = accuracy(scores, quantity)
        middle, most = GOALS.get(quantity, (None, None))
        lines.append(
            f"| {quantity} | {found.median_error:.0%} | {_goal(middle)} | {found.p90_error:.0%} | {_goal(most)} | "
            f"{found.coverage:.0%} | 70–90 % |"
        )
    spent = statistics.median(case.spent for case in cases)
    lines += [
        "",
        f"{len(cases)} migrations in this order; {OBSERVED} s of observation each, {spent:.0f} s with sample and probe "
        "(median). Ranges are the 80 % intervals as shown beforehand. Picture: [estimate.svg](estimate.svg).",
        "",
        "| while it ran, after | migrations | error of the time left | of the downtime | in the 80 % intervals |",
        "| --- | --- | --- | --- | --- |",
        *(_live_row(share, [one for case in cases for one in case.live if one.share == share]) for share in MOMENTS),
        "",
        "| pattern | link | size | forecast, s | took, s | error | down: forecast, s | was down, s | error |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *(_row(case) for case in cases),
    ]
    return "\n".join(lines)


def _row(case: Case) -> str:
    score, said = case.score, case.score.shown
    cells = [case.pattern, case.link, case.size]
    for range_, was in ((said.duration, score.duration), (said.downtime, score.downtime)):
        cells += [
            f"{range_.p50:.1f} ({range_.p10:.1f}–{range_.p90:.1f})",
            f"{was:.1f}",
            f"{(range_.p50 - was) / was:+.0%}",
        ]
    return "| " + " | ".join(cells) + " |"


def _live_row(share: float, seen: list[Live]) -> str:
    if not seen:
        return f"| {share:.0%} of its time | 0 | | | |"
    pairs = [[(one.left, one.was_left) for one in seen], [(one.downtime, one.was_down) for one in seen]]
    errors = [statistics.median(abs(said.p50 - was) / was for said, was in of if was) for of in pairs]
    held = [sum(said.p10 <= was <= said.p90 for said, was in of) / len(seen) for of in pairs]
    return (
        f"| {share:.0%} of its time | {len(seen)} | {errors[0]:.0%} (median) | {errors[1]:.0%} | "
        f"{held[0]:.0%}, {held[1]:.0%} |"
    )


def _goal(share: float | None) -> str:
    return "" if share is None else f"≤ {share:.0%}"


def draw(cases: list[Case], path: Path) -> None:
    """Forecast against outcome, duration and downtime, with the intervals."""
    with matplotlib.rc_context({"svg.hashsalt": "drover", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(10, 4.8), layout="constrained")
        for axis, quantity in zip(figure.subplots(1, 2), ("duration", "downtime"), strict=True):
            pick, actual = QUANTITIES[quantity]
            for link, colour in zip(LINKS, ("tab:red", "tab:blue", "tab:green"), strict=True):
                scores = [case.score for case in cases if case.link == link]
                said = [pick(score.shown) for score in scores]
                below = [max(one.p50 - one.p10, 0) for one in said]
                above = [max(one.p90 - one.p50, 0) for one in said]
                axis.errorbar(
                    [actual(score) for score in scores], [one.p50 for one in said], yerr=[below, above],
                    fmt="o", markersize=4, elinewidth=0.8, color=colour, label=link,
                )  # fmt: skip
            low, high = axis.get_xlim()
            axis.plot((low, high), (low, high), color="black", linewidth=0.6)
            axis.set_title(quantity)
            axis.set_xlabel("what happened, s")
            axis.set_ylabel("forecast, s")
            axis.grid(alpha=0.3)
            axis.legend(loc="upper left")
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
