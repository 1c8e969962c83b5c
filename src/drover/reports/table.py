"""A report as CSV: a row for each migration, for spreadsheets, which take no cell of it for a formula."""

import csv
import io
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from drover.reports.figures import MigrationFigures, Report

_FORMULA = tuple("=+-@\t\r\n")
_LISTED = "errors"


def as_csv(report: Report) -> str:
    """RFC 4180, with a line of titles; sizes are bytes, times Unix seconds, durations seconds."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(name for name, _ in _columns(MigrationFigures))
    for one in report.migrations:
        writer.writerow(_cell(_value(one, path)) for _, path in _columns(MigrationFigures))
    return text.getvalue()


def _columns(model: type[BaseModel], *above: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(title, the fields that lead to it); what is in a part is `part_field`."""
    for name, field in model.model_fields.items():
        kinds = [kind for kind in (field.annotation, *getattr(field.annotation, "__args__", ())) if kind is not None]
        part = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if part is not None and name != _LISTED:
            yield from _columns(part, *above, name)
        else:
            yield "_".join((*above, name)), (*above, name)


def _value(one: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if one is None:
            return None
        one = getattr(one, name)
    if path == (_LISTED,):
        return "; ".join(f"{fault.state}: {fault.what}" + "".join(f", {text}" for text in fault.done) for fault in one)
    return one


def _cell(value: Any) -> Any:
    """Texts come from VMs' names and from errors: one that a spreadsheet would run gets a quote before it."""
    if value is None or isinstance(value, int | float):
        return value
    text = str(value).replace("\0", "")
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text
