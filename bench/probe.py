"""Probes of the link against the truth of the emulated line: bandwidth, round trip, loss, and what they cost."""

import statistics
from dataclasses import dataclass
from pathlib import Path

from bench.goals import paragraph, table
from drover.estimator.probe import BUDGET, LEAST_BUDGET, probe
from drover.estimator.rates import epoch_cost
from drover.lab import Lab
from drover.model.observation import LinkObservation

HEADERS = 1500 / 1448
"""Bytes of IP packets, which the line counts, for each byte that TCP carries."""
RUNS = 3
QUICK_BUDGET = LEAST_BUDGET * 2


@dataclass(frozen=True)
class Line:
    """How the emulated line was set: bits/s, seconds there and back, share of packets lost."""

    bits: float
    round_trip: float
    loss: float = 0.0


LINES = (
    Line(20e6, 0.03),
    Line(100e6, 0.02),
    Line(50e6, 0.04, 0.002),
    Line(100e6, 0.04, 0.001),
    Line(200e6, 0.08, 0.0005),
    Line(1e9, 0.01),
)
QUICK_LINES = (Line(100e6, 0.02), Line(50e6, 0.04, 0.002))


def measure(folder: Path, *, quick: bool) -> dict[Line, list[LinkObservation]]:
    """Probes of each line, one after the other, with nothing else on it."""
    lab = Lab(folder / "lab")
    found: dict[Line, list[LinkObservation]] = {}
    try:
        lab.up()
        alpha, beta = (site.uri for site in lab.sites)
        for line in QUICK_LINES if quick else LINES:
            lab.link.set(rate=line.bits / 8, delay=line.round_trip / 2, loss=line.loss)
            for _ in range(1 if quick else RUNS):
                one = probe(alpha, beta, budget=QUICK_BUDGET if quick else BUDGET, share=1.0)
                found.setdefault(line, []).append(one)
                print(f"  {_name(line)}: {_rate(one) * 8 / 1e6:.1f} Mbit/s of TCP's payload", flush=True)
    finally:
        lab.reset()
    return found


def describe(found: dict[Line, list[LinkObservation]]) -> str:
    """The table for RESULTS.md."""
    heads = (
        "line", "Mbit/s", "error", "round trip ms", "error", "loss %", "÷ truth", "connections", "epoch costs ms",
        "MiB sent",
    )  # fmt: skip
    runs = max(len(observations) for observations in found.values())
    return "\n".join(
        [
            paragraph(
                f"Probes with a budget of {BUDGET >> 20} MiB against what the line was set to, {runs} of each "
                "line. Mbit/s are those of the best run of bulk, as packets of 1,500 bytes; the probe tells TCP's "
                "payload, which is 3.5 % less. The round trip is that of the idle line, the loss that of bulk at 60 % "
                "of the rate, where no queue overflows. Each error is the largest of the probes, the figure beside it "
                "the median. An epoch costs so much however small it is."
            ),
            "",
            table(heads, [_row(line, observations) for line, observations in found.items()]),
        ]
    )


def _row(line: Line, observations: list[LinkObservation]) -> tuple[str, ...]:
    rates = [_rate(one) * 8 * HEADERS for one in observations]
    trips = [one.state.round_trip.value for one in observations]
    losses = [one.state.loss for one in observations]
    costs = [cost[0] for one in observations if (cost := epoch_cost(one.probes))]
    sent = [sum(probe.bytes for probe in one.probes) for one in observations]
    factors = [max(loss, 1e-9) / line.loss for loss in losses] if line.loss else []
    return (
        _name(line),
        f"{statistics.median(rates) / 1e6:.1f}",
        _worst([rate / line.bits - 1 for rate in rates]),
        f"{statistics.median(trips) * 1e3:.2f}",
        _worst([trip / line.round_trip - 1 for trip in trips]),
        f"{statistics.median(losses) * 100:.3f}",
        f"{min(factors):.2f} to {max(factors):.2f}" if factors else "",
        ", ".join(str(one.knee) for one in observations),
        f"{statistics.median(costs) * 1e3:.0f}" if costs else "",
        f"{statistics.median(sent) / (1 << 20):.0f}",
    )


def _rate(one: LinkObservation) -> float:
    return max(probe.rate.value for probe in one.bulk.values())


def _worst(errors: list[float]) -> str:
    return f"{max(errors, key=abs):+.1%}"


def _name(line: Line) -> str:
    lossy = f", {line.loss * 100:g} % lost" if line.loss else ""
    return f"{line.bits / 1e6:g} Mbit/s, {line.round_trip * 1e3:g} ms{lossy}"
