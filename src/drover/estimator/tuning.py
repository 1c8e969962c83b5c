"""Settings that follow from what was measured of a link, and the ledger of what each of them gave. No I/O.

The chunk size is not among them: it stays 512 KiB. Journals, transport devices and the protocol are built on it, and
connections carry several chunks at a time, so that a larger one would not fill a longer line better.
"""

import re
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from drover.estimator.rates import epoch_cost
from drover.model.observation import Interval, LinkObservation
from drover.model.units import format_count, format_rate, format_size

CHUNK_SIZE = 512 << 10
GAIN = 0.03
"""A setting that brings less than this share is not worth being different."""
_FAST = 1.5e9
"""Bytes/s on the wire above which even LZ4 on two cores would hold the link back."""
_HELD_UP = 0.1
"""Share of the busy time with full buffers above which it is they that limit."""
SYSCTLS = ("net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem", "net.core.rmem_max", "net.core.wmem_max")


@dataclass(frozen=True)
class Buffers:
    """How far the kernel of one host lets the buffers of a TCP connection grow by themselves, in bytes."""

    receive: int
    send: int

    @classmethod
    def parse(cls, text: str) -> "Buffers | None":
        """From what `sysctl` says of `SYSCTLS`; None if it does not say it.

        The limits in `net.core` are for programs that fix their buffers; the engine leaves them to the kernel.
        """
        found = dict(re.findall(r"^(\S+)\s*=\s*(.+)$", text, re.MULTILINE))
        largest = [found.get(name, "").split()[-1:] for name in SYSCTLS[:2]]
        if not all(words and words[0].isdigit() for words in largest):
            return None
        return cls(receive=int(largest[0][0]), send=int(largest[1][0]))


@dataclass(frozen=True)
class HeldUp:
    """Shares of the time with something to send, 0 to 1, in which a buffer was full."""

    receiver: float = 0.0
    sender: float = 0.0


class Row(BaseModel):
    """A line of the ledger: a setting, what the link gave before and after in bytes/s, and whether it was kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    setting: str
    value: str
    before: Interval | None
    after: Interval
    kept: bool


class Tuning(BaseModel):
    """What a migration over the link should use, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    connections: int
    compression: str
    chunk_size: int = CHUNK_SIZE
    socket_buffer: int
    """Bytes that the buffers of each connection must be able to hold."""
    epoch_overhead: float | None
    """Seconds that an epoch takes however small it is; None if that was not measured."""
    rate: float
    """Bytes/s on the wire with these connections."""
    reasons: list[str]
    advice: list[str]
    """What an administrator could change."""
    ledger: list[Row]


def tune(observation: LinkObservation) -> Tuning:
    """The settings that follow from one observation."""
    connections, bulk = observation.knee, observation.bulk
    rate = bulk[connections].rate.value if connections in bulk else 0.0
    needed = socket_buffer(rate, observation.state.round_trip.value, connections)
    cost = epoch_cost(observation.probes)
    best = max(bulk.values(), key=lambda probe: probe.rate.value, default=None)
    reasons = [
        f"{format_count(connections, 'connection')} {'gives' if connections == 1 else 'give'} {format_rate(rate)}"
        + (f", the most that was seen is {format_rate(best.rate.value)} with {best.connections}" if best else ""),
        f"each of them needs buffers of {format_size(needed)}: twice what is on its way in a round trip",
        "the chunk size stays 512 KiB: journals and transport devices are built on it",
    ]
    compression, why = _compression(rate)
    return Tuning(
        connections=connections,
        compression=compression,
        socket_buffer=needed,
        epoch_overhead=None if cost is None else cost[0],
        rate=rate,
        reasons=[*reasons, why],
        advice=observation.advice,
        ledger=ledger(observation),
    )


def socket_buffer(rate: float, round_trip: float, connections: int) -> int:
    """Bytes for each of the connections: 2 x bandwidth x round trip over their number."""
    return round(2 * rate * round_trip / max(connections, 1))


def _compression(rate: float) -> tuple[str, str]:
    if rate > _FAST:
        return "none", f"no compression: at {format_rate(rate)} the processors would hold the link back"
    return "auto", "compression is chosen while it runs, by what the link and the processors give"


def ledger(observation: LinkObservation) -> list[Row]:
    """Each number of connections that was tried, against the best one before it."""
    rows: list[Row] = []
    best: Interval | None = None
    for connections, probe in sorted(observation.bulk.items()):
        kept = best is None or is_faster(best, probe.rate)
        value = str(connections)
        rows.append(Row(setting="connections", value=value, before=best, after=probe.rate, kept=kept))
        if kept:
            best = probe.rate
    return rows


def judge(setting: str, value: str, *, before: Interval, after: Interval) -> Row:
    """A setting that was tried by itself; it is kept only if it is faster beyond doubt."""
    return Row(setting=setting, value=value, before=before, after=after, kept=is_faster(before, after))


def is_faster(before: Interval, after: Interval) -> bool:
    """Whether it brings something that the spread of the measurement does not explain."""
    return after.value >= (1 + GAIN) * before.value and after.low > before.value


def buffer_advice(
    *,
    rate: float,
    round_trip: float,
    connections: int,
    held_up: HeldUp,
    sender: Buffers | None,
    receiver: Buffers | None,
) -> list[str]:
    """Which sysctl of which side holds the link back.

    A connection that its buffers hold back shows less than the link would give: so a buffer that was full for a good
    part of the time counts, too, and then should be twice as large.
    """
    needed = socket_buffer(rate, round_trip, connections)
    ends = [
        ("source", "net.ipv4.tcp_wmem", held_up.sender, sender.send if sender else None),
        ("destination", "net.ipv4.tcp_rmem", held_up.receiver, receiver.receive if receiver else None),
    ]
    advice = []
    for side, name, share, limit in ends:
        if limit is None:
            continue
        full = share > _HELD_UP and limit < 2 * needed
        if limit >= needed and not full:
            continue
        larger = max(_round_up(needed), 2 * limit if full else 0)
        said = f"; it was full for {share:.0%} of the time" if full else ""
        middle = "4096 16384" if name.endswith("wmem") else "4096 131072"
        advice.append(
            f"{name} of the {side}'s host lets a connection have {format_size(limit)}, {format_size(needed)} are needed"
            f"{said}: sysctl -w {name}='{middle} {larger}'"
        )
    return advice


def _round_up(size: int) -> int:
    """To a power of two."""
    return 1 << max(size - 1, 1).bit_length()
