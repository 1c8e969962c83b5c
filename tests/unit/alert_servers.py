"""An authority, an SMTP server and a webhook of the tests' own, all on loopback."""

import datetime
import ipaddress
import socket
import ssl
from collections import deque
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Semaphore, Thread
from types import TracebackType
from typing import Any, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from drover.alerts.message import Message, MessageKind


def message(**changed: Any) -> Message:
    """One as the outbox has it."""
    fields: dict[str, Any] = {
        "id": "1f" * 16, "receiver": "operators", "rule": "failed", "kind": MessageKind.RAISED,
        "title": "web-1: the migration failed", "text": "web-1 (m-1) is failed: disk <full>",
        "remedy": "make room", "severity": "critical", "key": "failed:m-1:1", "since": 1e9, "created_at": 1e9,
    }  # fmt: skip
    return Message(**{**fields, **changed})


class Authority:
    """Signs one certificate, for loopback or other names; its own is in `ca_file`."""

    def __init__(self, folder: Path, *names: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"tests in {folder.name}")])
        usage = x509.KeyUsage(
            digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
            key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        authority = (
            _builder(name, name, key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(key, hashes.SHA256())
        )
        own = ec.generate_private_key(ec.SECP256R1())
        alternatives: list[x509.GeneralName] = [x509.DNSName(one) for one in names or ("localhost",)]
        if not names:
            alternatives.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
        certificate = (
            _builder(subject, name, own)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .sign(key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        private = own.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_bytes(authority.public_bytes(pem))
        both = folder / "server.pem"
        both.write_bytes(certificate.public_bytes(pem) + private)
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.load_cert_chain(both)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    return builder.serial_number(x509.random_serial_number()).not_valid_before(now - day).not_valid_after(now + day)


@dataclass
class Mailbox:
    """What an SMTP server took, and whom it refuses."""

    mails: list[EmailMessage] = field(default_factory=list)
    envelopes: list[Envelope] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)
    users: list[Any] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    answers: deque[str] = field(default_factory=deque)
    """To the next messages, instead of taking them."""

    async def handle_RCPT(
        self, _server: Any, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:
        if self.answers:
            return self.answers.popleft()
        assert isinstance(envelope.content, bytes)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        self.envelopes.append(envelope)
        self.encrypted.append(server.transport.get_extra_info("ssl_object") is not None)
        self.users.append(session.auth_data)
        return "250 queued as 4711"


class Smtp(Controller):
    """An SMTP server on a free port of 127.0.0.1, which is its own even before it starts."""

    def __init__(self, mailbox: Mailbox, *, implicit: ssl.SSLContext | None = None, **options: Any) -> None:
        # Bound but not listening: whoever connects is refused.
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        port = self.socket.getsockname()[1]
        super().__init__(
            mailbox, hostname="127.0.0.1", port=port, ssl_context=implicit, ready_timeout=30, server_hostname="mail",
            **options,
        )  # fmt: skip

    def _create_server(self) -> Any:
        return self.loop.create_server(self._factory_invoker, sock=self.socket, ssl=self.ssl_context)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def authenticator(username: bytes, password: bytes, answer: str | None = None) -> Any:
    """Takes one user with one password; others hear `answer`."""

    def check(_server: Any, _session: Session, _envelope: Envelope, _mechanism: str, data: Any) -> AuthResult:
        good = isinstance(data, LoginPassword) and (data.login, data.password) == (username, password)
        return AuthResult(success=good, handled=False, message=None if good else answer, auth_data=data)

    return check


@dataclass
class Post:
    """A request that a webhook got."""

    path: str
    headers: dict[str, str]
    body: bytes


class Webhook:
    """Answers as `answers` says, else 200; over TLS if an authority is given."""

    def __init__(self, authority: Authority | None = None) -> None:
        self.posts: list[Post] = []
        self.answers: deque[tuple[int, dict[str, str], bytes]] = deque()
        self.arrived = Semaphore(0)
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                webhook.posts.append(Post(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                webhook.arrived.release()
                status, headers, content = webhook.answers.popleft() if webhook.answers else (200, {}, b"thanks")
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None:
                """Who does not read all of an answer is none of its business."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if authority is not None:
            self._server.socket = authority.server.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.origin = f"{'https' if authority else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
