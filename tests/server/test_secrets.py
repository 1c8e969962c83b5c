"""Secrets are planted wherever a server takes one, then looked for wherever one must not be.

The server is a process of its own, with alerts over real SMTP and a webhook that repeat what they got; it is asked
rightly and wrongly, made to fail, and made to crash.
"""

import json
import os
import signal
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from drover.alerts.secret import STORED
from drover.model.migration import Facts, Spec, State
from drover.store import MigrationStore, Vault
from tests.unit.alert_servers import Mailbox, Smtp, Webhook, authenticator

DROVER = Path(sys.executable).parent / "drover"
PASSWORD, SMTP, HOOK, SASL, WRONG, VARIABLE = (
    f"pl4nted-{what}-8f3a" for what in ("password", "smtp", "hook", "sasl", "wrong", "variable")
)
KEY = ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
NOWHERE = "qemu:///system?socket=/nowhere/a"


class Processes(threading.Thread):
    """Every command line of the machine, and the environment of what the server starts, as often as can be."""

    def __init__(self, server: int) -> None:
        super().__init__(daemon=True)
        self._server, self._ended = server, threading.Event()
        self.commands, self.environments = set[bytes](), set[bytes]()

    def run(self) -> None:
        own = {os.getpid(), self._server}
        while not self._ended.wait(0.1):
            for folder in Path("/proc").glob("[0-9]*"):
                try:
                    self.commands.add((folder / "cmdline").read_bytes())
                    environment = (folder / "environ").read_bytes()
                except (OSError, ProcessLookupError):
                    continue
                if int(folder.name) not in own and b"DROVER_LOG_FIELDS=" in environment:
                    self.environments.add(environment)

    def stop(self) -> None:
        self._ended.set()
        self.join()


@dataclass
class World:
    """A server with secrets in it, and what was seen of it."""

    folder: Path
    process: "subprocess.Popen[str]"
    client: httpx2.Client
    first: dict[str, Any]
    answers: list[str] = field(default_factory=list)
    secrets: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, who: str | None = None, *, shows: str | None = None, **given: Any) -> Any:
        """`shows` is the field of the answer that is a secret and shown this once."""
        headers = {"Authorization": f"Bearer {self.secrets[who]}"} if who else {}
        answer = self.client.request(method, path, headers=headers, **given)
        text, body = answer.text, answer.json() if answer.content else None
        if shows is not None:
            self.secrets[shows] = body[shows]
            text = text.replace(body[shows], "")
        self.answers.append(f"{answer.status_code} {answer.headers} {text}")
        return body


@pytest.fixture
def world(tmp_path: Path, mail: Smtp, hook: Webhook) -> Iterator[World]:
    data = tmp_path / "data"
    vault = Vault(data)
    vault.put(STORED + "smtp", SMTP.encode())
    vault.put(STORED + "hook", HOOK.encode())
    (data / "alerts.yaml").write_text(yaml.safe_dump(_alerts(mail, hook)))
    env = {**os.environ, "DROVER_DATA": str(data), "SMTP_PASSWORD": VARIABLE}
    command = [DROVER, "server", "--port", "0", "--json", "--log-format", "json", "--log-level", "debug"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=env, cwd=tmp_path)
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    trusted = ssl.create_default_context(cafile=first["authority"])
    try:
        with httpx2.Client(base_url=first["url"], verify=trusted, timeout=60) as client:
            yield World(tmp_path, process, client, first)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def mail() -> Iterator[Smtp]:
    refuses = authenticator(b"nobody", b"", answer=f"535 not {SMTP}")
    with Smtp(Mailbox(), authenticator=refuses, auth_require_tls=False) as server:
        yield server


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with Webhook() as server:
        server.answers.extend([(403, {}, f"you sent {HOOK}".encode())] * 9)
        yield server


def _alerts(mail: Smtp, hook: Webhook) -> dict[str, Any]:
    email = {
        "host": "127.0.0.1", "port": mail.port, "security": "none", "username": "drover", "password_stored": "smtp",
        "from": "drover@x.org", "to": ["o@x.org"],
    }  # fmt: skip
    receivers = {
        "mail": {"email": email},
        "hook": {"webhook": {"url": f"{hook.origin}/pl4nted-path-8f3a", "secret_stored": "hook"}},
    }
    return {"version": 1, "receivers": receivers, "rules": [{"on": "failed", "to": ["mail", "hook"]}]}


