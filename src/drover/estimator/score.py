"""Finished migrations beside what was forecast for them."""

from collections.abc import Mapping, Sequence

from drover.estimator.accuracy import Score
from drover.estimator.phases import seen
from drover.model.forecast import Forecast
from drover.model.migration import Migration


def scores(migrations: Sequence[Migration], forecasts: Mapping[str, tuple[Forecast, Forecast]]) -> list[Score]:
    """Of each migration that had a forecast and was not disturbed: an interrupted one says nothing of the model."""
    found = []
    for migration in migrations:
        made, cutover = forecasts.get(migration.id), migration.facts.cutover
        if made is None or cutover is None or cutover.downtime is None or seen(migration) is None:
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
                duration=migration.updated_at - migration.created_at,
                downtime=cutover.downtime,
                wire_bytes=float(migration.facts.sent_bytes),
            )
        )
    return found
