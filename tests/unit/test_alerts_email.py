"""E-mail in real conversations with an SMTP server: TLS, user and password, refusals, and what is said of them."""

import asyncio
import base64
import logging
from pathlib import Path
from typing import Any

import pytest

from drover.alerts import email
from drover.alerts.config import EmailReceiver
from drover.alerts.message import DeliveryError, MessageKind, Receipt
from tests.unit.alert_servers import Authority, Mailbox, Smtp, authenticator, message

PASSWORD = "pl4nted-pass=word"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


def receiver(server: Smtp, security: str = "none", **changed: Any) -> EmailReceiver:
    fields = {"host": "127.0.0.1", "port": server.port, "security": security, "from": "drover@example.org"}
    return EmailReceiver.model_validate({**fields, "to": ["a@example.org", "b@example.org"], **changed})


def send(to: EmailReceiver, **changed: Any) -> Receipt:
    return asyncio.run(email.send(message(**changed), to))


def refusal(to: EmailReceiver) -> DeliveryError:
    with pytest.raises(DeliveryError) as refused:
        send(to)
    return refused.value


def test_starttls_with_user_and_password(mailbox: Mailbox, authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "password").write_text(PASSWORD + "\n")
    known = authenticator(b"drover", PASSWORD.encode())
    options: dict[str, Any] = {"tls_context": authority.server, "require_starttls": True, "auth_required": True}
    with Smtp(mailbox, authenticator=known, **options) as server:
        login = {"username": "drover", "password_file": tmp_path / "password"}
        receipt = send(receiver(server, "starttls", ca_file=authority.ca_file, **login))
    assert "queued as 4711" in receipt.answer and receipt.refused is None
    assert mailbox.encrypted == [True] and mailbox.users[0].login == b"drover"
    assert mailbox.envelopes[0].mail_from == "drover@example.org"
    assert mailbox.envelopes[0].rcpt_tos == ["a@example.org", "b@example.org"]


