"""Finished migrations beside what was forecast for them."""

from collections.abc import Mapping, Sequence

from drover.estimator.accuracy import Score
from drover.estimator.phases import is_undisturbed, seen
from drover.model.forecast import Forecast
from drover.model.migration import Migration


def scores(migrations: Sequence[Migration], forecasts: Mapping[str, tuple[Forecast, Forecast]]) -> list[Score]:
    """Of each migration that had a forecast, went as planned, had the link for itself, and neither waited for a window
    nor had a bandwidth that follows the clock."""
    found, crowded = [], _crowded(migrations)
    for migration in migrations:
        made, cutover = forecasts.get(migration.id), migration.facts.cutover
        if made is None or cutover is None or cutover.downtime is None or migration.id in crowded:
            continue
        if migration.spec.windows or migration.spec.bandwidth_schedule:
            continue
        if not is_undisturbed(migration) or not (migration.spec.devices or seen(migration)):
            continue
        raw, shown = made
        found.append(
            Score(
                migration=migration.id,
                vm=migration.spec.vm,
                at=migration.updated_at,
                method=shown.recommended,
                horizon=shown.horizon,
                raw=raw.whole,
                shown=shown.whole,
                duration=migration.updated_at - migration.begun_at,
                downtime=cutover.downtime,
                wire_bytes=float(migration.facts.sent_bytes),
            )
        )
    return found


def _crowded(migrations: Sequence[Migration]) -> set[str]:
    """Ids of those that went beside another over the same link: each was forecast as if it were alone."""
    found: set[str] = set()
    longest: dict[tuple[str, str], Migration] = {}
    for migration in sorted(migrations, key=lambda one: one.begun_at):
        link = migration.spec.source, migration.spec.destination
        before = longest.get(link)
        if before is not None and migration.begun_at < before.updated_at:
            found |= {before.id, migration.id}
        if before is None or migration.updated_at > before.updated_at:
            longest[link] = migration
    return found
