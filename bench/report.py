"""Writes RESULTS.md: the machine, and a section for each part. A part that was not run keeps the section it has."""

import statistics
from pathlib import Path

from bench import backpressure, guest, machine
from bench.downtime import Downtime
from bench.goals import paragraph, ratio, table
from bench.guest import Load

PATH = Path(__file__).with_name("RESULTS.md")
TITLES = {
    "loopback": "(a) Loopback, against the goals",
    "wan": "(b) A slow line, against the goals",
    "lossy": "(c) A long line that loses packets, against the goals",
    "second": "(d) Second copy, against the goals",
    "epoch": "(e) Epochs of scattered blocks, against the goals",
    "memory": "(f) Memory, against the goals",
    "guest": "(g) What the guest pays",
    "downtime": "(h) Downtime",
    "strangers": "(i) Strangers at the port",
    "backpressure": "(j) Replication backpressure",
    "device": "(k) Transport devices, against the goals",
    "probe": "(l) Probes of the link, against the emulator's truth",
    "observe": "(m) Observation, against the goal",
    "estimate": "(n) Forecasts against outcomes",
    "scale": "(o) The management server at scale, against the goals",
}
_HEAD = """\
# Results

Written by `make bench`, which is `python -m bench`; `python -m bench PART…` measures parts again and leaves the other
sections as they are. Figures of two machines do not compare; ratios within one table do.
"""


def write(sections: dict[str, str], path: Path = PATH) -> None:
    """Puts the sections, by part, in their places; the machine is the one that this runs on."""
    kept = _read(path)
    lines = [_HEAD, "## The machine of the latest run\n", table(("", ""), machine.describe().items()), ""]
    for part, title in TITLES.items():
        text = sections.get(part) or kept.get(title)
        if text:
            lines += [f"## {title}\n", text.strip(), ""]
    path.write_text("\n".join(lines))


def section(part: str, text: str, *, measured: str, load: float) -> str:
    """A part's text, with when and how it was measured and how busy (load average) the machine was before."""
    origin = f"Measured {measured} with `python -m bench {part}`, on {machine.processor()}"
    return f"{origin}; load average before it: {load:.1f}.\n\n{text}"


def describe_guest(loads: dict[str, Load]) -> str:
    base = loads[guest.NONE]
    rows = [
        (
            name,
            f"{one.iops:.0f}",
            ratio(one.iops / base.iops),
            f"{one.p50 * 1e3:.2f}",
            f"{one.p99 * 1e3:.2f}",
            ratio(one.p99 / base.p99),
            f"{one.longest * 1e3:.0f}",
            f"{one.carried * 8 / 1e6:.0f}",
        )
        for name, one in loads.items()
    ]
    heads = ("", "IOPS", "÷ none", "p50 ms", "p99 ms", "÷ none", "slowest ms", "link Mbit/s")
    return "\n".join([
        paragraph(
            "Random writes of 4 KiB in the guest, O_DIRECT, one at a time, as fast as it can, over 64 MiB; "
            f"VDISKs of {guest.SIZE >> 30} GiB together; a link of {guest.RATE * 8 / 1e6:g} Mbit/s; {guest.RUNS} "
            f"rounds in rotating order, each case on a VM made anew, for {guest.WINDOW:g} s at most. IOPS and "
            "percentiles are medians over seconds, then over rounds; the slowest is the slowest write of all. "
            "The guest is emulated without KVM, so it shares the cores with whatever migrates it, both ends of "
            "it: engines, NBD servers, the link's emulation."
        ),
        "",
        paragraph(
            "The mirror is `blockdev-mirror` to an NBD server, as in `virsh migrate --copy-storage-all` "
            "(write-blocking: with `--copy-storage-synchronous-writes`); it does not encrypt. Drover is "
            "measured with its defaults, but with a gate that never opens."
        ),
        "",
        table(heads, rows),
        "",
        *_compare(loads, guest.COPYING, guest.MIRROR),
        *_compare(loads, guest.COPYING, guest.BLOCKING),
        *_compare(loads, guest.EPOCHS, guest.MIRROR),
        *_compare(loads, guest.EPOCHS, guest.IN_STEP),
    ])  # fmt: skip


def _compare(loads: dict[str, Load], ours: str, peer: str) -> list[str]:
    """One line: which of both leaves the guest more writes, and which the shorter p99."""
    one, other = loads[ours], loads[peer]
    iops = f"{ratio(one.iops / other.iops)} times the IOPS"
    p99 = f"{ratio(one.p99 / other.p99)} times the p99"
    worse = one.iops < other.iops or one.p99 > other.p99
    mark = "**" if worse else ""
    return [f"* {mark}{ours}: {iops} and {p99} of {peer}{': worse in this' if worse else ''}.{mark}"]


def describe_downtime(downtimes: dict[str, Downtime]) -> str:
    rows = [
        (
            mode,
            f"{one.total:.2f}",
            f"{one.stopping:.2f}",
            f"{one.equal:.2f}",
            f"{one.starting:.2f}",
            f"{one.last_epoch_bytes / 1024:.0f}",
            f"{one.memory_bytes / (1 << 20):.1f}",
        )
        for mode, one in downtimes.items()
    ]
    heads = ("cutover", "total s", "stopping", "last epoch, verification", "memory, start", "epoch KiB", "memory MiB")
    return "\n".join([
        paragraph(
            "One migration each of a VM that writes 100 records a second, over a link without a limit, as its "
            "certificate states it: from the moment at which Drover begins to stop the VM to the one at which "
            "it runs at the destination. No peer was measured."
        ),
        "",
        table(heads, rows),
    ])  # fmt: skip


def describe_backpressure(runs: dict[str, backpressure.Series]) -> str:
    middle = statistics.median
    rows = [
        (
            name,
            f"{1e3 * one.alone:.2f}",
            f"{1e3 * middle(one.copying(one.p99)):.2f}",
            ratio(middle(one.copying(one.p99)) / one.alone),
            f"{100 * backpressure.within(one):.0f} %",
            f"{statistics.mean(one.copying(one.rate)) / 1e6:.1f}",
        )
        for name, one in runs.items()
    ]
    heads = ("", "p99 ms alone", "copying", "÷ alone", f"seconds within {backpressure.BUDGET}", "link MB/s")
    return "\n".join([
        paragraph(
            "Random writes of 4 KiB in the guest as fast as it can, while its VDISKs are copied over a link of "
            f"{guest.RATE / 1e6:g} MB/s. The p99 is QEMU's, of all requests of a second; the table has the median "
            "second of the guest alone and while the background goes, pauses left out, the search for a rate not. "
            "What the link carries is background and foreground together; foreground is not held back. The guest is "
            "emulated and shares two cores with both engines, so what it waits for are processors rather than disks."
        ),
        "",
        table(heads, rows),
        "",
        f"![p99, budget and rates over time]({backpressure.PICTURE.name})",
    ])  # fmt: skip


def _and(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _read(path: Path) -> dict[str, str]:
    """The sections that are there, by title."""
    if not path.exists():
        return {}
    pieces = path.read_text().split("\n## ")[1:]
    return {title: text.strip() for title, _, text in (piece.partition("\n") for piece in pieces)}
