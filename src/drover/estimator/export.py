"""Everything that was seen, as tables for off-line analysis: CSV, or Parquet where `drover[parquet]` is installed.

A table for each kind of row: what was observed of VMs, where `observation` says which belong together; a row for each
probe of a link, with what TCP said over the whole measurement (`measured_at`); a row for each quantity of a forecast,
beside its outcome. A figure from a sample has two more columns, `_low` and `_high`.
"""

import csv
import importlib
import io
import itertools
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from drover.errors import DroverError, InputError
from drover.estimator.accuracy import QUANTITIES, Score
from drover.model.observation import LinkObservation
from drover.store import ObservationStore

FORMATS = ("csv", "parquet")
_TEXT, _WHOLE, _REAL = "string", "int64", "float64"
"""Types of columns, in Arrow's words."""
_BATCH = 50_000


def _interval(name: str) -> dict[str, str]:
    return {name: _REAL, f"{name}_low": _REAL, f"{name}_high": _REAL}


_METHODS = ("lz4", "zstd")
_SAMPLE = {"observation": _TEXT, "vdisk": _TEXT, "at": _REAL}
_COLUMNS: dict[str, dict[str, str]] = {
    "observations": {
        "id": _TEXT, "vm": _TEXT, "uuid": _TEXT, "site": _TEXT, "began_at": _REAL, "ended_at": _REAL,
        "ended_because": _TEXT, "memory": _WHOLE,
    },
    "vdisks": {"observation": _TEXT, "vdisk": _TEXT, "size": _WHOLE},
    "io_samples": _SAMPLE | {
        "read_bytes": _WHOLE, "write_bytes": _WHOLE, "read_requests": _WHOLE, "write_requests": _WHOLE,
        "read_seconds": _REAL, "write_seconds": _REAL,
    },
    "dirty_samples": _SAMPLE | {"window": _REAL, "bytes": _WHOLE},
    "contents": _SAMPLE
    | {"size": _WHOLE, "allocated": _WHOLE, "chunks": _WHOLE, "read_rate": _REAL}
    | _interval("zero") | _interval("duplicate")
    | {column: kind for method in _METHODS for column, kind in _interval(f"{method}_ratio").items()}
    | {f"{method}_speed": _REAL for method in _METHODS},
    "chunk_samples": _SAMPLE | {
        "offset": _WHOLE, "length": _WHOLE, "zero_bytes": _WHOLE, "lz4_bytes": _WHOLE, "zstd_bytes": _WHOLE,
        "hash": _TEXT,
    },
    "link_probes": {
        "source": _TEXT, "destination": _TEXT, "measured_at": _REAL, "at": _REAL, "workload": _TEXT,
        "connections": _WHOLE, "congestion": _TEXT, "bytes": _WHOLE, "seconds": _REAL, "blocks": _WHOLE,
        "cpu_seconds": _REAL,
    }
    | _interval("rate") | _interval("round_trip") | _interval("busy")
    | {"loss": _REAL, "segments": _WHOLE, "retransmitted": _WHOLE, "mtu": _WHOLE},
    "scores": {
        "migration": _TEXT, "vm": _TEXT, "at": _REAL, "method": _TEXT, "horizon": _REAL, "quantity": _TEXT,
    }
    | {f"{kind}_{name}": _REAL for kind in ("raw", "shown") for name in ("p10", "p50", "p90")}
    | {"outcome": _REAL},
}  # fmt: skip
_OBSERVED = [table for table in _COLUMNS if table not in ("link_probes", "scores")]
_Row = dict[str, Any]
_Write = Callable[[IO[bytes], dict[str, str], Iterable[_Row]], None]


def export(
    target: Path,
    form: str = "csv",
    *,
    observations: ObservationStore,
    links: Sequence[LinkObservation] = (),
    scores: Sequence[Score] = (),
) -> list[str]:
    """Writes a file for each table into a folder, or into an archive if `target` ends in .zip; the files' names.

    Raises InputError if the format or the place is wrong, DroverError if what writes Parquet is missing or the files
    cannot be written.
    """
    write = _writer(form)
    rows: dict[str, Iterable[_Row]] = {table: _observed(observations, table) for table in _OBSERVED}
    rows |= {"link_probes": _probes(links), "scores": _scores(scores)}
    try:
        with _open(target) as open_file:
            for table, columns in _COLUMNS.items():
                with open_file(f"{table}.{form}") as file:
                    write(file, columns, rows[table])
    except OSError as error:
        raise DroverError(
            f"exporting observations to {target}: {error.strerror or error}",
            remedy="name a place that is writable and has room",
        ) from error
    return [f"{table}.{form}" for table in _COLUMNS]


