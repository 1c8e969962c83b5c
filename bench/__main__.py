"""`python -m bench [PART …]`: measures, all parts if none is named, and rewrites bench/RESULTS.md."""

import argparse
import contextlib
import datetime
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import backpressure, bulk, downtime, guest, machine, report
from drover.lab import Lab

_FOLDER = Path(__file__).parents[1] / ".lab"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure Drover against its peers. Needs root."
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(_PARTS)}; all if none is named")
    asked = parser.parse_args().parts
    if unknown := set(asked) - set(_PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(_PARTS)}")
    for part, measure in _PARTS.items():
        if asked and part not in asked:
            continue
        load, now = machine.load(), datetime.datetime.now(datetime.UTC)
        print(f"{report.TITLES[part]}, load average {load:.1f}", flush=True)
        text = report.section(part, measure(), measured=f"{now:%Y-%m-%d %H:%M} UTC", load=load)
        # After each part: a later one that fails takes nothing with it.
        report.write({part: text})
        print(f"{report.PATH} is written", flush=True)


def _bulk() -> str:
    folder = _FOLDER / "bench-bulk"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        return report.describe_bulk(bulk.measure(folder))
    finally:
        shutil.rmtree(folder)


def _guest() -> str:
    with _lab() as (lab, folder):
        return report.describe_guest(guest.measure(lab, folder))


def _downtime() -> str:
    with _lab() as (lab, folder):
        return report.describe_downtime(downtime.measure(lab, folder))


def _backpressure() -> str:
    with _lab() as (lab, folder):
        return report.describe_backpressure(backpressure.measure(lab, folder))


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


_PARTS: dict[str, Callable[[], str]] = {
    "bulk": _bulk,
    "guest": _guest,
    "downtime": _downtime,
    "backpressure": _backpressure,
}

if __name__ == "__main__":
    main()
