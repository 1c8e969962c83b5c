"""Every request that may change something is in the audit log, with its outcome; large ones are refused."""

from http import HTTPStatus

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from drover.accounts.audit import Audit
from drover.server.problems import problem

LARGEST = 2 << 20
"""Bytes of a request's body."""
_READING = {"GET", "HEAD", "OPTIONS"}


class Auditing:
    """ASGI middleware. The entry is written before the answer is sent: what was told has been noted."""

    def __init__(self, app: ASGIApp, audit: Audit) -> None:
        self._app = app
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in _READING:
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message if received <= LARGEST else {"type": "http.disconnect"}

        async def noted(message: Message) -> None:
            if received > LARGEST:
                # What the application makes of half a body.
                return
            if message["type"] == "http.response.start":
                await run_in_threadpool(self._note, scope, message["status"])
            await send(message)

        await self._app(scope, limited, noted)
        if received > LARGEST:
            answer = problem(413, f"the request is larger than {LARGEST >> 20} MiB", "send less at once")
            await run_in_threadpool(self._note, scope, answer.status_code)
            await answer(scope, receive, send)

    def _note(self, scope: Scope, status: int) -> None:
        client = scope.get("client")
        self._audit.record(
            scope["state"].get("who", "nobody"),
            f"{scope['method']} {getattr(scope.get('route'), 'path', scope['path'])}",
            scope["path"],
            source=client[0] if client else "unknown",
            outcome="done" if status < 400 else f"refused: {status} {HTTPStatus(status).phrase}",
        )
