"""The timeline of a plan as an SVG picture, alone or in a page; no script, nothing from elsewhere."""

import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from xml.etree import ElementTree as ET

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from drover.cli.report.page import write_page
from drover.cli.timeline_words import basis_of, begins_at, by_begin, summary_of, words_of
from drover.model.timeline import Progressing, Timeline, TimelineRow
from drover.model.units import format_moment

_NAMES, _CHART, _END, _ROW, _TOP = 200, 640, 260, 26, 56
_COLOURS = {"copies": "#0b6e99", "waits": "#e0b64a", "cuts over": "#c8553d", "finished": "#588157"}
_STEPS = (60, 300, 900, 1800, 3600, 10800, 21600, 43200, 86400, 172800, 604800, 2592000)
"""Seconds between two lines of the time axis."""
_LINES = 7
_SHOWN = 42
"""Characters of a name, or of what a row waits for."""


def write_timeline(timeline: Timeline, target: Path, *, picture_only: bool) -> None:
    """Writes the page or the picture; an older one is replaced at once. Raises DroverError if it cannot be written."""
    picture = gantt(timeline)
    if picture_only:
        write_page(target, f'<?xml version="1.0" encoding="UTF-8"?>\n{picture}\n')
        return
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals.update(
        moment=format_moment,
        summary=summary_of,
        basis=basis_of,
        words=words_of,
        rows=by_begin,
    )
    template = environment.from_string((resources.files(__package__) / "timeline.html").read_text())
    write_page(target, template.render(timeline=timeline, picture=Markup(picture)))


def gantt(timeline: Timeline) -> str:
    """The picture as SVG; texts are escaped."""
    begins = begins_at(timeline)
    ends = max((row.end or row.copied or row.begin or begins for row in timeline.rows), default=begins)
    lasts = max(ends - begins, 1.0)
    width, height = _NAMES + _CHART + _END, _TOP + _ROW * len(timeline.rows) + 12
    svg = ET.Element(
        "svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {width} {height}", width=str(width), height=str(height)
    )
    svg.set("font-family", "sans-serif")
    svg.set("font-size", "13")
    ET.SubElement(svg, "title").text = f"Timeline of the plan {timeline.plan}"
    _draw_legend(svg)
    for at in _lines(begins, lasts):
        x = _x(at, begins, lasts)
        _line(svg, x, _TOP - 8, height - 8)
        _text(svg, x + 3, _TOP - 12, _label(at, lasts), fill="#666", size=11)
    for place, row in enumerate(by_begin(timeline)):
        _draw_row(svg, row, _TOP + place * _ROW, begins, lasts)
    return ET.tostring(svg, encoding="unicode")


def _draw_row(svg: ET.Element, row: TimelineRow, y: float, begins: float, lasts: float) -> None:
    label = _text(svg, 4, y + 17, _short(row.name))
    if row.group:
        label.set("font-weight", "bold")
    end = _NAMES + _CHART
    for colour, first, last in _spans(row, begins + lasts):
        left, right = _x(first, begins, lasts), _x(last, begins, lasts)
        bar = ET.SubElement(svg, "rect", x=f"{left:.1f}", y=f"{y + 4:.1f}", height=str(_ROW - 8), rx="2")
        bar.set("width", f"{max(right - left, 1.5):.1f}")
        bar.set("fill", _COLOURS[colour])
        ET.SubElement(bar, "title").text = f"{row.name} {colour}: {format_moment(first)} to {format_moment(last)}"
    said = row.waits_for or (f"after {', '.join(row.after)}" if row.after else "")
    _text(svg, end + 8, y + 17, _short(said), fill="#666", size=11)


def _spans(row: TimelineRow, never: float) -> Iterator[tuple[str, float, float]]:
    if row.begin is None:
        return
    if row.state is Progressing.FINISHED or row.copied is None:
        yield "finished" if row.state is Progressing.FINISHED else "copies", row.begin, row.end or never
        return
    yield "copies", row.begin, row.copied
    if (cutover := row.cutover or never) > row.copied:
        yield "waits", row.copied, cutover
    if row.cutover is not None and row.end is not None:
        yield "cuts over", row.cutover, row.end


def _draw_legend(svg: ET.Element) -> None:
    for place, (word, colour) in enumerate(_COLOURS.items()):
        x = _NAMES + place * 150
        ET.SubElement(svg, "rect", x=str(x), y="8", width="14", height="14", rx="2", fill=colour)
        _text(svg, x + 19, 20, "waits for its cutover" if word == "waits" else word)


def _lines(begins: float, lasts: float) -> Iterator[float]:
    """Round times, in local time."""
    step = next((step for step in _STEPS if lasts / step <= _LINES), _STEPS[-1])
    offset = time.localtime(begins).tm_gmtoff
    at = -(-(begins + offset) // step) * step - offset
    while at <= begins + lasts:
        yield at
        at += step


def _label(at: float, lasts: float) -> str:
    return time.strftime("%H:%M" if lasts < 20 * 3600 else "%m-%d %H:%M", time.localtime(at))


def _x(at: float, begins: float, lasts: float) -> float:
    return _NAMES + (at - begins) / lasts * _CHART


def _line(svg: ET.Element, x: float, top: float, bottom: float) -> None:
    ET.SubElement(
        svg, "line", x1=f"{x:.1f}", x2=f"{x:.1f}", y1=str(top), y2=str(bottom), stroke="#ddd"
    )  # fmt: skip


def _text(svg: ET.Element, x: float, y: float, words: str, *, fill: str = "#222", size: int = 13) -> ET.Element:
    found = ET.SubElement(svg, "text", x=f"{x:.1f}", y=f"{y:.1f}", fill=fill)
    found.set("font-size", str(size))
    found.text = words
    return found


def _short(words: str) -> str:
    clean = "".join(one if one.isprintable() else "?" for one in words)
    return clean if len(clean) <= _SHOWN else clean[: _SHOWN - 1] + "…"
