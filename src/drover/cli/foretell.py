"""Says beforehand what is to be expected of a migration, where its VM was observed; the score is kept with it."""

from rich.console import Console

from drover.cli.forecast_view import summary
from drover.cli.output import print_json
from drover.cli.questions import travel
from drover.estimator.answer import Estimator
from drover.model.migration import Migration
from drover.store import MigrationStore


def foretell(store: MigrationStore, migration: Migration, *, shipping: str | None, json: bool) -> None:
    """Prints the forecast and remembers it for `drover estimate accuracy`; says nothing of a VM never observed."""
    forecast = Estimator(store.folder).before(migration, None if shipping is None else travel(shipping))
    if forecast is None:
        return
    if json:
        print_json({"event": "forecast", "migration": migration.id, **forecast.model_dump(mode="json")})
        return
    console = Console()
    console.print(summary(forecast), highlight=False)
    for warning in forecast.warnings:
        console.print(f"[yellow]![/] {warning}", highlight=False)
