"""`drover alerts`: the configuration shown without its secrets, tried, run, and what has not arrived."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from drover.alerts.message import DeliveryError
from drover.cli.main import app
from drover.errors import InputError
from drover.model.migration import Facts, Migration, Spec, State
from drover.store import MigrationStore
from tests.unit.alert_servers import Mailbox, Smtp, Webhook

SECRET = "pl4nted-s3cret"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DROVER_DATA", str(tmp_path))
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    return tmp_path


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with Webhook() as served:
        yield served


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
def smtp(mailbox: Mailbox) -> Iterator[Smtp]:
    with Smtp(mailbox) as served:
        yield served


@pytest.fixture
def written(folder: Path, hook: Webhook, smtp: Smtp) -> Path:
    path = folder / "alerts.yaml"
    path.write_text(
        f"""\
version: 1
receivers:
  ops:
    email:
      {{host: 127.0.0.1, port: {smtp.port}, security: none, from: d@example.org, to: [a@example.org, b@example.org]}}
  hook:
    webhook: {{url: "{hook.origin}/pl4nted-path", secret_env: HOOK_SECRET}}
rules:
  - {{on: failed, to: [ops, hook]}}
  - {{on: host-gone, for: 5m, to: [ops]}}
"""
    )
    return path


def run(*words: str, code: int = 0) -> str:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["alerts", *words], catch_exceptions=False)
    assert result.exit_code == code, result.output
    assert SECRET not in result.output and "pl4nted" not in result.output
    return result.output


def lines(*words: str, code: int = 0) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(*words, "--json", code=code).splitlines() if line.startswith("{")]


def failed(folder: Path) -> Migration:
    store = MigrationStore(folder)
    migration = store.add(Spec(vm="web-1", source="a:///", destination="b:///"), Facts())
    store.enter(migration, State.FAILED, reason="disk full", remedy="make room")
    return migration


def test_check_shows_who_is_told_of_what(written: Path, hook: Webhook, smtp: Smtp) -> None:
    shown = [" ".join(line.split()) for line in run("check").splitlines()]
    assert f"ops e-mail 127.0.0.1:{smtp.port} (none) a@example.org, b@example.org" in shown
    assert f"hook webhook {hook.origin}" in shown
    assert "host-gone 5 min 00 s ops" in shown
    (described,) = lines("check", "--file", str(written))
    assert described["receivers"][1] == {"name": "hook", "by": "webhook", "where": hook.origin}
    assert described["rules"][1] == {"on": "host-gone", "for_seconds": 300, "at": None, "to": ["ops"]}
    assert hook.posts == []


@pytest.mark.usefixtures("written")
def test_check_reads_the_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOOK_SECRET")
    with pytest.raises(DeliveryError, match="environment variable HOOK_SECRET"):
        run("check")


def test_without_a_configuration_it_is_said_where_one_belongs(folder: Path) -> None:
    for verb in ("check", "test", "run"):
        with pytest.raises(InputError, match=str(folder / "alerts.yaml")):
            run(verb)


def test_schema_is_one() -> None:
    assert json.loads(run("schema"))["title"] == "Config"
    assert lines("schema")[0]["title"] == "Config"


@pytest.mark.usefixtures("written")
def test_test_sends_to_each_and_says_what_it_heard(mailbox: Mailbox, hook: Webhook) -> None:
    shown = run("test")
    assert "ops: a test of Drover's alerts: " in shown and "queued as 4711" in shown and "200 OK thanks" in shown
    assert hook.posts[0].path == "/pl4nted-path" and mailbox.mails[0]["Subject"] == "[Drover] a test of Drover's alerts"
    (one,) = lines("test", "hook")
    assert one["delivered"] and one["answer"] == "200 OK thanks" and one["message"]["kind"] == "test"
    with pytest.raises(InputError, match="no receiver 'nobody'"):
        run("test", "nobody")


@pytest.mark.usefixtures("written")
def test_test_fails_if_one_was_not_reached(mailbox: Mailbox, hook: Webhook) -> None:
    hook.answers.append((404, {}, f"{SECRET} what?".encode()))
    by = {line["message"]["receiver"]: line for line in lines("test", code=1)}
    assert by["ops"]["delivered"] and not by["hook"]["delivered"]
    assert "404" in by["hook"]["error"] and "check the URL" in by["hook"]["remedy"]
    mailbox.refused["b@example.org"] = "550 no such user"
    assert "but b@example.org was refused: 550 no such user" in run("test", "ops", code=1)


@pytest.mark.usefixtures("written")
def test_run_once_and_list(folder: Path, mailbox: Mailbox, hook: Webhook) -> None:
    assert run("list") == "Nothing holds, and every message has arrived.\n"
    migration = failed(folder)
    hook.answers.append((500, {}, b"oh"))
    sent = run("run", "--once", code=1)
    assert "host-gone: only the management server sees these" in sent
    assert "hook: web-1: the migration failed" in sent and "500" in sent
    assert mailbox.mails[0]["Subject"] == "[Drover] web-1: the migration failed"
    shown = " ".join(run("list").split())
    assert f"web-1 ({migration.id}) is failed: disk full" in shown and "answered 500" in shown
    condition, undelivered = lines("list")
    assert condition["key"] == f"failed:{migration.id}:0" and condition["on"] == "failed"
    assert undelivered["message"]["receiver"] == "hook" and undelivered["attempts"] == 1
    # It is not due again yet.
    run("run", "--once")
    assert len(hook.posts) == 1


@pytest.mark.usefixtures("written")
def test_run_goes_on_until_it_is_stopped(folder: Path, hook: Webhook) -> None:
    migration = failed(folder)
    watching = subprocess.Popen(
        [sys.executable, "-m", "drover", "alerts", "run", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert hook.arrived.acquire(timeout=60)
        watching.send_signal(signal.SIGINT)
        output, _ = watching.communicate(timeout=60)
    finally:
        watching.kill()
        watching.wait()
    assert watching.returncode == 130
    assert json.loads(hook.posts[0].body)["key"] == f"failed:{migration.id}:0"
    assert SECRET.encode() not in output
