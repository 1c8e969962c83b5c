"""A message as e-mail, and its way to an SMTP server."""

import html
import ssl
import time
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime

import aiosmtplib

from drover.alerts import tls
from drover.alerts.config import EmailReceiver
from drover.alerts.message import DeliveryError, Message, MessageKind, Receipt, one_line
from drover.alerts.secret import without

_TIMEOUT = 20.0
"""Seconds for the connection, and for each answer."""
_COLOURS = {"critical": "#b3261e", "warning": "#8a5a00", "info": "#1b6e3a"}


def compose(message: Message, receiver: EmailReceiver) -> EmailMessage:
    """The e-mail, with a text and an HTML of the same words. Its id is the same whenever it is composed."""
    domain = receiver.sender.rpartition("@")[2]
    # The policy refuses line breaks in headers; what other texts of theirs hold becomes one line.
    mail = EmailMessage(policy=SMTP_POLICY)
    mail["From"] = receiver.sender
    mail["To"] = ", ".join(receiver.to)
    mail["Subject"] = one_line(f"[Drover] {message.title}")
    mail["Date"] = format_datetime(datetime.fromtimestamp(message.created_at, UTC))
    mail["Message-ID"] = f"<{message.id}@{domain}>"
    if message.after is not None:
        mail["In-Reply-To"] = mail["References"] = f"<{message.after}@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(_text(message))
    mail.add_alternative(_html(message), subtype="html")
    return mail


async def send(message: Message, receiver: EmailReceiver) -> Receipt:
    """Hands a message to the receiver's SMTP server. Raises DeliveryError."""
    password = receiver.password()
    host, port = receiver.at
    where = f"the SMTP server {host}:{port}"
    try:
        refused, answer = await aiosmtplib.send(
            compose(message, receiver),
            hostname=host,
            port=port,
            use_tls=receiver.security == "tls",
            start_tls=receiver.security == "starttls",
            tls_context=None if receiver.security == "none" else tls.context(receiver.ca_file),
            username=receiver.username,
            password=password,
            timeout=_TIMEOUT,
        )
    except (aiosmtplib.SMTPException, OSError, ValueError) as error:
        failed = _explained(error, where, receiver)
        # Some servers repeat what they were sent.
        failed.message = _safe(failed.message, receiver, password)
        failed.args = (failed.message,)
        raise failed from None
    words = "; ".join(f"{address} was refused: {said.code} {said.message}" for address, said in refused.items())
    return Receipt(answer=_safe(answer, receiver, password), refused=_safe(words, receiver, password) or None)


def _explained(error: Exception, where: str, receiver: EmailReceiver) -> DeliveryError:
    beneath = tls.cause(error)
    if isinstance(beneath, ssl.SSLError):
        return tls.refused(where, beneath)
    if isinstance(error, aiosmtplib.SMTPAuthenticationError):
        return DeliveryError(
            f"{where} refused the user {receiver.username}: {error.code} {error.message}",
            remedy="check username and password",
        )
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        words = "; ".join(f"{one.recipient}: {one.code} {one.message}" for one in error.recipients)
        return DeliveryError(
            f"{where} refused every recipient: {words}",
            remedy="check the addresses under `to`, and whether the server wants a user name",
            final=all(one.code >= 500 for one in error.recipients),
        )
    if isinstance(error, aiosmtplib.SMTPSenderRefused):
        return DeliveryError(
            f"{where} refused the sender {receiver.sender}: {error.code} {error.message}",
            remedy="check the address under `from`, and whether the server wants a user name",
            final=error.code >= 500,
        )
    # Without STARTTLS or AUTH it raises the base class alone.
    if isinstance(error, aiosmtplib.SMTPNotSupported) or type(error) is aiosmtplib.SMTPException:
        return DeliveryError(
            f"{where} does not offer what is needed: {error.message}",
            remedy="check security and port; without TLS no server offers to take a password",
        )
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return DeliveryError(
            f"{where} answered {error.code} {error.message}",
            remedy="its administrator knows why",
            final=error.code >= 500 and isinstance(error, aiosmtplib.SMTPDataError),
        )
    if isinstance(error, TimeoutError):
        return DeliveryError(f"{where} does not answer", remedy="check host, port and security, and the firewall")
    return DeliveryError(
        f"the conversation with {where} failed: {error}", remedy="check host and port, and whether the server runs"
    )


def _safe(text: str, receiver: EmailReceiver, password: str | None) -> str:
    return one_line(text if password is None else without(text, password, username=receiver.username or ""))


def _text(message: Message) -> str:
    return "\n\n".join([*_parts(message), _foot(message)]) + "\n"


def _html(message: Message) -> str:
    colour = _COLOURS.get(message.severity, _COLOURS["info"])
    parts = "".join(f'<p style="white-space:pre-wrap">{html.escape(part)}</p>' for part in _parts(message)[1:])
    return (
        '<!doctype html><html><body style="font-family:sans-serif">'
        f'<h3 style="color:{colour}">{html.escape(message.title)}</h3>{parts}'
        f'<p style="color:#666;font-size:small">{html.escape(_foot(message))}</p></body></html>\n'
    )


def _parts(message: Message) -> list[str]:
    return [message.title, message.text, *([f"What to do: {message.remedy}"] if message.remedy else [])]


def _foot(message: Message) -> str:
    since = "" if message.since is None else f", since {_moment(message.since)}"
    kind = "" if message.kind is MessageKind.RAISED else f", {message.kind}"
    return f"Drover, rule {message.rule}{kind}{since}, told {_moment(message.created_at)}"


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(at))
