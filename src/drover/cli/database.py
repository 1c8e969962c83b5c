"""`drover database`: which version the database's schema has, and taking it up and down."""

from typing import Annotated

import typer
from rich.console import Console

from drover.cli import options
from drover.cli.output import print_json
from drover.store import schema
from drover.store.database import Database
from drover.store.location import shown

app = typer.Typer(
    no_args_is_help=True,
    help="The database's schema. It is brought up to this Drover whenever a command opens the database.",
)


@app.command()
def current(json: options.Json = False) -> None:
    """Show where the database is and which revision its schema has. Changes nothing."""
    database = Database(bring_up=False)
    found, newest = database.revision(), schema.revisions()[-1]
    if json:
        print_json({"event": "database", "database": shown(database.url), "revision": found, "newest": newest})
        return
    Console(highlight=False, soft_wrap=True).print(
        f"{shown(database.url)} is at {found or 'no revision'}; this Drover knows up to {newest}", markup=False
    )


@app.command()
def upgrade(json: options.Json = False) -> None:
    """Bring the schema up to this Drover, as opening the database does. Wholly, or not at all."""
    _change(schema.revisions()[-1], json=json)


@app.command()
def downgrade(
    to: Annotated[str, typer.Option("--to", metavar="REVISION", help="The revision that the older Drover knows.")],
    json: options.Json = False,
) -> None:
    """Take the schema back for an older Drover. What only the newer schema holds is lost: make a backup before."""
    _change(to, json=json)


def _change(to: str, *, json: bool) -> None:
    database = Database(bring_up=False)
    before, after = database.change(to)
    if json:
        print_json({"event": "database", "database": shown(database.url), "before": before, "revision": after})
        return
    Console(highlight=False, soft_wrap=True).print(
        f"{shown(database.url)} was at {before or 'no revision'} and is at {after}", markup=False
    )
