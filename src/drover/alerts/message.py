"""What is sent to a receiver, and what is raised when that fails."""

import secrets
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from drover.errors import DroverError

_LONGEST = 300


class MessageKind(StrEnum):
    RAISED = "raised"
    RECOVERED = "recovered"
    SUMMARY = "summary"
    TEST = "test"


@dataclass(frozen=True, kw_only=True)
class Message:
    """One message to one receiver; the same at each attempt to deliver it. Times are Unix seconds."""

    id: str
    """Stays the same at each attempt, so that a receiver can tell a repetition."""
    receiver: str
    rule: str
    kind: MessageKind
    title: str
    text: str
    remedy: str | None = None
    severity: str = "info"
    key: str | None = None
    """Of the condition that it tells of."""
    since: float | None = None
    created_at: float
    after: str | None = None
    """The id of the message that this one ends: it is sent later than that one."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What the other side answered to a message that it took, and who of several recipients did not get it."""

    answer: str
    refused: str | None = None


class DeliveryError(DroverError):
    """A message was not delivered. `final` is not tried again; `retry_after` is seconds that the receiver asks for."""

    def __init__(self, message: str, *, remedy: str, final: bool = False, retry_after: float | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.final = final
        self.retry_after = retry_after


def new_id() -> str:
    return secrets.token_hex(16)


def one_line(text: str) -> str:
    """`text` without line breaks and control characters, of bounded length: for headers, terminals, the database."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return plain if len(plain) <= _LONGEST else plain[: _LONGEST - 1] + "…"
