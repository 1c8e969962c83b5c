"""Single fields of `alerts.yaml`: texts, checked, and never repeated in an error where they may be a secret."""

import ipaddress
import re
from email.headerregistry import Address
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from drover.model.settings import refused

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
"""Capitals alone: a password that is written here by mistake is most likely refused, and so not shown as a name."""


def _host(text: str) -> str:
    if not text or not text.isascii() or not text.isprintable() or any(c in text for c in " /@[]"):
        raise refused(f"{text!r} is not a host", "write its name or address alone, as in mail.example.org")
    return text


def _address(text: str) -> str:
    try:
        Address(addr_spec=text)
        valid = text.isascii() and text.isprintable() and all(text.rpartition("@")[::2])
    except Exception:  # noqa: BLE001 - the parser of the standard library leaks errors of every kind
        valid = False
    if not valid:
        raise refused(f"{text!r} is not an e-mail address", "write it as in operators@example.org, in ASCII")
    return text


def _url(text: str) -> str:
    # What is wrong is told without the URL: its path may be a secret.
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or not text.isascii() or not text.isprintable() or " " in text:
        raise refused("it is not the URL of a webhook", "write it as in https://hooks.example.org/drover")
    if parts.username is not None or parts.password is not None:
        raise refused("a URL with a user or a password in it is refused", "the signature says who sends: name a secret")
    if parts.scheme == "http" and not is_loopback(host):
        raise refused(f"http:// to {host} would show every alert on the way", "use https://, or a loopback address")
    return text


def _variable(text: str) -> str:
    # The text may be the secret itself, so it is not repeated.
    if not _VARIABLE.fullmatch(text):
        raise refused("it is not the name of an environment variable", "write its name, as in SMTP_PASSWORD")
    return text


def _file(path: Path) -> Path:
    # Neither is this one repeated.
    if not path.is_absolute():
        raise refused("it is not the whole path of a file", "write it from the root, as in /etc/drover/secret")
    return path


def _time(text: str) -> str:
    hours, colon, minutes = text.partition(":")
    if not (colon and re.fullmatch("[0-9]{1,2}", hours) and re.fullmatch("[0-5][0-9]", minutes) and int(hours) < 24):
        raise refused(f"{text!r} is not a time of day", "write it as in 07:00, in this machine's time zone")
    return f"{int(hours):02d}:{minutes}"


def _port(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 6 else value


def is_loopback(host: str) -> bool:
    """Whether what is sent to `host` stays on this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


Host = Annotated[str, AfterValidator(_host)]
Email = Annotated[str, AfterValidator(_address), WithJsonSchema({"type": "string", "format": "email"})]
Url = Annotated[str, AfterValidator(_url)]
Variable = Annotated[str, AfterValidator(_variable)]
File = Annotated[Path, AfterValidator(_file)]
Port = Annotated[int, BeforeValidator(_port), Field(ge=1, le=65535)]
TimeOfDay = Annotated[str, AfterValidator(_time)]
"""In this machine's time zone."""
