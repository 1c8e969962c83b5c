"""`python -m bench [PART…]`: measures, all parts if none is named, and rewrites bench/RESULTS.md."""

import argparse
import contextlib
import datetime
import functools
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import (
    backpressure,
    device,
    downtime,
    epoch,
    estimate,
    guest,
    loopback,
    machine,
    memory,
    observe,
    probe,
    ratios,
    report,
    scale,
    second,
    strangers,
    wan,
)
from bench.measure import TooSlowError
from bench.places import scratch
from drover.errors import DroverError
from drover.lab import Lab

_FOLDER = Path(__file__).parents[1] / ".lab"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure Drover against its peers. Needs root."
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(_PARTS)}; all if none is named")
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"small sizes, to see that all works; prints and writes nothing. Only {', '.join(_SIZED)}",
    )
    options = parser.parse_args()
    asked = options.parts or list(_SIZED if options.quick else _PARTS)
    known = _SIZED if options.quick else _PARTS
    if unknown := set(asked) - set(known):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    # So that servers and namespaces go when the run is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    failed = []
    for part in _PARTS:
        if part not in asked:
            continue
        try:
            _measure(part, quick=options.quick)
        except (DroverError, RuntimeError, OSError, TooSlowError) as error:
            print(f"{part} gave no result: {error}", file=sys.stderr, flush=True)
            failed.append(part)
    if failed:
        sys.exit(f"no result: {', '.join(failed)}")


def _measure(part: str, *, quick: bool) -> None:
    load, now = machine.load(), datetime.datetime.now(datetime.UTC)
    print(f"{report.TITLES[part]}, load average {load:.1f}", flush=True)
    found = _SIZED[part](quick) if quick else _PARTS[part]()
    text = report.section(part, found, measured=f"{now:%Y-%m-%d %H:%M} UTC", load=load)
    if quick:
        print(text)
        return
    # After each part: a later one that fails takes nothing with it.
    report.write({part: text})
    print(f"{report.PATH} is written", flush=True)


def _sized(part: str, measure: Callable[..., Any], describe: Callable[[Any], str]) -> Callable[[bool], str]:
    """A part that comes in two sizes, in a folder of its own."""

    def text(quick: bool) -> str:
        with scratch(_FOLDER / f"bench-{part}") as folder:
            return describe(measure(folder, quick=quick))

    return text


def _guest() -> str:
    with _lab() as (lab, folder):
        return report.describe_guest(guest.measure(lab, folder))


def _downtime() -> str:
    with _lab() as (lab, folder):
        return report.describe_downtime(downtime.measure(lab, folder))


def _estimate() -> str:
    with _lab() as (lab, _):
        return estimate.describe(estimate.measure(lab, _FOLDER / "bench-estimate"))


def _strangers() -> str:
    with scratch(_FOLDER / "bench-strangers") as folder:
        return strangers.describe(strangers.measure(folder))


def _backpressure() -> str:
    with _lab() as (lab, folder):
        return report.describe_backpressure(backpressure.measure(lab, folder))


def _observe() -> str:
    with _lab() as (lab, folder):
        return observe.describe(observe.measure(lab, folder))


@contextlib.contextmanager
def _lab() -> Iterator[tuple[Lab, Path]]:
    """A lab of the bench's own, and a folder for Drover's data."""
    lab = Lab(_FOLDER / "bench")
    lab.reset()
    try:
        lab.up()
        with tempfile.TemporaryDirectory(prefix="drover-bench-") as folder:
            yield lab, Path(folder)
    finally:
        lab.reset()


_SIZED: dict[str, Callable[[bool], str]] = {
    "loopback": _sized("loopback", loopback.measure, ratios.describe_loopback),
    "wan": _sized("wan", wan.measure_mix, ratios.describe_wan),
    "lossy": _sized("lossy", wan.measure_lossy, ratios.describe_lossy),
    "second": _sized("second", second.measure, ratios.describe_second),
    "epoch": _sized("epoch", epoch.measure, ratios.describe_epoch),
    "memory": _sized("memory", memory.measure, ratios.describe_memory),
    "device": _sized("device", device.measure, device.describe),
    "probe": _sized("probe", probe.measure, probe.describe),
    "scale": _sized("scale", scale.measure, scale.describe),
}
_PARTS: dict[str, Callable[[], str]] = {
    "guest": _guest,
    "downtime": _downtime,
    **{part: functools.partial(measure, False) for part, measure in _SIZED.items()},
    "strangers": _strangers,
    "backpressure": _backpressure,
    "estimate": _estimate,
    "observe": _observe,
}

if __name__ == "__main__":
    main()
