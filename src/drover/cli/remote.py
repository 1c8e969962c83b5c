"""The commands against a management server: the same verbs, asked of its REST API."""

import os
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx2
import typer

from drover.cli import servers
from drover.errors import CheckError, DroverError, InputError, MigrationError

SERVER, TOKEN, AUTHORITY = "DROVER_SERVER", "DROVER_TOKEN", "DROVER_AUTHORITY"
_KINDS: dict[int, type[DroverError]] = {404: InputError, 409: MigrationError, 412: CheckError, 422: InputError}
_TIMEOUT = 60.0


class Remote:
    """A server, as somebody's session or token; what it refuses is raised as the DroverError that it tells."""

    def __init__(self, url: str, secret: str | None, authority: str | None) -> None:
        self.url = url.rstrip("/")
        if not self.url.startswith("https://"):
            raise InputError(f"{url!r} is not a server's address", remedy="write it as https://HOST:8443")
        try:
            verify = ssl.create_default_context(cadata=authority)
        except (ssl.SSLError, ValueError) as error:
            raise InputError(
                f"the authority of {url} is not PEM: {error}", remedy="give the server's authority.pem"
            ) from None
        headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        self._client = httpx2.Client(base_url=self.url, verify=verify, headers=headers, timeout=_TIMEOUT)

    @classmethod
    def of(cls, url: str) -> Self:
        """With `DROVER_TOKEN`, or the token of an earlier `drover login`. Raises InputError if there is none."""
        kept = servers.known(url)
        token = os.environ.get(TOKEN) or (kept.token if kept else None)
        if token is None:
            raise InputError(
                f"nobody has logged in at {url} from here", remedy=f"`drover login {url}`, or give a token in {TOKEN}"
            )
        return cls(url, token, given_authority() or (kept.authority if kept else None))

    def get(self, path: str, **parameters: Any) -> Any:
        given = {name: value for name, value in parameters.items() if value is not None}
        # An empty dictionary would take the query out of the path.
        return self._ask("GET", path, params=given or None)

    def post(self, path: str, body: Any = None, *, key: str | None = None) -> Any:
        return self._ask("POST", path, json=body, headers={} if key is None else {"Idempotency-Key": key})

    def put(self, path: str, body: Any = None, *, text: str | None = None, etag: str | None = None) -> Any:
        headers = {} if etag is None else {"If-Match": etag}
        return self._ask(
            "PUT", path, headers=headers, **({"json": body} if text is None else {"content": text.encode()})
        )

    def delete(self, path: str) -> None:
        self._ask("DELETE", path)

    def _ask(self, method: str, path: str, **given: Any) -> Any:
        try:
            answer = self._client.request(method, path, **given)
        except httpx2.HTTPError as error:
            raise DroverError(
                f"cannot ask {self.url}: {error}",
                remedy="see that it runs, that its certificate has this name, and that its authority is the one given",
            ) from error
        if answer.is_success:
            return answer.json() if answer.content else None
        raise _refusal(answer)


def _refusal(answer: httpx2.Response) -> DroverError:
    try:
        told: Mapping[str, Any] = answer.json()
        detail, remedy = str(told["detail"]), told.get("remedy")
    except (ValueError, KeyError, TypeError):
        detail, remedy = f"the server answered {answer.status_code} {answer.reason_phrase}", None
    return _KINDS.get(answer.status_code, DroverError)(detail, remedy=remedy)


def given_authority() -> str | None:
    """The PEM of the file that `DROVER_AUTHORITY` names. Raises InputError."""
    if not (path := os.environ.get(AUTHORITY)):
        return None
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read {path}: {error}", remedy=f"name the server's authority.pem in {AUTHORITY}"
        ) from None


def connected() -> Remote | None:
    """The server that `--server` or `DROVER_SERVER` names; None if this Drover works alone."""
    url = os.environ.get(SERVER)
    return Remote.of(url) if url else None


def no_devices(paths: Sequence[str]) -> None:
    """Raises InputError if there are some: a server does not see what is plugged in here."""
    if paths:
        raise InputError(
            "a server knows nothing of devices at this machine",
            remedy="run this without --server at the source's host, or leave --device out",
        )


def alone(context: typer.Context) -> None:
    """Refuses verbs that no server is asked for. Raises InputError."""
    if context.invoked_subcommand is not None and context.invoked_subcommand not in _ASKED:
        not_at_a_server(context.invoked_subcommand)


def not_at_a_server(verb: str) -> None:
    """Raises InputError if a server is named."""
    if os.environ.get(SERVER):
        raise InputError(
            f"`drover {verb}` works on this machine, and {SERVER} or --server names another",
            remedy=f"run it without; a server is asked for {', '.join(sorted(_ASKED))}",
        )


_ASKED = {"login", "logout", "status", "migrate", "plan", "pause", "resume", "cancel", "approve", "site", "report"}
