"""What a management server is asked to do, and how it is followed to its end."""

import secrets
import time
from collections.abc import Iterable
from typing import Any

import typer
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table

from drover.cli.output import print_json
from drover.cli.remote import Remote
from drover.cli.view import summary_line
from drover.model.units import format_duration, format_size
from drover.replicator.events import Progress

_LOOK = 1.0
_QUIET = 5.0
"""Seconds between progress lines of a VM."""
_PROGRESS = TypeAdapter(Progress)


def carry_out(remote: Remote, path: str, body: Any, *, json: bool) -> None:
    """Has a run begun and follows it. Raises typer.Exit if it does not finish; Ctrl-C leaves it to the server."""
    run = remote.post(path, body, key=secrets.token_hex(16))
    follower = _Follower(remote, json=json)
    follower.say(run["name"], f"run {run['id']} at {remote.url}")
    try:
        while run["state"] in ("queued", "running"):
            time.sleep(_LOOK)
            run = remote.get(f"/v1/runs/{run['id']}")
            follower.look(run["migrations"])
    except KeyboardInterrupt:
        follower.say(run["name"], f"the server goes on with it: run {run['id']}")
        raise
    if json:
        print_json({"event": "run", **run})
    elif run["state"] == "finished":
        follower.say(run["name"], "all of it is finished", style="bold green")
    else:
        remedy = f" — {run['remedy']}" if run["remedy"] else ""
        follower.say(run["name"], f"{run['state']}: {run['reason']}{remedy}", style="bold red")
    if run["state"] != "finished":
        raise typer.Exit(3 if run["state"] == "refused" else 1)


class _Follower:
    """Prints what is new of migrations."""

    def __init__(self, remote: Remote, *, json: bool) -> None:
        self._remote = remote
        self._json = json
        self._console = Console(highlight=False, soft_wrap=True)
        self._told: dict[str, int] = {}
        self._printed: dict[str, float] = {}
        self._progress: dict[str, float] = {}

    def look(self, migrations: Iterable[str]) -> None:
        for migration in migrations:
            story = self._remote.get(f"/v1/migrations/{migration}")
            for one in story["history"][self._told.get(migration, 0) :]:
                self.say(story["vm"], one["text"], at=one["at"])
            self._told[migration] = len(story["history"])
            if story["progress"] and story["state"] not in ("finished", "cancelled"):
                self._show(migration, story["progress"])

    def _show(self, migration: str, progress: dict[str, Any]) -> None:
        if progress["at"] == self._progress.get(migration):
            return
        self._progress[migration] = progress["at"]
        if self._json:
            print_json(progress)
        elif time.monotonic() - self._printed.get(migration, -_QUIET) >= _QUIET:
            self._printed[migration] = time.monotonic()
            try:
                self.say(progress["vm"], summary_line(_PROGRESS.validate_python(progress)))
            except ValidationError:
                # A server of another version.
                return

    def say(self, vm: str, words: str, *, at: float | None = None, style: str | None = None) -> None:
        if self._json:
            print_json({"event": "message", "vm": vm, "text": words, "at": at or time.time()})
            return
        stamp = "" if at is None else time.strftime("%H:%M:%S  ", time.localtime(at))
        self._console.print(f"{vm}: {stamp}{words}", markup=False, style=style)


def show_status(remote: Remote, migration: str | None, *, everything: bool, json: bool) -> None:
    """The server's migrations, or one with its story."""
    if migration is not None:
        story = remote.get(f"/v1/migrations/{migration}")
        if json:
            print_json({"event": "migration", **story})
            return
        console = Console(highlight=False)
        console.print(f"[bold]{story['id']}[/]  {story['vm']}  [bold]{story['state']}[/]")
        for one in story["history"]:
            stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one["at"]))
            console.print(f"  {stamp}  {one['text']}", markup=False)
        if story.get("waits_for"):
            console.print(f"  waits: {story['waits_for']}", markup=False)
        if story["remedy"]:
            console.print(f"  → {story['remedy']}", markup=False)
        return
    found = [one for one in _all(remote) if everything or one["state"] not in ("finished", "cancelled")]
    if json:
        for one in found:
            print_json({"event": "migration", **one})
        return
    if not found:
        Console().print("No migrations." if everything else "No migrations under way. --all shows the finished ones.")
        return
    table = Table("id", "VM", "state", "from", "to", "sent", "age", box=None, pad_edge=False)
    for one in found:
        sent, age = format_size(one["sent_bytes"]), format_duration(time.time() - one["created_at"])
        table.add_row(one["id"], one["vm"], one["state"], one["source"], one["destination"], sent, age)
    console = Console(highlight=False)
    console.print(table)
    for one in found:
        if one.get("waits_for"):
            console.print(f"{one['id']} of {one['vm']} waits: {one['waits_for']}", markup=False)


def _all(remote: Remote) -> Iterable[dict[str, Any]]:
    cursor = None
    while True:
        page = remote.get("/v1/migrations", limit=500, cursor=cursor)
        yield from page["items"]
        if (cursor := page["next"]) is None:
            return
