"""Serving: TLS, and what is said once at the start."""

import logging
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import uvicorn

from drover.errors import DroverError
from drover.server.app import application
from drover.server.certificates import Files
from drover.server.context import Context
from drover.server.oidc import Oidc, Provider
from drover.store import Vault


def serve(
    folder: Path,
    *,
    host: str,
    port: int,
    files: Files,
    runs_at_once: int,
    on_start: Callable[[str | None, int], None],
    provider: Provider | None = None,
) -> None:
    """Serves until it is stopped. Raises DroverError if it cannot begin.

    `on_start` gets the one-time password of the first administrator, if this is the first start, and the port.
    """
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    context = Context.open(folder)
    Vault(folder).open()
    first = context.accounts.first_start()
    config = uvicorn.Config(
        application(context, runs_at_once=runs_at_once, oidc=Oidc(provider, folder) if provider else None),
        host=host,
        port=port,
        ssl_certfile=files.certificate,
        ssl_keyfile=files.key,
        # As everything else logs.
        log_config=None,
        access_log=False,
        server_header=False,
        # Those that listen to events would never end.
        timeout_graceful_shutdown=3,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise DroverError(
            f"the server's certificate {files.certificate} cannot be used: {error}",
            remedy="give a PEM file and its key",
        ) from error
    assert config.ssl is not None
    config.ssl.minimum_version = ssl.TLSVersion.TLSv1_3
    listening = config.bind_socket()
    # asyncio does it for its own sockets only; without it a body waits 40 ms until its head is acknowledged.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server = _Server(config, lambda: on_start(first, listening.getsockname()[1]))
    server.run(sockets=[listening])
    if not server.started:
        raise DroverError("the server could not begin", remedy="the lines above say why")


def _is_news(record: logging.LogRecord) -> bool:
    """A request that failed is in the log already, with its id."""
    return not str(record.msg).startswith("Exception in ASGI application")


class _Server(uvicorn.Server):
    """Says when requests are answered."""

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_start()
