"""`drover plan pin` and `unpin`: when something of a plan begins, set by hand, in its file or at a server."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console

from drover.cli import options
from drover.cli.output import print_json
from drover.cli.remote import connected
from drover.errors import DroverError, InputError
from drover.model.order import Pin
from drover.plans.file import load, parse
from drover.plans.pinning import with_pin
from drover.plans.site import at_source

_Plan = Annotated[str, typer.Argument(metavar="PLAN", help="The plan's file; with --server, the name of one there.")]
_Of = Annotated[str, typer.Argument(metavar="NAME", help="A group of the plan, or a VM that goes for itself.")]


def pin(
    plan: _Plan,
    of: _Of,
    position: Annotated[
        int | None, typer.Option("--position", metavar="N", help="It is the N-th to begin of all that the plan has.")
    ] = None,
    not_before: Annotated[
        str | None,
        typer.Option("--not-before", metavar="TIME", help="It begins no earlier, as in 2026-12-05T22:00:00+01:00."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Pin when a group, or a VM that goes for itself, begins; the rest of the order is worked out around it.

    A pin that cannot be kept is refused. At a server it holds at once, for a run that is under way as well.
    """
    try:
        wanted = Pin(position=position, not_before=not_before)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            first["msg"], remedy=first.get("ctx", {}).get("remedy", "give --position, or --not-before")
        ) from None
    _write(plan, of, wanted, json=json)


def unpin(plan: _Plan, of: _Of, json: options.Json = False) -> None:
    """Take the pin out of a plan again."""
    _write(plan, of, None, json=json)


def _write(plan: str, of: str, wanted: Pin | None, *, json: bool) -> None:
    if (remote := connected()) is not None:
        known = remote.get(f"/v1/plans/{plan}")
        changed = with_pin(known["text"], of, wanted, f"plan {plan}")
        remote.put(f"/v1/plans/{plan}", text=changed, etag=f'"{known["version"]}"')
    else:
        _write_file(Path(plan), of, wanted)
    if json:
        print_json({"event": "pin", "plan": plan, "of": of, "pin": None if wanted is None else wanted.model_dump()})
        return
    words = "is not pinned" if wanted is None else f"is pinned {words_of(wanted)}"
    Console(highlight=False, soft_wrap=True).print(f"{of} {words}; `drover plan timeline {plan}` shows the order")


def words_of(pin: Pin) -> str:
    """What a pin says."""
    said = [f"to position {pin.position}"] if pin.position is not None else []
    return ", ".join([*said, *([f"to begin not before {pin.not_before}"] if pin.not_before is not None else [])])


def _write_file(file: Path, of: str, wanted: Pin | None) -> None:
    load(file)
    changed = with_pin(file.read_text("utf-8-sig"), of, wanted, str(file))
    if wanted is not None:
        # Against what is there: only that says how many begin.
        at_source(parse(changed, str(file)))
    part = file.with_name(file.name + ".part")
    try:
        part.write_text(changed)
        part.replace(file)
    except OSError as error:
        raise DroverError(
            f"cannot write the plan {file}: {error.strerror}", remedy="see that its folder is writable"
        ) from error
