"""`drover alerts`: who is told of what; tried, sent, and what has not arrived."""

import asyncio
import json as json_module
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from drover.alerts import tls
from drover.alerts.config import FILE, Config, Event, Receiver, Rule, load
from drover.alerts.message import DeliveryError, Message, MessageKind, Receipt, new_id
from drover.alerts.outbox import Entry, Open, Outbox
from drover.alerts.watcher import Attempt, Watcher, send, watched
from drover.cli import options
from drover.cli.output import print_json
from drover.errors import DroverError, InputError
from drover.model.units import format_duration
from drover.store.database import data_folder

app = typer.Typer(no_args_is_help=True, help="Alerts: e-mail and webhooks when something must be looked at.")

File = Annotated[
    Path | None, typer.Option("--file", metavar="FILE", help=f"The configuration. Default: {FILE} in the data folder.")
]
_EVERY = 5.0
"""Seconds between two looks."""
_UNSEEN = (Event.HOST_GONE,)
"""Events that the database alone does not tell."""


@app.command()
def check(file: File = None, json: options.Json = False) -> None:
    """Check the configuration, its secrets and its authorities, and show what it comes to. Sends nothing."""
    config = _load(file)
    for receiver in config.receivers.values():
        _require(receiver)
    if json:
        receivers = [{"name": name, **_where(receiver)} for name, receiver in config.receivers.items()]
        print_json({"event": "alerts", "receivers": receivers, "rules": [_rule(rule) for rule in config.rules]})
        return
    table = _table("receiver", "by", "where", "to")
    for name, receiver in config.receivers.items():
        where = _where(receiver)
        place = f"{where['where']} ({where['security']})" if "security" in where else where["where"]
        table.add_row(name, where["by"], escape(place), escape(", ".join(where.get("to", ()))))
    rules = _table("on", "for", "at", "told")
    for rule in config.rules:
        lasting = format_duration(rule.seconds) if rule.seconds else ""
        rules.add_row(rule.on, lasting, rule.at or "", ", ".join(rule.to))
    console = Console(highlight=False)
    console.print(table)
    console.print()
    console.print(rules)


@app.command()
def schema(json: options.Json = False) -> None:
    """Print the JSON Schema of the configuration, for editors."""
    described = Config.model_json_schema()
    if json:
        print_json(described)
    else:
        print(json_module.dumps(described, indent=2))


@app.command()
def test(
    receiver: Annotated[str | None, typer.Argument(metavar="[RECEIVER]", help="Only this one.")] = None,
    file: File = None,
    json: options.Json = False,
) -> None:
    """Send a test message to each receiver, and say what the other side answered. Exit code 1 if one did not get it."""
    receivers: Mapping[str, Receiver] = _load(file).receivers
    if receiver is not None:
        if receiver not in receivers:
            raise InputError(f"there is no receiver {receiver!r}", remedy=f"they are {', '.join(receivers)}")
        receivers = {receiver: receivers[receiver]}
    attempts = asyncio.run(_try(receivers))
    for attempt in attempts:
        _tell(attempt, json)
    if any(attempt.receipt is None or attempt.receipt.refused for attempt in attempts):
        raise typer.Exit(1)


@app.command()
def run(
    once: Annotated[
        bool, typer.Option("--once", help="Look and send once, as from cron. Exit code 1 if one failed.")
    ] = False,
    file: File = None,
    json: options.Json = False,
) -> None:
    """Watch migrations and groups, and send what the rules ask for, until it is stopped."""
    config = _load(file)
    watcher = Watcher(None, config)
    if unseen := sorted({rule.on for rule in config.rules} & set(_UNSEEN)):
        typer.echo(f"drover: {', '.join(unseen)}: only the management server sees these", err=True)
    told = ""
    while True:
        try:
            watcher.look(time.time(), **watched())
            attempts = watcher.deliver(time.time())
        except DroverError as error:
            if once:
                raise
            # A database that is busy or full for a while must not end what watches.
            if str(error) != told:
                typer.echo(f"drover: {error}", err=True)
            told, attempts = str(error), []
        for attempt in attempts:
            _tell(attempt, json)
        if once:
            raise typer.Exit(int(any(attempt.error is not None for attempt in attempts)))
        time.sleep(_EVERY)


