"""Sizes, rates and durations as an administrator writes and reads them.

Sizes are bytes; binary prefixes (KiB, MiB, …) count by 1024, decimal ones (kB, MB, …) by 1000, and a bare letter
(`4G`) is binary as in qemu-img. Rates are bytes per second: `200mbit` is bits, `25MB` (or `25MB/s`) bytes.
Durations are seconds: `500ms`, `30s`, `5m`, `2h`, `1d`.
"""

import re
import time

from drover.errors import InputError

_NUMBER = re.compile(r"^\s*([0-9]{1,30}(?:\.[0-9]{1,30})?)\s*([A-Za-z/%]*)\s*$")
_PREFIXES = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_DURATIONS = {"": 1.0, "ms": 0.001, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_BITS = re.compile(r"^([kmgt]?)(?:bit|bits|bps)(?:/s)?$")
_BYTES = re.compile(r"^([kmgtp]?)(i?)b?(?:/s)?$")


def parse_size(text: str) -> int:
    """Bytes in `text`, such as `512MiB`, `4G`, `10GB` or `65536`. Raises InputError."""
    number, unit = _split(text, "size", "512MiB or 4GiB")
    match = _BYTES.match(unit)
    if match is None or unit.endswith("/s"):
        raise InputError(f"{text!r} is not a size", remedy="write it as in 512MiB, 4GiB or 10GB")
    return int(number * _factor(match.group(1), match.group(2) == "i" or not unit.endswith("b")))


def parse_rate(text: str) -> int:
    """Bytes per second in `text`, such as `200mbit`, `1gbit`, `25MB/s` or `25MiB`. Raises InputError."""
    number, unit = _split(text, "rate", "200mbit or 25MB/s")
    bits, octets = _BITS.match(unit), _BYTES.match(unit)
    if bits is not None:
        rate = int(number * 1000 ** _PREFIXES[bits.group(1)] / 8)
    elif octets is not None and unit not in ("", "/s"):
        plain = unit.removesuffix("/s")
        rate = int(number * _factor(octets.group(1), octets.group(2) == "i" or not plain.endswith("b")))
    else:
        raise InputError(f"{text!r} is not a rate", remedy="write it with a unit, as in 200mbit or 25MB/s")
    if rate < 1:
        raise InputError(
            f"the rate {text!r} is zero", remedy="give at least 1kbit, or leave the option out for no limit"
        )
    return rate


def parse_duration(text: str) -> float:
    """Seconds in `text`, such as `500ms`, `30s`, `5m` or `2h`. Raises InputError."""
    number, unit = _split(text, "duration", "30s or 5m")
    if unit not in _DURATIONS:
        raise InputError(f"{text!r} is not a duration", remedy="write it as in 500ms, 30s, 5m or 2h")
    return number * _DURATIONS[unit]


def format_size(size: float) -> str:
    """`size` bytes for people, binary prefixes, three digits at most: `1.5 GiB`."""
    for prefix in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(size) < 1024 or prefix == "TiB":
            return f"{size:.0f} {prefix}" if prefix == "B" or size >= 100 else f"{size:.1f} {prefix}"
        size /= 1024
    raise AssertionError("unreachable")


def format_rate(rate: float) -> str:
    """`rate` bytes per second for people: `24.1 MiB/s`."""
    return f"{format_size(rate)}/s"


def format_duration(seconds: float) -> str:
    """`seconds` for people: `340 ms`, `12.3 s`, `4 min 05 s`, `2 h 10 min`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def format_moment(at: float) -> str:
    """A time, Unix seconds, for people where this runs: `2026-12-05 22:00`."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def format_count(number: int, what: str) -> str:
    """`number` of something that has a regular plural: `1 connection`, `8 connections`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _split(text: str, kind: str, example: str) -> tuple[float, str]:
    match = _NUMBER.match(text)
    if match is None:
        raise InputError(f"{text!r} is not a {kind}", remedy=f"write it as in {example}")
    return float(match.group(1)), match.group(2).lower()


def _factor(prefix: str, binary: bool) -> int:
    return int((1024 if binary else 1000) ** _PREFIXES[prefix])
