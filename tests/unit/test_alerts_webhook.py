"""Webhooks over real HTTPS: what is signed, what is tried again and what is not, and what is never shown."""

import asyncio
import hashlib
import hmac
import json
import logging
import socket
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from time import time

import pytest

from drover.alerts import webhook
from drover.alerts.config import WebhookReceiver
from drover.alerts.message import DeliveryError, Receipt
from tests.unit.alert_servers import Authority, Webhook, message

SECRET = "pl4nted-s3cret"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", SECRET)


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with Webhook() as served:
        yield served


def send(url: str, ca_file: Path | None = None) -> Receipt:
    to = WebhookReceiver.model_validate({"url": url, "secret_env": "HOOK_SECRET", "ca_file": ca_file})
    return asyncio.run(webhook.send(message(), to))


def refusal(url: str, ca_file: Path | None = None) -> DeliveryError:
    with pytest.raises(DeliveryError) as refused:
        send(url, ca_file)
    return refused.value


def test_what_arrives_is_signed(authority: Authority) -> None:
    with Webhook(authority) as hook:
        receipt = send(f"{hook.origin}/drover?to=ops", authority.ca_file)
        send(f"{hook.origin}/drover?to=ops", authority.ca_file)
    assert receipt.answer == "200 OK thanks"
    post, again = hook.posts
    assert post.path == "/drover?to=ops" and post.headers["content-type"] == "application/json"
    # As the README tells a receiver to check it.
    parts = dict(part.split("=", 1) for part in post.headers["drover-signature"].split(","))
    expected = hmac.new(SECRET.encode(), parts["t"].encode() + b"." + post.body, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(parts["v1"], expected)
    assert abs(int(parts["t"]) - time()) < 600
    body = json.loads(post.body)
    assert body["event"] == "alert" and body["title"] == "web-1: the migration failed" and body["kind"] == "raised"
    # A second attempt is the same delivery.
    assert again.body == post.body and again.headers["drover-delivery"] == post.headers["drover-delivery"] == body["id"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422, 301, 307])
def test_what_is_in_vain_is_final(hook: Webhook, status: int) -> None:
    hook.answers.append((status, {"Location": f"{hook.origin}/elsewhere"}, b"no\nway"))
    error = refusal(hook.origin)
    assert error.final and f"answered {status}" in error.message and "no way" in error.message
    assert len(hook.posts) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_what_may_pass_is_not(hook: Webhook, status: int) -> None:
    for value, least, most in (
        ("120", 120, 120),
        (formatdate(time() + 900, usegmt=True), 1, 900),
        ("soon", None, None),
    ):
        hook.answers.append((status, {"Retry-After": value}, b""))
        error = refusal(hook.origin)
        assert not error.final
        if least is None or most is None:
            assert error.retry_after is None
        else:
            assert error.retry_after is not None and least <= error.retry_after <= most


def test_an_answer_without_end_is_not_read(hook: Webhook) -> None:
    hook.answers.append((200, {}, b"x" * 10_000_000))
    assert len(send(hook.origin).answer) <= 300


def test_a_certificate_that_is_not_trusted(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other")
    with Webhook(authority) as hook:
        for ca_file in (other.ca_file, None):
            error = refusal(hook.origin, ca_file)
            assert f"the certificate of {hook.origin} is not trusted" in error.message and not error.final
    assert not hook.posts


def test_what_is_for_this_machine_goes_to_no_proxy(hook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    with Webhook() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.origin)
        monkeypatch.setenv("http_proxy", proxy.origin)
        monkeypatch.setenv("NO_PROXY", "example.org")
        send(f"{hook.origin}/x")
    assert [post.path for post in hook.posts] == ["/x"] and proxy.posts == []


def test_nobody_there() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        error = refusal(f"http://127.0.0.1:{bound.getsockname()[1]}/x")
    assert "cannot reach http://127.0.0.1:" in error.message and not error.final


def test_neither_the_secret_nor_the_path_is_shown(hook: Webhook, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    hook.answers.append((403, {}, f"you sent {SECRET}".encode()))
    to = WebhookReceiver.model_validate({"url": f"{hook.origin}/pl4nted-path", "secret_env": "HOOK_SECRET"})
    error = refusal(to.url)
    send(to.url)
    shown = f"{error!r} {error} {error.args} {to!r} {caplog.text}"
    assert SECRET not in shown and "pl4nted-path" not in shown and "you sent …" in shown
