"""`drover plan validate` and `export`: a plan as a file, without a look at any site."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from drover.cli import options
from drover.cli.output import print_json
from drover.cli.remote import connected
from drover.plans.file import dump, load


def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Plans, as YAML.")],
    json: options.Json = False,
) -> None:
    """Check that files are plans, by themselves: no site is asked. `drover plan show` also looks at the VMs."""
    for file in files:
        plan = load(file)
        if json:
            fields = {"file": str(file), "plan": plan.plan, "groups": [group.group for group in plan.groups]}
            print_json({"event": "valid", **fields})
        else:
            Console(highlight=False, soft_wrap=True).print(f"{file}: {plan.plan} is a plan", markup=False)


def export(
    plan: Annotated[str, typer.Argument(metavar="FILE|NAME", help="A file; with --server the name of a plan there.")],
    version: Annotated[
        int | None, typer.Option("--version", metavar="N", help="At a server: this version, not the newest.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Print a plan in its canonical form: what is as by default is left out, and nothing is lost."""
    if (remote := connected()) is not None:
        text = remote.text(f"/v1/plans/{plan}/export", version=version)
    else:
        text = dump(load(Path(plan)))
    if json:
        print_json({"event": "export", "text": text})
    else:
        print(text, end="")
