"""The sections of RESULTS.md that hold Drover against its peers and against the goals."""

from bench import epoch, memory, second, wan
from bench.epoch import Epochs
from bench.goals import Goal, best_peer, copies_table, faster_than, paragraph, table, verdicts
from bench.loopback import NBDCOPY, NBDCOPY_TLS, OURS, Copies
from bench.measure import Sample
from bench.memory import Peak
from bench.rounds import samples_of
from bench.second import Second
from bench.wan import COMPRESSING, CUBIC, Line

_LAYOUT = (
    "Medians of three rounds in rotating order for Drover and the peers that a goal names, one round for the others; "
    "each result was compared with the source byte by byte. Processor time is of all processes that take part, "
    "servers too, without the emulated line. The source is held by a qemu-storage-daemon, as by a running VM, and "
    "read over NBD; nbdcopy and qemu-img run at the destination, so that the bytes travel once; the mirror writes to "
    "an NBD server there. Drover reads the raw file past QEMU, as in a migration; nbdkit (TLS), rsync and dd read it "
    "too. ssh uses aes128-gcm. Drover encrypts (TLS 1.3), hashes, compresses and journals."
)
_AS_ABOVE = "Layout and rounds are those of (a)."


def describe_loopback(found: dict[str, Copies]) -> str:
    plain, mix = found["incompressible"], found["mix"]
    best = best_peer(mix.results)
    goals = [
        Goal("incompressible: speed ÷ nbdcopy's, which does not encrypt", faster_than(plain.results, NBDCOPY), 1.0),
        Goal("incompressible: processor s per GB ÷ those of nbdcopy with TLS", _thrift(plain), 1.0, at_least=False),
        Goal(f"mix: speed ÷ that of the best peer ({best})", faster_than(mix.results, best), 1.5),
    ]
    return "\n".join([
        paragraph(f"{plain.size / (1 << 30):g} GiB over loopback to a file on the same machine. {_LAYOUT}"),
        "",
        verdicts(goals),
        "",
        "Incompressible:\n",
        copies_table(plain),
        "",
        "A quarter never written, a half text-like, a quarter random:\n",
        copies_table(mix),
    ])  # fmt: skip


def _thrift(copies: Copies) -> float | None:
    done = samples_of(copies.results)
    if not {OURS, NBDCOPY_TLS} <= done.keys():
        return None
    return done[OURS].cpu_seconds / done[NBDCOPY_TLS].cpu_seconds


def describe_wan(line: Line) -> str:
    results = line.copies.results
    ours = samples_of(results).get(OURS)
    best, plain = best_peer(results), best_peer(results, [COMPRESSING])
    goals = [
        Goal("share of the line's rate in use", ours.sent / ours.seconds / line.rate if ours else None, 0.95),
        Goal(f"speed ÷ that of the best peer ({best})", faster_than(results, best), 2.0),
        Goal(f"speed ÷ that of the best peer that does not compress ({plain})",
             faster_than(results, plain), 2.0),
    ]  # fmt: skip
    return "\n".join([
        paragraph(
            f"{line.copies.size >> 20} MiB of the mix over an emulated line of {_mbit(line.rate)}, round trip "
            f"{wan.MIX_ROUND_TRIP * 1e3:g} ms; a copier that took longer than {wan.PATIENCE:g} s was ended. "
            f"{_AS_ABOVE} All sockets have this machine's default congestion control, {line.congestion}. "
            "The share of the line counts IP packets towards the destination over the whole time of the copy, the "
            "last sync included."
        ),
        "",
        verdicts(goals),
        "",
        copies_table(line.copies, rate=line.rate),
    ])  # fmt: skip


def describe_lossy(line: Line) -> str:
    results, size = line.copies.results, line.copies.size
    ours = samples_of(results).get(OURS)
    speed = size / ours.seconds if ours else None
    cubic = results[CUBIC]
    stream = (cubic.sent / cubic.seconds if not cubic.finished else size / cubic.seconds) if isinstance(
        cubic, Sample
    ) else None  # fmt: skip
    most = max(line.gives, key=lambda count: line.gives[count])
    best = best_peer(results, [CUBIC])
    reached = [f"{count}: {_mbit(rate)}" for count, rate in line.gives.items()]
    goals = [
        Goal("speed ÷ that of a single CUBIC stream", speed / stream if speed and stream else None, 4.0),
        Goal("share of what the line gives", speed / line.gives[most] if speed else None, 0.9),
    ]
    if best:
        goals.append(Goal(f"speed ÷ that of the best peer ({best})", faster_than(results, best), 1.0))
    return "\n".join([
        paragraph(
            f"{size >> 20} MiB, incompressible, over an emulated line of {_mbit(line.rate)}, round trip "
            f"{wan.LOSSY_ROUND_TRIP * 1e3:g} ms, {wan.LOSS:.1%} of packets lost; set to {_mbit(wan.LOSSY_RATES[0])} "
            f"without delay and loss the emulator carried {_mbit(line.carried)}. What the line gives is the best of "
            "plain TCP streams in parallel (BBR, the same bytes, stored nowhere, the better of two runs); by number of "
            f"streams: {', '.join(reached)}. Drover and its peers have the machine's default congestion control, "
            f"{line.congestion}, unless they ask for another; the single stream has CUBIC, Linux's default, and was "
            f"ended after {wan.CUBIC_PATIENCE:g} s, the peers after {wan.PATIENCE:g} s. {_AS_ABOVE}"
        ),
        "",
        verdicts(goals),
        "",
        copies_table(line.copies, rate=line.rate),
    ])  # fmt: skip


