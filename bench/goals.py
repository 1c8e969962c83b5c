"""What is to be reached, beside what was; as Markdown."""

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bench.loopback import OURS, Copies
from bench.measure import Failure, Sample
from bench.rounds import Result, samples_of


@dataclass(frozen=True)
class Goal:
    """A figure and its limit, at least or at most; None where a part of it was not measured."""

    what: str
    reached: float | None
    limit: float
    at_least: bool = True
    unit: str = ""

    def row(self) -> tuple[str, str, str, str]:
        """What, the limit, what was reached, and the verdict."""
        limit = f"{'≥' if self.at_least else '≤'} {self.limit:g}{self.unit}"
        if self.reached is None:
            return self.what, limit, "not measured", "**NOT met**"
        met = self.reached >= self.limit if self.at_least else self.reached <= self.limit
        return self.what, limit, f"{ratio(self.reached)}{self.unit}", "met" if met else "**NOT met**"


def verdicts(goals: Iterable[Goal]) -> str:
    """The table of goals."""
    return table(("goal", "", "reached", ""), [goal.row() for goal in goals])


def copies_table(copies: Copies, *, rate: float | None = None) -> str:
    """A row for each copier; with the `rate` of a line in bytes/s, what each put on it."""
    heads = ["copier", "s", "MB/s of the VDISK", "processor s", "processor s/GB", "time ÷ Drover's"]
    heads += ["bytes sent ÷ size", "of the line's rate"] if rate else []
    ours = samples_of(copies.results).get(OURS)
    return table(heads, [_row(name, one, copies.size, ours, rate) for name, one in copies.results.items()])


def _row(name: str, one: Result, size: int, ours: Sample | None, rate: float | None) -> tuple[str, ...]:
    width = 7 if rate else 5
    if isinstance(one, Failure):
        return name, f"failed: {one.reason.replace('|', '/')}", *[""] * (width - 1)
    line = (f"{one.sent / size:.3f}", f"{one.sent / one.seconds / rate:.0%}") if rate else ()
    if not one.finished:
        # How much of the VDISK is over is known from the line alone, and only where nothing is compressed.
        return name, f"> {one.seconds:.0f}", *[""] * 4, *line
    return (
        name,
        f"{one.seconds:.2f}",
        f"{size / one.seconds / 1e6:.0f}",
        f"{one.cpu_seconds:.2f}",
        f"{one.cpu_seconds / size * 1e9:.2f}",
        f"{one.seconds / ours.seconds:.2f}" if ours else "",
        *line,
    )


def faster_than(results: Mapping[str, Result], peer: str | None) -> float | None:
    """How many times sooner Drover is done than the peer."""
    done = samples_of(results)
    if peer is None or not {peer, OURS} <= done.keys():
        return None
    return done[peer].seconds / done[OURS].seconds


def best_peer(results: Mapping[str, Result], without: Iterable[str] = ()) -> str | None:
    """The peer that is done first."""
    peers = {name: one.seconds for name, one in samples_of(results).items() if name not in {OURS, *without}}
    return min(peers, key=lambda name: peers[name], default=None)


def ratio(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def paragraph(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 120, break_on_hyphens=False)


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    ruler = ["---", *("---:" for _ in heads[1:])] if any(heads) else ["---" for _ in heads]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ruler, *rows))
