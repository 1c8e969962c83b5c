"""What opens a site's doors: an SSH key in an agent of its own, user and password in libvirt's own question.

The key is in no file and in no command line. Its agent ends with this process, however that ends.
"""

import atexit
import contextlib
import shlex
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import libvirt

from drover.errors import HostError
from drover.hardening import without_secrets
from drover.model.credentials import Credentials

Lookup = Callable[[str], Credentials | None]
_START = 5.0
_lookup: list[Lookup] = []
_agents: dict[str, "_Agent"] = {}
_lock = threading.Lock()


def ask(lookup: Lookup) -> None:
    """From now on this says which credentials a libvirt URI takes, None for none. Until then there are none."""
    _lookup[:] = [lookup]


def of(uri: str) -> Credentials | None:
    """The credentials for this URI. Raises DroverError if they cannot be opened."""
    return _lookup[0](uri) if _lookup else None


def open_with(uri: str, credentials: Credentials | None) -> libvirt.virConnect:
    """`libvirt.open` with these credentials. Raises libvirt.libvirtError, HostError."""
    if credentials is None:
        return libvirt.open(uri)
    if (agent := _agent_of(credentials)) is not None and "+ssh" in urlsplit(uri).scheme:
        uri = _with_command(uri, agent.command)
    if credentials.password is None:
        return libvirt.open(uri)
    answers = {
        libvirt.VIR_CRED_AUTHNAME: credentials.user,
        libvirt.VIR_CRED_PASSPHRASE: credentials.password.get_secret_value(),
    }

    def answer(questions: list[list[Any]], _: object) -> int:
        for question in questions:
            question[4] = answers[question[0]]
        return 0

    return libvirt.openAuth(uri, [list(answers), answer, None], 0)


def ssh_options(credentials: Credentials | None) -> list[str]:
    """Options of `ssh` that use the key, if there is one. Raises HostError."""
    agent = None if credentials is None else _agent_of(credentials)
    return [] if agent is None else agent.options


class _Agent:
    """An `ssh-agent` with one key."""

    def __init__(self, key: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="drover-key-", dir="/tmp")
        socket = Path(self._folder.name) / "agent"
        self.options = ["-o", f"IdentityAgent={socket}"]
        self.command = Path(self._folder.name) / "ssh"
        """What libvirt runs in the place of ssh: it knows no option for agents."""
        self.command.write_text(f'#!/bin/sh\nexec ssh {shlex.join(self.options)} "$@"\n')
        self.command.chmod(0o700)
        # It ends when the command beneath it does, and that when nobody holds the other end of its stdin.
        self._process = subprocess.Popen(
            ["ssh-agent", "-a", str(socket), "cat"],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            env=without_secrets(),
        )  # fmt: skip
        try:
            self._take(socket, key)
        except BaseException:
            self.close()
            raise

    def _take(self, socket: Path, key: str) -> None:
        deadline = time.monotonic() + _START
        while not socket.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise HostError("ssh-agent does not start", remedy="see that OpenSSH's client works here")
            time.sleep(0.01)
        added = subprocess.run(
            ["ssh-add", "-q", "-"],
            input=key.encode(), capture_output=True, check=False, timeout=30, start_new_session=True,
            env={**without_secrets(), "SSH_AUTH_SOCK": str(socket), "SSH_ASKPASS_REQUIRE": "never"},
        )  # fmt: skip
        if added.returncode != 0:
            raise HostError("ssh-agent does not take the site's key", remedy="give another: `drover site credentials`")

    def close(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._folder.cleanup()


def _agent_of(credentials: Credentials) -> _Agent | None:
    if credentials.ssh_key is None:
        return None
    key = credentials.ssh_key.get_secret_value()
    try:
        with _lock:
            if key not in _agents:
                _agents[key] = _Agent(key)
            return _agents[key]
    except FileNotFoundError as error:
        raise HostError(f"{error.filename} is not installed here", remedy="install OpenSSH's client") from None


@atexit.register
def close() -> None:
    """Ends the agents; whoever needs one afterwards starts it anew."""
    with _lock:
        for agent in _agents.values():
            agent.close()
        _agents.clear()


def _with_command(uri: str, command: Path) -> str:
    parts = urlsplit(uri)
    query = [(name, value) for name, value in parse_qsl(parts.query) if name != "command"]
    return urlunsplit(parts._replace(query=urlencode([*query, ("command", str(command))], quote_via=quote)))