@app.command("list")
def list_(json: options.Json = False) -> None:
    """List what holds now, and messages that have not arrived."""
    outbox = Outbox()
    holding = [condition for condition in outbox.holding() if not condition.news]
    undelivered = outbox.undelivered()
    if json:
        for condition in holding:
            print_json(_condition(condition))
        for entry in undelivered:
            print_json({"event": "undelivered", **entry.as_json()})
        return
    console = Console(highlight=False)
    if not holding and not undelivered:
        console.print("Nothing holds, and every message has arrived.")
    if holding:
        table = _table("since", "what", "told")
        for condition in holding:
            told = "" if condition.notified_at is None else _moment(condition.notified_at)
            table.add_row(_moment(condition.since), escape(f"{condition.title}: {condition.text}"), told)
        console.print(table)
    if undelivered:
        table = _table("message", "to", "attempts", "next", "why not")
        for entry in undelivered:
            why = escape(entry.last_error or "not tried yet")
            title = escape(entry.message.title)
            table.add_row(title, entry.message.receiver, str(entry.attempts), _next(entry), why)
        console.print(table)


def _load(file: Path | None) -> Config:
    return load(file or data_folder() / FILE)


def _require(receiver: Receiver) -> None:
    """Raises DeliveryError if a secret or the authorities cannot be read."""
    if receiver.email is not None:
        receiver.email.password()
        tls.context(receiver.email.ca_file)
    if receiver.webhook is not None:
        receiver.webhook.secret()
        tls.context(receiver.webhook.ca_file)


async def _try(receivers: Mapping[str, Receiver]) -> list[Attempt]:
    return await asyncio.gather(*(_try_one(name, receiver) for name, receiver in receivers.items()))


async def _try_one(name: str, receiver: Receiver) -> Attempt:
    message = Message(
        id=new_id(),
        receiver=name,
        rule="test",
        kind=MessageKind.TEST,
        title="a test of Drover's alerts",
        text="Somebody tried `drover alerts test`. Nothing happened.",
        created_at=time.time(),
    )
    try:
        return Attempt(message=message, receipt=await send(message, receiver), error=None)
    except DeliveryError as error:
        return Attempt(message=message, receipt=None, error=error)


def _tell(attempt: Attempt, json: bool) -> None:
    message, error = attempt.message, attempt.error
    receipt = attempt.receipt or Receipt(answer="")
    if json:
        outcome = {"delivered": error is None, "answer": receipt.answer, "refused": receipt.refused}
        wrong = {"error": error and error.message, "remedy": error and error.remedy}
        print_json({"event": "delivery", "message": message.as_json(), **outcome, **wrong})
        return
    console = Console(highlight=False, soft_wrap=True)
    if error is not None:
        console.print(f"[bold red]{message.receiver}[/]: {escape(f'{message.title}: {error.message}')}", end="")
        console.print(f" — {error.remedy}", markup=False)
        return
    console.print(f"[bold]{message.receiver}[/]: {escape(f'{message.title}: {receipt.answer}')}")
    if receipt.refused:
        console.print(f"  [red]but {escape(receipt.refused)}[/]")


def _where(receiver: Receiver) -> dict[str, Any]:
    """Without anything that may be a secret."""
    if receiver.email is not None:
        host, port = receiver.email.at
        security = {"security": receiver.email.security, "from": receiver.email.sender}
        return {"by": "e-mail", "where": f"{host}:{port}", **security, "to": list(receiver.email.to)}
    assert receiver.webhook is not None
    return {"by": "webhook", "where": receiver.webhook.origin}


def _rule(rule: Rule) -> dict[str, Any]:
    return {"on": rule.on, "for_seconds": rule.seconds, "at": rule.at, "to": list(rule.to)}


def _condition(condition: Open) -> dict[str, Any]:
    names = ("key", "severity", "title", "text", "remedy", "since", "notified_at")
    return {"event": "condition", "on": condition.event} | {name: getattr(condition, name) for name in names}


def _next(entry: Entry) -> str:
    if entry.sent_at is not None:
        return "sent to others"
    return "given up" if entry.given_up_at is not None else _moment(entry.next_attempt_at)


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in titles:
        table.add_column(title)
    return table