@pytest.mark.filterwarnings("ignore:Requiring AUTH")
def test_tls_from_the_first_byte(mailbox: Mailbox, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTP_PASSWORD", PASSWORD)
    known = authenticator(b"drover", PASSWORD.encode())
    options: dict[str, Any] = {"authenticator": known, "auth_required": True, "auth_require_tls": False}
    with Smtp(mailbox, implicit=authority.server, **options) as server:
        login = {"username": "drover", "password_env": "SMTP_PASSWORD"}
        send(receiver(server, "tls", host="localhost", ca_file=authority.ca_file, **login))
    assert mailbox.encrypted == [True] and mailbox.users[0].password == PASSWORD.encode()


def test_what_is_in_the_mail(mailbox: Mailbox) -> None:
    with Smtp(mailbox) as server:
        send(receiver(server), title="wéb-1: Störung", text="line 1\nline 2 <b>")
        send(receiver(server), id="2e" * 16, kind=MessageKind.RECOVERED, after="1f" * 16)
    first, second = mailbox.mails
    assert first["Subject"] == "[Drover] wéb-1: Störung"
    assert first["Message-ID"] == f"<{'1f' * 16}@example.org>" and first["Auto-Submitted"] == "auto-generated"
    assert first["Date"].datetime.timestamp() == 1e9
    assert second["In-Reply-To"] == first["Message-ID"]
    plain, page = first.get_body(("plain",)), first.get_body(("html",))
    assert plain is not None and page is not None
    assert "line 1\r\nline 2 <b>" in plain.get_content().replace("\n", "\r\n").replace("\r\r", "\r")
    assert "What to do: make room" in plain.get_content()
    assert "line 2 &lt;b&gt;" in page.get_content() and "<b>" not in page.get_content()


def test_no_text_can_add_a_header(mailbox: Mailbox) -> None:
    with Smtp(mailbox) as server:
        send(receiver(server), title="web\r\nBcc: everybody@example.org\n\nbody\x00\x1b[2J", rule="a\r\nb")
    assert mailbox.mails[0]["Bcc"] is None
    assert mailbox.mails[0]["Subject"] == "[Drover] web Bcc: everybody@example.org body [2J"
    assert mailbox.envelopes[0].rcpt_tos == ["a@example.org", "b@example.org"]


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_certificate_of_another_authority_or_name_is_refused(
    mailbox: Mailbox, authority: Authority, tmp_path: Path, security: str
) -> None:
    other, named = Authority(tmp_path / "other"), Authority(tmp_path / "named", "mail.example.org")
    for context, ca_file in ((authority, other.ca_file), (authority, None), (named, named.ca_file)):
        options: dict[str, Any] = {"implicit": context.server} if security == "tls" else {"tls_context": context.server}
        with Smtp(mailbox, **options) as server:
            error = refusal(receiver(server, security, ca_file=ca_file))
        assert "the certificate of the SMTP server 127.0.0.1:" in error.message and "not trusted" in error.message
        assert "ca_file" in str(error.remedy) and not error.final
    assert not mailbox.mails


def test_a_server_without_starttls_gets_nothing(mailbox: Mailbox, authority: Authority) -> None:
    with Smtp(mailbox) as server:
        error = refusal(receiver(server, "starttls", ca_file=authority.ca_file))
    assert "does not offer" in error.message and not mailbox.mails


def test_a_wrong_password_is_said_and_not_shown(
    mailbox: Mailbox, authority: Authority, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SMTP_PASSWORD", PASSWORD)
    caplog.set_level(logging.DEBUG, "aiosmtplib")
    forms = [PASSWORD, base64.b64encode(f"\0drover\0{PASSWORD}".encode()).decode()]
    answer = f"535 5.7.8 no, not {forms[0]} nor {forms[1]}"
    known = authenticator(b"drover", b"another", answer)
    with Smtp(mailbox, tls_context=authority.server, authenticator=known, auth_required=True) as server:
        login = {"username": "drover", "password_env": "SMTP_PASSWORD"}
        to = receiver(server, "starttls", ca_file=authority.ca_file, **login)
        error = refusal(to)
    assert "refused the user drover: 535" in error.message and "no, not …" in error.message
    assert error.remedy == "check username and password" and not error.final
    for form in forms:
        assert form not in f"{error!r} {error} {error.args} {to!r} {caplog.text}"


def test_recipients_that_are_refused(mailbox: Mailbox) -> None:
    mailbox.refused = {"b@example.org": "550 5.1.1 no such user"}
    with Smtp(mailbox) as server:
        receipt = send(receiver(server))
        assert receipt.refused == "b@example.org was refused: 550 5.1.1 no such user"
        mailbox.refused["a@example.org"] = "550 5.1.1 nor this one"
        error = refusal(receiver(server))
        assert "refused every recipient: a@example.org: 550" in error.message and error.final
        # A later try may do, as with grey lists.
        mailbox.refused["a@example.org"] = "451 4.7.1 come back later"
        assert not refusal(receiver(server)).final
    assert len(mailbox.mails) == 1


def test_a_message_that_is_refused(mailbox: Mailbox) -> None:
    mailbox.answers.extend(["554 5.7.1 this is spam", "452 4.3.1 no room"])
    with Smtp(mailbox) as server:
        first, second = refusal(receiver(server)), refusal(receiver(server))
    assert "answered 554 5.7.1 this is spam" in first.message and first.final
    assert "452" in second.message and not second.final


def test_a_server_that_is_down_and_back(mailbox: Mailbox) -> None:
    server = Smtp(mailbox)
    error = refusal(receiver(server))
    assert f"127.0.0.1:{server.port}" in error.message and "whether the server runs" in str(error.remedy)
    assert not error.final
    with server:
        send(receiver(server))
    assert len(mailbox.mails) == 1


def test_secrets_and_authorities_that_cannot_be_read(
    mailbox: Mailbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SMTP_PASSWORD", raising=False)
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "two").write_text("a\nb\n")
    (tmp_path / "large").write_text("x" * 5000)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    server = Smtp(mailbox)
    for name, word in (("none", "cannot read"), ("empty", "empty"), ("two", "one line"), ("large", "larger"),
                       ("bytes", "UTF-8")):  # fmt: skip
        error = refusal(receiver(server, username="u", password_file=tmp_path / name))
        assert word in error.message and str(tmp_path / name) in error.message
    assert "SMTP_PASSWORD" in refusal(receiver(server, username="u", password_env="SMTP_PASSWORD")).message
    for name in ("none", "bytes"):
        assert "authorities" in refusal(receiver(server, "tls", ca_file=tmp_path / name)).message
    server.socket.close()
