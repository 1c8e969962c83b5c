"""Logging in by an identity provider: the browser goes there, and comes back to a port of this machine."""

import base64
import hashlib
import secrets
import webbrowser
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import typer

from drover.cli.remote import Remote
from drover.errors import DroverError

_PATIENCE = 300.0
"""Seconds that somebody may take to log in."""


class _Waiting(HTTPServer):
    timeout = _PATIENCE
    code: str | None = None


class _Handler(BaseHTTPRequestHandler):
    server: _Waiting

    def do_GET(self) -> None:
        self.server.code = next(iter(parse_qs(urlsplit(self.path).query).get("oidc_code", ())), None)
        content = (
            b"You are logged in, and may close this window.\n" if self.server.code else b"Nothing came with this.\n"
        )
        self.send_response(200 if self.server.code else 400)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """The address holds a code."""


def session_by_browser(remote: Remote) -> Any:
    """A session, as `POST /v1/sessions` gives it. Raises DroverError if nobody logs in."""
    verifier = secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    with _Waiting(("127.0.0.1", 0), _Handler) as waiting:
        query = urlencode({"challenge": challenge, "port": waiting.server_port})
        url = f"{remote.url}/v1/oidc/login?{query}"
        typer.echo(f"Log in with your browser: {url}", err=True)
        webbrowser.open(url)
        waiting.handle_request()
        code = waiting.code
    if code is None:
        raise DroverError("nobody logged in with the browser", remedy="try again, and follow the address above")
    return remote.post("/v1/oidc/session", {"code": code, "verifier": verifier})
