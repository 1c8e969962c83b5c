"""A message as signed JSON, and its way to a webhook."""

import asyncio
import hashlib
import hmac
import json
import logging
import ssl
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx2

from drover import __version__
from drover.alerts import tls
from drover.alerts.config import WebhookReceiver
from drover.alerts.fields import is_loopback
from drover.alerts.message import DeliveryError, Message, Receipt, one_line
from drover.alerts.secret import without

_TIMEOUT = 20.0
"""Seconds for all of it."""
_READ = 1024
"""Bytes of an answer that are looked at."""
_LATER = (408, 425, 429)
# It logs whole URLs, whose paths may be secrets.
logging.getLogger("httpx2").setLevel(logging.WARNING)


def sign(body: bytes, secret: str, at: int) -> str:
    """The header `Drover-Signature`: HMAC-SHA256 over the time in Unix seconds, a dot and the body."""
    mac = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256)
    return f"t={at},v1={mac.hexdigest()}"


async def send(message: Message, receiver: WebhookReceiver) -> Receipt:
    """Posts a message to the receiver's URL. Raises DeliveryError."""
    secret = receiver.secret()
    body = json.dumps({"event": "alert", **message.as_json()}).encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"drover/{__version__}",
        "Drover-Delivery": message.id,
        "Drover-Signature": sign(body, secret, int(time.time())),
    }
    context = tls.context(receiver.ca_file)
    # What is for this machine goes to no proxy that the environment names.
    proxied = not is_loopback(httpx2.URL(receiver.url).host)
    try:
        async with (
            asyncio.timeout(_TIMEOUT),
            httpx2.AsyncClient(verify=context, timeout=_TIMEOUT, trust_env=proxied) as client,
            client.stream("POST", receiver.url, content=body, headers=headers) as response,
        ):
            said = await _beginning(response)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise _explained(error, receiver.origin) from None
    answer = one_line(without(f"{response.status_code} {response.reason_phrase} {said}", secret))
    if response.is_success:
        return Receipt(answer=answer)
    raise DeliveryError(
        f"{receiver.origin} answered {answer}",
        remedy=_remedy(response.status_code),
        final=response.status_code < 500 and response.status_code not in _LATER,
        retry_after=_retry_after(response.headers.get("Retry-After")),
    )


async def _beginning(response: httpx2.Response) -> str:
    content = b""
    async for part in response.aiter_raw():
        content += part
        if len(content) >= _READ:
            break
    return content[:_READ].decode(errors="replace")


def _explained(error: Exception, origin: str) -> DeliveryError:
    beneath = tls.cause(error)
    if isinstance(beneath, ssl.SSLError):
        return tls.refused(origin, beneath)
    if isinstance(error, TimeoutError | httpx2.TimeoutException):
        return DeliveryError(f"{origin} does not answer", remedy="check the URL, and the firewall")
    return DeliveryError(
        f"cannot reach {origin}: {one_line(str(error)) or type(error).__name__}",
        remedy="check the URL, and whether the server runs",
    )


def _remedy(status: int) -> str:
    if 300 <= status < 400:
        return "redirects are not followed: give the URL that it leads to"
    if status in (401, 403):
        return "check that both sides have the same secret"
    if status in (404, 410):
        return "the webhook is gone: check the URL"
    return "its administrator knows why"


def _retry_after(value: str | None) -> float | None:
    """Seconds, from a number or a date."""
    if value is None:
        return None
    try:
        if value.isdecimal() and value.isascii():
            return float(value[:9])
        return max((parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return None