def _writer(form: str) -> _Write:
    if form not in FORMATS:
        raise InputError(f"{form!r} is not a format of exports", remedy=f"take one of {', '.join(FORMATS)}")
    if form == "csv":
        return _write_csv
    try:
        for name in ("pyarrow", "pyarrow.parquet"):
            importlib.import_module(name)
    except ImportError:
        raise DroverError(
            "Parquet cannot be written: pyarrow is not installed",
            remedy="pip install 'drover[parquet]', or take --format csv",
        ) from None
    return _write_parquet


@contextmanager
def _open(target: Path) -> Iterator[Callable[[str], IO[bytes]]]:
    """Opens files in the target. An archive is there only when it is whole."""
    if target.suffix != ".zip":
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise InputError(f"{target} is there already", remedy="name a new folder, an empty one, or a .zip")
        target.mkdir(parents=True, exist_ok=True)
        yield lambda name: (target / name).open("wb")
        return
    part = target.with_name(f"{target.name}.part")
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            yield lambda name: archive.open(name, "w", force_zip64=True)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _write_csv(file: IO[bytes], columns: dict[str, str], rows: Iterable[_Row]) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.DictWriter(text, list(columns))
    writer.writeheader()
    writer.writerows(rows)
    text.flush()
    text.detach()


def _write_parquet(file: IO[bytes], columns: dict[str, str], rows: Iterable[_Row]) -> None:
    # Optional, and not typed: known only where it is used.
    arrow, parquet = (importlib.import_module(name) for name in ("pyarrow", "pyarrow.parquet"))
    schema = arrow.schema(list(columns.items()))
    remaining = iter(rows)
    with parquet.ParquetWriter(file, schema) as writer:
        while batch := list(itertools.islice(remaining, _BATCH)):
            writer.write_table(arrow.Table.from_pylist(batch, schema=schema))


def _observed(store: ObservationStore, table: str) -> Iterator[_Row]:
    """The rows of a table of what was observed of VMs, with exactly its columns."""
    if table == "vdisks":
        for one in store.rows("observations"):
            yield from ({"observation": one["id"], "vdisk": name, "size": size} for name, size in one["sizes"].items())
        return
    for row in store.rows(table):
        flat = row | _flat(row["content"]) if table == "contents" else row
        yield {name: flat.get(name) for name in _COLUMNS[table]}


def _probes(links: Iterable[LinkObservation]) -> Iterator[_Row]:
    for link in links:
        state = link.state.model_dump(mode="json")
        shared = {"source": link.source, "destination": link.destination, "measured_at": link.at}
        for probe in link.probes:
            flat = state | probe.model_dump(mode="json") | shared
            flat |= _three("rate", flat["rate"]) | _three("round_trip", state["round_trip"])
            flat |= _three("busy", state["busy"] or dict.fromkeys(("value", "low", "high")))
            yield {name: flat[name] for name in _COLUMNS["link_probes"]}


def _scores(scores: Iterable[Score]) -> Iterator[_Row]:
    for score in scores:
        shared = {name: getattr(score, name) for name in ("migration", "vm", "at", "method", "horizon")}
        for quantity, (pick, actual) in QUANTITIES.items():
            said = {
                f"{kind}_{name}": value
                for kind, forecast in (("raw", score.raw), ("shown", score.shown))
                for name, value in pick(forecast).model_dump().items()
            }
            yield shared | {"method": str(score.method), "quantity": quantity} | said | {"outcome": actual(score)}


def _three(name: str, interval: _Row) -> _Row:
    return {name: interval["value"], f"{name}_low": interval["low"], f"{name}_high": interval["high"]}


def _flat(content: _Row) -> _Row:
    """A Content with every interval and every method in columns of its own."""
    intervals = {name: content[name] for name in ("zero", "duplicate")}
    intervals |= {f"{method}_ratio": interval for method, interval in content["ratios"].items()}
    flat = {name: value for name, value in content.items() if not isinstance(value, dict)}
    for name, interval in intervals.items():
        flat |= _three(name, interval)
    return flat | {f"{method}_speed": speed for method, speed in content["speeds"].items()}
