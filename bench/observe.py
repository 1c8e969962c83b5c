"""What a guest pays for being observed: 4 KiB random writes at depth 1 with and without observation, in turn.

Both are measured on the same running VM, one right after the other, in an order that alternates, so that what the
machine does beside concerns both. The observation is the real one, in a process of its own, with the bitmaps of a long
one.
"""

import contextlib
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.migration.world import Vm

from bench.goals import paragraph, table
from bench.guest import Load, load_vm, window
from drover.lab import Lab

ROUNDS = 12
SECONDS = 7200
"""Of the observation: so many that every window has its bitmap. It is interrupted long before."""
GOAL = 0.01
_SCRIPT = """
import sys
from drover.estimator.observe import observe
from drover.store import ObservationStore
observe(ObservationStore(), sys.argv[1], [sys.argv[2]], float(sys.argv[3]), lambda _: print("looked", flush=True))
"""


@dataclass(frozen=True)
class Round:
    """One measuring without and one with observation, right after each other."""

    alone: Load
    observed: Load

    @property
    def cost(self) -> float:
        """Share of its IOPS that the guest lost; below 0 it had more."""
        return 1 - self.observed.iops / self.alone.iops


def measure(lab: Lab, folder: Path) -> list[Round]:
    """Alternating rounds on one VM."""
    found = []
    with load_vm(lab, "observed", folder) as vm:
        for number in range(ROUNDS):
            if number % 2:
                observed, alone = _observed(vm), _alone(vm)
            else:
                alone, observed = _alone(vm), _observed(vm)
            found.append(Round(alone, observed))
            print(f"  {number + 1}/{ROUNDS} {alone.iops:.0f} IOPS alone, {observed.iops:.0f} observed", flush=True)
    return found


def _alone(vm: Vm) -> Load:
    return window(vm, lambda: True)


def _observed(vm: Vm) -> Load:
    with _observing(vm) as process:
        load = window(vm, lambda: True)
        if process.poll() is not None:
            raise RuntimeError(f"the observation ended by itself, with {process.returncode}")
        return load


@contextlib.contextmanager
def _observing(vm: Vm) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, vm.lab.site("alpha").uri, vm.name, str(SECONDS)],
        stdout=subprocess.PIPE,
        env={**os.environ, "DROVER_DATA": str(vm.data)},
    )
    assert process.stdout is not None
    try:
        process.stdout.readline()
        yield process
    finally:
        process.send_signal(2)
        process.communicate(timeout=30)


def describe(rounds: list[Round]) -> str:
    middle = statistics.median
    cost = middle(one.cost for one in rounds)
    error = 1.25 * statistics.stdev(one.cost for one in rounds) / len(rounds) ** 0.5
    rows = [
        (name, f"{middle(one.iops for one in loads):.0f}", f"{1e3 * middle(one.p99 for one in loads):.2f}")
        for name, loads in (("alone", [one.alone for one in rounds]), ("observed", [one.observed for one in rounds]))
    ]
    verdict = "met" if cost < GOAL else "**NOT met**"
    return "\n".join([
        paragraph(
            "Random writes of 4 KiB in the guest, O_DIRECT, one at a time, as fast as it can, on one VM, which was "
            f"observed and left alone in turn, {len(rounds)} rounds in alternating order; medians. The observation "
            "looks each second and has a bitmap for every window up to an hour. The guest is emulated without KVM."
        ),
        "",
        table(("", "IOPS", "p99 ms"), rows),
        "",
        f"* Cost, the median of the rounds' own: {100 * cost:.2f} % of the IOPS (standard error {100 * error:.2f} %). "
        f"Goal: below {100 * GOAL:g} %: {verdict}.",
    ])  # fmt: skip
