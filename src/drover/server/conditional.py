"""ETags: every answer to a GET has one and need not be sent again; changes can be bound to what was read."""

import hashlib
from typing import Annotated

from fastapi import Header
from pydantic import BaseModel
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from drover.server.problems import PreconditionError

IfMatch = Annotated[
    str | None,
    Header(max_length=1000, description="The ETag that was read: refused if it has changed since, or is gone"),
]


def etag(view: BaseModel) -> str:
    """Of what a route shows of something: another one as soon as something of it has changed."""
    return _etag(view.model_dump_json().encode())


def require(if_match: str | None, view: BaseModel | None, what: str) -> None:
    """`view` is what the thing looks like now, None if there is none. Raises PreconditionError."""
    if if_match is None:
        return
    if view is None or not _matches(if_match, etag(view)):
        raise PreconditionError(f"{what} has changed since you read it", remedy="read it again, and decide")


class Conditional:
    """ASGI middleware: gives whole JSON answers an ETag if their route did not, and answers 304 where it is known."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        known = Headers(scope=scope).get("if-none-match")
        start: Message | None = None
        body = b""

        async def whole(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                kind = Headers(raw=message["headers"]).get("content-type", "")
                if message["status"] != 200 or not kind.startswith("application/"):
                    await send(message)
                    return
                start = message
                return
            if start is None:
                await send(message)
                return
            body += message.get("body", b"")
            if not message.get("more_body", False):
                await _answer(start, body, known, send)

        await self._app(scope, receive, whole)


async def _answer(start: Message, body: bytes, known: str | None, send: Send) -> None:
    headers = MutableHeaders(raw=list(start["headers"]))
    headers.setdefault("ETag", _etag(body))
    headers.setdefault("Cache-Control", "no-cache")
    status = start["status"]
    if known is not None and _matches(known, headers["ETag"]):
        status, body = 304, b""
        del headers["content-length"]
        del headers["content-type"]
    await send({**start, "status": status, "headers": headers.raw})
    await send({"type": "http.response.body", "body": body})


def _matches(given: str, etag: str) -> bool:
    """Weak comparison (RFC 9110, 8.8.3.2), of a list or `*`."""
    return given.strip() == "*" or etag in (one.strip().removeprefix("W/") for one in given.split(","))


def _etag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'
