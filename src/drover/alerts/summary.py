"""The daily summary, as a pure function."""

from collections import Counter
from collections.abc import Sequence

from drover.alerts.conditions import NEWS, Condition, World
from drover.model.migration import Migration, State
from drover.model.units import format_duration, format_size

_MOST = 50
"""Lines of each part; the rest is counted."""


def summarise(world: World, holding: Sequence[Condition], now: float) -> tuple[str, str]:
    """Title and text: what is under way, what needs a hand, and what ended within the last day."""
    ended = [m for m in world.migrations if m.state.ended and now - m.updated_at < NEWS]
    going = [m for m in world.migrations if not m.state.ended]
    urgent = [condition for condition in holding if not condition.news]
    finished = sum(migration.state is State.FINISHED for migration in ended)
    title = f"{len(going)} migrations under way, {finished} finished since yesterday"
    if urgent:
        title += f", {len(urgent)} things to look at"
    states = Counter(str(migration.state) for migration in going)
    parts = [
        _part("To look at", [f"{c.title}: {c.text}" for c in urgent]),
        _part("Under way: " + ", ".join(f"{n} {state}" for state, n in states.items()), [_line(m, now) for m in going]),
        _part("Ended since yesterday", [_line(migration, now) for migration in ended]),
    ]
    return title, "\n\n".join(part for part in parts if part) or "No migrations, and nothing to look at."


def _part(title: str, lines: list[str]) -> str:
    if not lines:
        return ""
    more = [f"  and {len(lines) - _MOST} more"] if len(lines) > _MOST else []
    return "\n".join([f"{title}", *(f"  {line}" for line in lines[:_MOST]), *more])


def _line(migration: Migration, now: float) -> str:
    sent, spec = format_size(migration.facts.sent_bytes), migration.spec
    took = (migration.updated_at if migration.state.ended else now) - migration.created_at
    return f"{spec.vm} ({migration.id}): {migration.state}, {sent} sent in {format_duration(max(took, 0.0))}"
