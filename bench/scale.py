"""The management server at scale: thousands of simulated VMs in the inventory, hundreds of migrations queued.

    python -m bench.scale [--servers N] [--database-url URL] [--vms N] [--migrations N]

prints the section without writing it; `python -m bench scale` writes it.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.goals import paragraph, table
from drover.cli.remote import Remote
from drover.replicator.simulated import WAITED

AT_ONCE = 64
_SPEED = 120
"""Virtual seconds in a real one: background takes 5 s."""
_REQUESTS = 300
_EVERY = 0.1
"""Seconds between two lists while migrations run."""
_PATIENCE = 1800.0
_PASSWORD = "a password for the bench"
_GOALS = {"p95": 0.2, "memory": 500e6, "added": 2.0}


@dataclass(kw_only=True)
class Scale:
    """What was measured; seconds and bytes."""

    vms: int
    migrations: int
    servers: int
    database: str
    listed_after: float
    """Until all VMs of a new site were in the inventory."""
    idle: dict[str, list[float]]
    """Answer times by request, nothing going on."""
    busy: dict[str, list[float]] = field(default_factory=dict)
    """The same while migrations run."""
    memory: list[int] = field(default_factory=list)
    """Largest resident set, by server."""
    processor: list[float] = field(default_factory=list)
    """Seconds of processor, by server, from the run's beginning to its end."""
    recorded_after: float = 0.0
    """Until all were checked and recorded."""
    took: float = 0.0
    inside: list[float] = field(default_factory=list)
    """By migration: from its begin to its end, without what the simulation waited."""
    between: list[float] = field(default_factory=list)
    """From the end of one to the begin of the next in its place."""