def describe_second(found: Second) -> str:
    goals, rows = [], []
    for content, copies in found.copies.items():
        done = samples_of(copies.results)
        again, full = done.get(second.SECOND), done.get(second.FULL)
        share = (again.sent + again.returned) / copies.size if again else None
        goals.append(
            Goal(
                f"{content}: bytes on the wire ÷ size",
                None if share is None else share * 100,
                7,
                at_least=False,
                unit=" %",
            )
        )
        for name, one in copies.results.items():
            if not isinstance(one, Sample):
                rows.append((content, name, f"failed: {one.reason}", "", "", ""))
                continue
            rows.append((
                content,
                name,
                f"{'' if one.finished else '> '}{one.seconds:.2f}",
                f"{one.seconds / full.seconds:.2f}" if full else "",
                f"{(one.sent + one.returned) / 1e6:.1f}",
                f"{(one.sent + one.returned) / copies.size:.1%}",
            ))  # fmt: skip
    size = next(iter(found.copies.values())).size
    return "\n".join([
        paragraph(
            f"{size >> 20} MiB of which {second.ALTERED:.0%} were altered at the destination, in runs of 64 KiB to "
            "1 MiB at random places, over an emulated line of "
            f"{_mbit(second.RATE)}, round trip {second.ROUND_TRIP * 1e3:g} ms. Drover's engines are new and have no "
            "journal, so hashes are compared. Bytes are of IP packets, both ways. Each result was compared with the "
            "source."
        ),
        "",
        verdicts(goals),
        "",
        table(("content", "copier", "s", "÷ Drover's first copy", "MB on the wire", "÷ size"), rows),
    ])  # fmt: skip


def describe_epoch(found: Epochs) -> str:
    size = found.blocks * epoch.BLOCK
    rows = [
        (name, f"{one.seconds:.2f}", f"{size / one.seconds / 1e6:.0f}", f"{one.cpu_seconds:.2f}",
         f"{one.wire_bytes / size:.3f}")
        for name, one in (("spread at random", found.spread), ("in one piece", found.whole))
    ]  # fmt: skip
    ratio = found.spread.seconds / found.whole.seconds
    return "\n".join([
        paragraph(
            f"A sparse VDISK of {epoch.SIZE >> 40} TiB in a qemu-storage-daemon, on this machine; {found.blocks} "
            f"blocks of {epoch.BLOCK >> 10} KiB written over NBD, incompressible, at random places, and as many bytes "
            f"in one piece, {epoch.ROUNDS} rounds in turns, medians. The time is from the transaction that seals the "
            "bitmap to the acknowledgement. The copy was compared with the source at the end."
        ),
        "",
        verdicts([Goal("time ÷ time of the same bytes in one piece", ratio, 1.3, at_least=False)]),
        "",
        table(("blocks", "s", "MB/s", "processor s", "bytes on the link ÷ dirty"), rows),
    ])  # fmt: skip


def describe_memory(found: dict[tuple[int, str], Peak]) -> str:
    rows = [
        (f"{size >> 30} GiB", role, f"{peak.background / (1 << 20):.0f}", f"{peak.epoch / (1 << 20):.0f}",
         f"{peak.journal_share * (1 << 20):.1f}")
        for (size, role), peak in found.items()
    ]  # fmt: skip
    small, large = memory.SIZES
    grown = max(found[large, role].epoch - found[small, role].epoch for role in ("source", "destination"))
    goals = [
        Goal("memory of either engine, MiB", max(peak.epoch for peak in found.values()) / (1 << 20), 256, False),
        Goal(f"growth of it from {small >> 30} to {large >> 30} GiB, MiB", grown / (1 << 20), 64, False),
        Goal("journal on the disk, MiB per TiB of data",
             found[large, "destination"].journal_share * (1 << 20), 64, False),
    ]  # fmt: skip
    return "\n".join([
        paragraph(
            f"The highest resident memory of each engine since its start, with {memory.CONNECTIONS} connections: after "
            "a background copy, and after an epoch of blocks at random places too. Both VDISKs hold the same bytes, "
            "incompressible, 1 MiB in each 512 MiB of the large one, so that no table of it stays sparse. "
            "The journal's figure is its size on the disk after the background copy, for each TiB that is no hole."
        ),
        "",
        verdicts(goals),
        "",
        table(("VDISK", "engine", "background, MiB", "with epoch, MiB", "journal, MiB per TiB"), rows),
    ])  # fmt: skip


def _mbit(rate: float) -> str:
    return f"{rate * 8 / 1e6:.0f} Mbit/s"
