"""`drover secret`: passwords that `alerts.yaml` names, kept encrypted; and the key of all that is kept so."""

import time
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table

from drover.alerts.secret import STORED
from drover.cli import options
from drover.cli.output import print_json
from drover.cli.typed import secret_text
from drover.errors import InputError
from drover.model.plan import Name as PlanName
from drover.store import Vault

app = typer.Typer(no_args_is_help=True, help="Secrets that are kept encrypted, and the key that opens them.")
Name = Annotated[str, typer.Argument(metavar="NAME", help="What alerts.yaml calls it (password_stored: NAME).")]


@app.command("set")
def set_(
    name: Name,
    file: Annotated[Path | None, typer.Option("--file", metavar="FILE", help="Where it is, - for stdin.")] = None,
    json: options.Json = False,
) -> None:
    """Keep a secret, which is asked for unless it is in a file. It replaces an older one of this name."""
    try:
        TypeAdapter(PlanName).validate_python(name)
    except ValidationError:
        remedy = "take letters, digits and . _ -, at most 63; the secret itself is asked for"
        raise InputError("this cannot be a secret's name", remedy=remedy) from None
    Vault().put(STORED + name, secret_text("secret", file).encode())
    if json:
        print_json({"event": "secret", "name": name})
    else:
        Console(highlight=False).print(f"{name} is kept, encrypted", markup=False)


@app.command("list")
def list_(json: options.Json = False) -> None:
    """List the names of secrets and when they were given; nothing shows a secret itself."""
    names = Vault().names()
    if json:
        for name, at in names.items():
            print_json({"event": "secret", "name": name, "updated_at": at})
        return
    table = Table("secret", "given", box=None, pad_edge=False)
    for name, at in names.items():
        table.add_row(name, time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)))
    Console().print(table if names else "No secrets.")


@app.command("remove")
def remove(name: Name, json: options.Json = False) -> None:
    """Forget a secret."""
    if not Vault().remove(STORED + name):
        raise InputError(f"there is no secret {name!r}", remedy="`drover secret list` shows their names")
    if json:
        print_json({"event": "removed", "name": name})
    else:
        Console(highlight=False).print(f"{name} is forgotten", markup=False)


@app.command("rotate")
def rotate(json: options.Json = False) -> None:
    """Make a new key, encrypt every secret with it, and forget the old key. Servers go on meanwhile.

    Copies of the key's file have to be made again, also those for other servers of the same database.
    """
    vault = Vault()
    number = vault.rotate()
    if json:
        print_json({"event": "rotated", "secrets": number, "key_file": str(vault.key_file)})
    else:
        Console(highlight=False, soft_wrap=True).print(
            f"{number} secrets are encrypted with a new key, {vault.key_file}; copy that file anew", markup=False
        )
