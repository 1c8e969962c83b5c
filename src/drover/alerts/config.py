"""`alerts.yaml`: who is told of what, and how. Secrets are named in it, never written in it."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from drover.alerts.fields import Email, File, Host, Port, TimeOfDay, Url, Variable, is_loopback
from drover.alerts.secret import read_secret
from drover.model.plan import Name
from drover.model.settings import Switch, Wait, misplaced, refused
from drover.model.units import parse_duration
from drover.strict_yaml import Kind

FILE = "alerts.yaml"
"""In the data folder."""
_PASSWORDS = ("password_stored", "password_file", "password_env")
_PORTS = {"starttls": 587, "tls": 465, "none": 25}


class Event(StrEnum):
    """What a rule is about."""

    FAILED = "failed"
    LINK_LOST = "link-lost"
    HOST_GONE = "host-gone"
    OBJECTIVE_MISSED = "objective-missed"
    APPROVAL = "approval"
    GROUP_DONE = "group-done"
    DAILY_SUMMARY = "daily-summary"


_LASTING = {Event.LINK_LOST: "5m", Event.HOST_GONE: "1m", Event.OBJECTIVE_MISSED: "1m"}
"""Events that may pass by themselves, and how long they must last unless the rule says so."""


def _version(value: object) -> object:
    if value not in (1, "1"):
        raise refused(f"{value!r} is not a version of alerts that is known here", "write version: 1")
    return 1


class _Part(BaseModel):
    # The docstrings of the fields are in the schema; what was typed may be a secret in the wrong place.
    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )


class EmailReceiver(_Part):
    """An SMTP server that takes messages for some addresses."""

    host: Host
    port: Port | None = None
    """587, with `security: tls` 465, with `none` 25."""
    security: Literal["starttls", "tls", "none"] = "starttls"
    """`tls` is TLS from the first byte; `none` only to this machine, unless `insecure: true`."""
    insecure: Switch = False
    ca_file: File | None = None
    """Authorities (PEM) that sign the server's certificate; without it those of the system."""
    username: str | None = Field(default=None, min_length=1)
    password_file: File | None = None
    password_env: Variable | None = None
    password_stored: Name | None = None
    """As in `drover secret set NAME`."""
    sender: Email = Field(alias="from")
    to: tuple[Email, ...] = Field(min_length=1)

    @property
    def at(self) -> tuple[str, int]:
        """Host and port."""
        return self.host, self.port or _PORTS[self.security]

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        if self.security == "none" and not is_loopback(self.host) and not self.insecure:
            raise misplaced(
                f"without TLS everybody on the way to {self.host} can read and change what is sent",
                "use starttls or tls, or accept that with insecure: true", ("security",),
            )  # fmt: skip
        given = [name for name in _PASSWORDS if getattr(self, name) is not None]
        if len(given) != (0 if self.username is None else 1):
            raise misplaced(
                "a user name needs a password, named once, and a password a user name",
                "give username and one of password_stored, password_file and password_env, or none of them",
                ("username" if self.username else next(name for name in _PASSWORDS if getattr(self, name)),),
            )
        return self

    def password(self) -> str | None:
        """None without a user name. Raises DeliveryError if it cannot be read."""
        if self.username is None:
            return None
        return read_secret("password", self.password_file, self.password_env, self.password_stored)


class WebhookReceiver(_Part):
    """A URL that takes messages as signed JSON."""

    url: Url = Field(repr=False)
    """https://, or http:// to this machine."""
    secret_file: File | None = None
    secret_env: Variable | None = None
    secret_stored: Name | None = None
    """As in `drover secret set NAME`."""
    ca_file: File | None = None
    """Authorities (PEM) that sign the server's certificate; without it those of the system."""

    @property
    def origin(self) -> str:
        """The URL without its path, which may be a secret."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        if [self.secret_stored, self.secret_file, self.secret_env].count(None) != 2:
            remedy = "give one of secret_stored, secret_file and secret_env"
            raise misplaced("what signs its messages is not named once", remedy, ())
        return self

    def secret(self) -> str:
        """What signs messages. Raises DeliveryError if it cannot be read."""
        return read_secret("secret", self.secret_file, self.secret_env, self.secret_stored)


class Receiver(_Part):
    """Where messages go: one of the two."""

    email: EmailReceiver | None = None
    webhook: WebhookReceiver | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.email is None) == (self.webhook is None):
            raise refused("a receiver is one of email and webhook", "give one of them; two receivers are two names")
        return self


class Rule(_Part):
    """Who is told of what."""

    on: Event
    lasting: Wait | None = Field(default=None, alias="for")
    """How long it must last first: link-lost (5m), host-gone (1m), objective-missed (1m)."""
    at: TimeOfDay | None = None
    """When the daily summary is due, in this machine's time zone."""
    to: tuple[Name, ...] = Field(min_length=1)
    """Names of receivers."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.lasting is not None and self.on not in _LASTING:
            raise misplaced(f"{self.on} does not last: it is told at once", "leave `for` out of it", ("for",))
        if (self.at is not None) != (self.on is Event.DAILY_SUMMARY):
            raise misplaced(
                "a daily summary has a time of day, and nothing else has",
                "leave `at` out of it" if self.at else 'add at: "07:00"', ("at",) if self.at else ("on",),
            )  # fmt: skip
        return self

    @property
    def seconds(self) -> float:
        """How long it must last."""
        return parse_duration(self.lasting or _LASTING.get(self.on, "0s"))

    @property
    def name(self) -> str:
        """What tells this rule from others, whatever its place in the file."""
        parameter = self.at or (f"{self.seconds:g}s" if self.on in _LASTING else "")
        return f"{self.on} {parameter}".strip()


class Config(_Part):
    """Who is told of what, and how."""

    version: Annotated[Literal[1], BeforeValidator(_version)]
    receivers: dict[Name, Receiver] = Field(min_length=1)
    rules: tuple[Rule, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        for number, rule in enumerate(self.rules):
            for place, name in enumerate(rule.to):
                if name not in self.receivers:
                    raise misplaced(
                        f"there is no receiver {name!r}", f"they are {', '.join(self.receivers)}",
                        ("rules", number, "to", place),
                    )  # fmt: skip
        return self


_ALERTS = Kind(
    called="configuration of alerts",
    model=Config,
    parts=(Config, Receiver, EmailReceiver, WebhookReceiver, Rule),
    schema="`drover alerts schema` says what it holds",
    shorter="leave out what is not needed",
)


def load(path: Path) -> Config:
    """Raises InputError that names the file, the line, the field, and the way out; never what was typed as a secret."""
    return _ALERTS.load(path)
