"""`drover login` and `logout`: a token of one's own for the commands from this machine."""

import os
import secrets
import socket
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from drover.cli import options, servers
from drover.cli.browser import session_by_browser
from drover.cli.output import print_json
from drover.cli.remote import Remote, given_authority
from drover.cli.typed import secret_text
from drover.errors import InputError

PASSWORD = "DROVER_PASSWORD"
_LASTS = 30 * 86400.0
Url = Annotated[str, typer.Argument(metavar="URL", help="The server, as in https://drover.example:8443.")]


def login(
    url: Url,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="The user. Default: asked.")] = None,
    password_file: Annotated[
        Path | None,
        typer.Option(
            "--password-file", metavar="FILE", help=f"Where it is, - for stdin. Default: {PASSWORD}, or asked."
        ),
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser", help="Log in at the server's identity provider, with the browser.")
    ] = False,
    authority: Annotated[
        Path | None,
        typer.Option(
            "--authority", metavar="FILE", help="The server's own authority (its data folder's tls/authority.pem)."
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Log in at a management server; a token for 30 days is kept for this user of this machine.

    A one-time password has to be changed here first.
    """
    pem = given_authority()
    if authority is not None:
        try:
            pem = authority.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read {authority}: {error}", remedy="name the server's authority.pem") from None
    anybody, password = Remote(url, None, pem), ""
    if browser:
        session = session_by_browser(anybody)
    else:
        name = name or str(typer.prompt("Name"))
        password = _password(password_file)
        session = anybody.post("/v1/sessions", {"name": name, "password": password})
    remote = Remote(url, session["secret"], pem)
    if session["must_change_password"]:
        new = typer.prompt("This was a one-time password. New password", hide_input=True, confirmation_prompt=True)
        remote.put("/v1/me/password", {"old": password, "new": new})
    label = f"{socket.gethostname()[:40]}-{secrets.token_hex(3)}"
    wanted = {"name": label, "role": session["role"], "scope": session["scope"], "expires_in_seconds": _LASTS}
    token = remote.post("/v1/tokens", wanted)
    remote.delete("/v1/sessions/current")
    servers.keep(servers.Known(url=url, token=token["secret"], authority=pem))
    if json:
        print_json({"event": "logged in", "url": url, "name": session["name"], "role": session["role"]})
        return
    Console(highlight=False).print(
        f"{session['name']} ({session['role']}) is logged in for 30 days; ask it as in `drover --server {url} status`"
    )


def _password(file: Path | None) -> str:
    given = os.environ.get(PASSWORD)
    return given if given is not None and file is None else secret_text("password", file, confirm=False)


def logout(url: Url, json: options.Json = False) -> None:
    """Revoke the token of this machine and forget it."""
    kept = servers.known(url)
    if kept is None:
        raise InputError(f"nobody has logged in at {url} from here", remedy="there is nothing to do")
    remote = Remote(url, kept.token, kept.authority)
    remote.delete("/v1/tokens/current")
    servers.forget(url)
    if json:
        print_json({"event": "logged out", "url": url})
    else:
        Console(highlight=False).print(f"logged out at {url}: its token is revoked and forgotten")