def test_no_secret_is_where_it_must_not_be(world: World, hook: Webhook) -> None:
    seen = Processes(world.process.pid)
    seen.start()
    _plant(world)
    migration = _fail(world)
    assert hook.arrived.acquire(timeout=20)
    _break(world, migration)
    seen.stop()
    limits = Path(f"/proc/{world.process.pid}/limits").read_text()
    assert [line.split()[4:6] for line in limits.splitlines() if "core file" in line] == [["0", "0"]]
    world.process.send_signal(signal.SIGSEGV)
    world.process.wait(20)
    log = (world.folder / "log").read_text()
    assert "Fatal Python error: Segmentation fault" in log and "is not a valid Role" in log
    assert "refused the user" in log and "403" in log, "both receivers were tried"
    assert not list(world.folder.glob("core*"))
    assert seen.environments, "a process of a migration was seen"

    plain = {**world.secrets, "ssh_key": KEY.splitlines()[2]}
    for name in ("PASSWORD", "SMTP", "HOOK", "SASL", "WRONG"):
        plain[name] = globals()[name]
    assert len(plain) >= 10 and all(len(one) > 10 for one in plain.values())
    places = {
        "the log": log.encode(),
        "stdout after the first line": world.process.stdout.read().encode(),  # type: ignore[union-attr]
        "the answers": "\n".join(world.answers).encode(),
        "command lines": b"\n".join(seen.commands),
        "environments": b"\n".join(seen.environments),
        "the data folder": b"\n".join(_content(path) for path in sorted((world.folder / "data").rglob("*"))),
    }
    assert b"CREATE TABLE" in places["the data folder"] and b"resume" in places["command lines"]
    for place, content in places.items():
        found = [name for name, secret in plain.items() if secret.encode() in content]
        assert not found, f"{found} in {place}: {_around(content, plain[found[0]])}"
    assert VARIABLE.encode() not in places["environments"]
    assert b"pl4nted-path" not in log.encode()


def _plant(world: World) -> None:
    """Everything that takes a secret, rightly and wrongly."""
    once = world.secrets["one_time_password"] = world.first["one_time_password"]
    world.ask("POST", "/v1/sessions", json={"name": "admin", "password": once}, shows="secret")
    world.ask("PUT", "/v1/me/password", "secret", json={"old": once, "new": PASSWORD})
    world.ask("POST", "/v1/sessions", json={"name": "admin", "password": PASSWORD}, shows="secret")
    world.secrets["session"] = world.secrets["secret"]
    made = world.ask("POST", "/v1/tokens", "session", json={"name": "ci", "role": "administrator"}, shows="secret")
    world.secrets["token"] = made["secret"]
    world.ask("POST", "/v1/users", "token", json={"name": "eve", "role": "viewer"}, shows="one_time_password")
    world.secrets["eve"] = world.secrets["one_time_password"]
    world.ask("POST", "/v1/users/eve/password", "token", shows="one_time_password")
    world.ask("PUT", "/v1/sites/far", "token", json={"uri": NOWHERE})
    world.ask("PUT", "/v1/sites/far/credentials", "token", json={"user": "d", "password": SASL, "ssh_key": KEY})
    world.ask("PUT", "/v1/sites/far/credentials", "token", json={"password": SASL, "ssh_key": KEY[:200], "x": SASL})
    world.ask("PUT", "/v1/sites/far/credentials", "token", content=json.dumps({"password": SASL})[:-1])
    world.ask("PUT", "/v1/sites/bad", "token", json={"uri": f"qemu+ssh://root:{SASL}@x/system"})
    world.ask("POST", "/v1/sessions", json={"name": "admin", "password": WRONG})
    world.ask("POST", "/v1/sessions", json={"name": WRONG, "password": WRONG})
    world.ask("POST", "/v1/sessions", json={"name": "admin", "password": [WRONG]})
    world.ask("GET", f"/v1/plans?token={world.secrets['token']}")
    world.ask("PATCH", "/v1/users/eve", "token", json={"role": world.secrets["token"]})
    world.client.delete(f"/v1/tokens/{world.secrets['token']}")
    for path in ("sites", "users", "tokens", "audit", "sites/far/vms", "plans"):
        world.ask("GET", f"/v1/{path}", "token")


def _fail(world: World) -> str:
    """A migration that fails, in a process that the server starts."""
    store = MigrationStore(world.folder / "data")
    migration = store.add(Spec(vm="web", source=NOWHERE, destination=NOWHERE), Facts(uuid="u"))
    store.enter(migration, State.FAILED, reason="the disk is full")
    run = world.ask("POST", f"/v1/migrations/{migration.id}/resume", "token")
    deadline = time.monotonic() + 30
    while world.ask("GET", f"/v1/runs/{run['id']}", "token")["state"] in ("queued", "running"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    world.ask("GET", f"/v1/migrations/{migration.id}", "token")
    return migration.id


def _break(world: World, migration: str) -> None:
    """What the program does not foresee, with a traceback in the log."""
    with sqlite3.connect(world.folder / "data" / "drover.sqlite") as db:
        db.execute("UPDATE users SET role = 'nonsense' WHERE name = 'eve'")
    told = world.ask("POST", "/v1/sessions", json={"name": "eve", "password": world.secrets["one_time_password"]})
    assert told["status"] == 500 and told["detail"] == "the server failed: ValueError", migration


def _around(content: bytes, secret: str) -> bytes:
    at = content.index(secret.encode())
    return content[max(at - 200, 0) : at + 50]


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""
