"""Logs: one form for all, the fields of where they were written, no secret, no second line."""

import json
import logging
import threading
from collections.abc import Iterator
from contextvars import copy_context

import pytest
import structlog

from drover import logs
from drover.errors import InputError

TOKEN = "drover_t_pl4nted-0123"
_log = logs.logger("test")


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in (logs.FORMAT, logs.LEVEL, logs._FIELDS):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    root, dbos, ours = logging.getLogger(), logging.getLogger("dbos"), logging.getLogger("drover")
    kept = root.handlers, root.level, dbos.handlers, dbos.propagate, ours.level
    yield
    root.handlers, root.level, dbos.handlers, dbos.propagate, ours.level = kept
    structlog.reset_defaults()
    logs.silent()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    shown = capsys.readouterr()
    assert shown.out == ""
    return [json.loads(line) for line in shown.err.splitlines()]


def test_nothing_is_logged_until_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    _log.error("nobody hears")
    shown = capsys.readouterr()
    assert shown.out + shown.err == ""


def test_ours_and_those_of_libraries_have_one_form(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "info")
    with logs.bound(request="q-1"):
        logs.note(user="boss")
        _log.info("began", migration="m-1")
        logging.getLogger("uvicorn.error").warning("late by %d s", 3)
        logging.getLogger("dbos").warning("slow")
    _log.debug("too much")
    _log.info("after")
    ours, theirs, workflows, after = lines(capsys)
    assert list(ours)[:4] == ["timestamp", "level", "logger", "event"]
    wanted = {"event": "began", "migration": "m-1", "request": "q-1", "user": "boss", "logger": "drover.test"}
    assert wanted.items() <= ours.items()
    assert theirs["event"] == "late by 3 s" and theirs["request"] == "q-1" and theirs["level"] == "warning"
    assert workflows["logger"] == "dbos" and "request" not in after


def test_fields_reach_threads_and_processes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logs.configure("json", "info")
    with logs.bound(run="r-1"):
        thread = threading.Thread(target=copy_context().run, args=(_log.info, "within"))
        thread.start()
        thread.join()
        child = logs.environment(migration="m-1")
    assert lines(capsys)[0]["run"] == "r-1"
    for name, value in child.items():
        monkeypatch.setenv(name, value)
    logs.configure(child[logs.FORMAT], child[logs.LEVEL])
    _log.info("there")
    assert {"run": "r-1", "migration": "m-1"}.items() <= lines(capsys)[0].items()


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_secret_and_no_value_of_a_variable_gets_in(capsys: pytest.CaptureFixture[str], form: str) -> None:
    logs.configure(form, "debug")
    hidden = "pl4nted-in-" + "a-variable"
    try:
        raise ValueError(f"refused {TOKEN} at https://u:pl4nted@host/")
    except ValueError:
        _log.exception("it failed", password="pl4nted", nested={"api_token": "pl4nted"})
    _log.warning(f"Authorization: Bearer pl4nted-0123 {TOKEN}", header="Basic cGw0bnRlZDpwbDRudGVk")
    logging.getLogger("other").error("got %s", {"cookie": TOKEN})
    logging.getLogger("httpx2").info("GET https://hooks/pl4nted")
    shown = capsys.readouterr().err
    assert "ValueError" in shown and "test_no_secret" in shown
    assert hidden not in shown and "cGw0" not in shown
    # What Python shows of a traceback are lines of the program, of which this test has some.
    of_the_program = 'raise ValueError(f"refused {TOKEN} at https://u:pl4nted@host/")'
    assert "pl4nted" not in shown.replace(of_the_program, "").replace(json.dumps(of_the_program)[1:-1], "")


@pytest.mark.parametrize("form", ["json", "text"])
def test_an_event_is_one_line(capsys: pytest.CaptureFixture[str], form: str) -> None:
    logs.configure(form, "info")
    _log.info("a VM\n2026-01-01 [error] forged", vm="web\nforged")
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(("form", "level"), [("xml", "info"), ("json", "loud")])
def test_what_is_no_format_or_level_is_refused(form: str, level: str) -> None:
    with pytest.raises(InputError, match="is not a log"):
        logs.configure(form, level)
