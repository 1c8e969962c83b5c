"""Every request has an id, is a line in the log, and is counted with the time that its answer took."""

import re
import secrets
import time

from prometheus_client import Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from drover import logs

HEADER = "X-Request-ID"
_GIVEN = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_ASKED_ALL_THE_TIME = {"/healthz", "/readyz", "/metrics"}
_METHODS = {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}
_ENDLESS = {"/v1/events"}
_log = logs.logger("server")


class Tracing:
    """ASGI middleware, around all others. A client's own `X-Request-ID` is taken over if it is short and plain."""

    def __init__(self, app: ASGIApp, answers: Histogram) -> None:
        self._app = app
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request, began, status = _id(scope), time.monotonic(), 500
        scope.setdefault("state", {})["request"] = request

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", []), (b"x-request-id", request.encode())]}
            await send(message)

        client = scope.get("client")
        with logs.bound(request=request, client=client[0] if client else "unknown"):
            try:
                await self._app(scope, receive, named)
            except Exception:
                _log.exception("the request failed", method=scope["method"], path=scope["path"])
                raise
            finally:
                tell = _log.debug if scope["path"] in _ASKED_ALL_THE_TIME else _log.info
                seconds = time.monotonic() - began
                tell("request", method=scope["method"], path=scope["path"], status=status, seconds=round(seconds, 4))
                # A path that leads nowhere is anybody's invention, and each would be a series of its own.
                route = getattr(scope.get("route"), "path", "none")
                method = scope["method"] if scope["method"] in _METHODS else "other"
                if route not in _ENDLESS:
                    self._answers.labels(method, route, str(status)).observe(seconds)


def _id(scope: Scope) -> str:
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return given.decode() if _GIVEN.fullmatch(given) else secrets.token_hex(8)