class Server:
    """A `drover server`; the first of a database makes the administrator."""

    def __init__(self, folder: Path, database_url: str | None) -> None:
        extra = [] if database_url is None else ["--database-url", database_url]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "drover", "server", "--port", "0", "--json", *extra],
            stdout=subprocess.PIPE, text=True, env={**os.environ, "DROVER_DATA": str(folder)},
        )  # fmt: skip
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        if not said:
            raise RuntimeError("the server did not begin")
        self.told: dict[str, Any] = json.loads(said)
        self.authority = Path(self.told["authority"]).read_text()

    def remote(self, secret: str | None) -> Remote:
        return Remote(self.told["url"], secret, self.authority)

    def memory(self) -> int:
        """Bytes that it has resident."""
        text = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024

    def processor(self) -> float:
        """Seconds since it began."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def measure(
    folder: Path, *, quick: bool = False, servers: int = 1, database_url: str | None = None,
    vms: int = 10_000, migrations: int = 1_000,
) -> Scale:  # fmt: skip
    """Raises RuntimeError if the migrations do not all finish."""
    vms, migrations = (500, 40) if quick else (vms, migrations)
    with _serving(folder, servers, database_url) as (running, remotes):
        first = remotes[0]
        begun = time.monotonic()
        first.put("/v1/sites/alpha", {"uri": f"simulated:///alpha?vms={vms}&seed=1&speed={_SPEED}"})
        first.put("/v1/sites/beta", {"uri": f"simulated:///beta?seed=1&speed={_SPEED}"})
        _wait(lambda: first.get("/v1/vms", limit=1)["total"] == vms)
        found = Scale(
            vms=vms,
            migrations=migrations,
            servers=servers,
            database="SQLite" if database_url is None else "PostgreSQL",
            listed_after=time.monotonic() - begun,
            idle=_ask(remotes, _REQUESTS),
        )
        _migrate(found, running, remotes)
        return found


@contextmanager
def _serving(folder: Path, count: int, database_url: str | None) -> Iterator[tuple[list[Server], list[Remote]]]:
    running: list[Server] = []
    try:
        for _ in range(count):
            running.append(Server(folder, database_url))
        once, anybody = running[0].told["one_time_password"], running[0].remote(None)
        session = anybody.post("/v1/sessions", {"name": "admin", "password": once})
        admin = running[0].remote(session["secret"])
        admin.put("/v1/me/password", {"old": once, "new": _PASSWORD})
        yield running, [server.remote(session["secret"]) for server in running]
    finally:
        for server in running:
            server.end()


def _ask(remotes: list[Remote], count: int, stopped: threading.Event | None = None) -> dict[str, list[float]]:
    """Answer times of lists, from every server in turn: until `stopped`, or so many of each."""
    chance = random.Random(1)
    times: dict[str, list[float]] = {name: [] for name in _LISTS}
    cursors: list[str | None] = [None]
    for number in range(sys.maxsize):
        if stopped is None and number >= count * len(_LISTS):
            break
        name = list(_LISTS)[number % len(_LISTS)]
        path, parameters = _LISTS[name]
        asked = {"cursor": chance.choice(cursors)} if name == "VMs" else {}
        begun = time.monotonic()
        part = remotes[number % len(remotes)].get(path, **parameters, **asked)
        times[name].append(time.monotonic() - begun)
        if name == "VMs" and part["next"]:
            cursors.append(part["next"])
        if stopped is not None and stopped.wait(_EVERY):
            break
    return times


_LISTS: dict[str, tuple[str, dict[str, Any]]] = {
    "VMs": ("/v1/vms", {"limit": 100}),
    "VMs by name and state": ("/v1/vms", {"limit": 100, "name": "*-00?7*", "state": "running"}),
    "migrations": ("/v1/migrations", {"limit": 100}),
}


def _migrate(found: Scale, running: list[Server], remotes: list[Remote]) -> None:
    names = sorted(one["name"] for one in _all(remotes[0], "/v1/vms", state="running"))[: found.migrations]
    text = f"version: 1\nplan: herd\nfrom: alpha\nto: beta\nat_once: {AT_ONCE}\nvms: [{', '.join(names)}]\n"
    remotes[0].put("/v1/plans/herd", text=text)
    stopped = threading.Event()
    answers: dict[str, list[float]] = {}
    asking = threading.Thread(target=lambda: answers.update(_ask(remotes, 0, stopped)))
    processor, begun = [server.processor() for server in running], time.monotonic()
    run = remotes[0].post("/v1/plans/herd/runs")["id"]
    asking.start()
    found.memory = [0] * len(running)
    try:
        while (now := remotes[0].get(f"/v1/runs/{run}"))["state"] in ("queued", "running"):
            found.memory = [max(most, server.memory()) for most, server in zip(found.memory, running, strict=True)]
            if now["state"] == "running" and not found.recorded_after:
                found.recorded_after = time.monotonic() - begun
            if time.monotonic() - begun > _PATIENCE:
                raise RuntimeError(f"the run has not ended after {_PATIENCE:.0f} s")
            time.sleep(1)
    finally:
        stopped.set()
        asking.join()
    found.took, found.busy = time.monotonic() - begun, answers
    found.processor = [s.processor() - was for s, was in zip(running, processor, strict=True)]
    if now["state"] != "finished" or len(now["migrations"]) != found.migrations:
        raise RuntimeError(f"the run ended {now['state']}: {now['reason']}")
    _added(found, [remotes[0].get(f"/v1/migrations/{one}")["history"] for one in now["migrations"]])


def _added(found: Scale, histories: list[list[dict[str, Any]]]) -> None:
    begins, ends = [], []
    for history in histories:
        begin = next(one["at"] for one in history if one["text"] == "preparing")
        end = next(one["at"] for one in history if one["text"] == "finished")
        waited = next(one["text"] for one in history if one["text"].startswith(WAITED))
        found.inside.append(end - begin - float(waited.removeprefix(WAITED).split()[0]))
        begins.append(begin)
        ends.append(end)
    # As places become free, in order, those that wait begin.
    found.between = [begin - end for end, begin in zip(sorted(ends), sorted(begins)[AT_ONCE:], strict=False)]


def _all(remote: Remote, path: str, **parameters: str) -> list[dict[str, Any]]:
    items, cursor = [], None
    while True:
        part = remote.get(path, limit=1000, cursor=cursor, **parameters)
        items += part["items"]
        if (cursor := part["next"]) is None:
            return items


def _wait(check: Any) -> None:
    deadline = time.monotonic() + 300
    while not check():
        if time.monotonic() > deadline:
            raise RuntimeError("the inventory did not fill")
        time.sleep(0.2)


def describe(found: Scale) -> str:
    """The section of RESULTS.md."""
    slowest = max(_part(times, 95) for times in (*found.idle.values(), *found.busy.values()))
    added = [one + other for one, other in zip(sorted(found.inside), sorted(found.between), strict=False)]
    each = statistics.mean(found.inside) + statistics.mean(found.between or [0.0])
    goals = [
        ("slowest p95 of a list", f"{slowest * 1e3:.0f} ms", "< 200 ms", _met(slowest, _GOALS["p95"])),
        ("memory of a server", f"{max(found.memory) / 1e6:.0f} MB", "< 500 MB", _met(max(found.memory), 500e6)),
        ("added to a migration, mean", f"{each:.2f} s", "< 2 s", _met(each, _GOALS["added"])),
        ("added, 95 % below, if slow ones meet", f"{_part(added or found.inside, 95):.2f} s", "", ""),
    ]
    lists = [
        (name, when, str(len(times)), *(f"{one * 1e3:.0f}" for one in (_part(times, 50), _part(times, 95), max(times))))
        for when, by_name in (("nothing runs", found.idle), ("migrations run", found.busy))
        for name, times in by_name.items()
    ]
    return "\n".join([
        paragraph(
            f"{found.vms:,} simulated VMs in the inventory; a plan of {found.migrations:,} simulated migrations, "
            f"{AT_ONCE} at once, of about 5 s each; {found.servers} server(s), {found.database}. Simulated are "
            "hypervisors, disks and copying; server, database, workflows and REST are the real ones, over TLS, and "
            "whoever asks is on the same cores. Added is all of a migration's time but what its simulation waited: "
            "states and facts made durable, workflow, and the time until the next one begins in its place."
        ),
        "",
        table(("", "", "goal", ""), goals),
        "",
        table(("list of 100", "while", "requests", "p50 ms", "p95 ms", "slowest ms"), lists),
        "",
        paragraph(
            f"The inventory was full {found.listed_after:.1f} s after the site was named. All were checked and "
            f"recorded {found.recorded_after:.0f} s after the run was asked for, and finished after "
            f"{found.took:.0f} s; {sum(found.processor):.0f} s of processor. Within a migration "
            f"{statistics.median(found.inside):.2f} s were added (median; 95 % below {_part(found.inside, 95):.2f} s), "
            f"between two {statistics.median(found.between or [0.0]):.2f} s."
        ),
    ])  # fmt: skip


def _met(value: float, goal: float) -> str:
    return "met" if value < goal else "missed"


def _part(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else values[0]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--servers", type=int, default=1)
    parser.add_argument("--database-url")
    parser.add_argument("--vms", type=int, default=10_000)
    parser.add_argument("--migrations", type=int, default=1_000)
    given = vars(parser.parse_args())
    with tempfile.TemporaryDirectory(prefix="drover-scale-") as name:
        print(describe(measure(Path(name), **given)))
