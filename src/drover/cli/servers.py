"""The management servers that this user has logged in at: address, authority and token, readable by them alone."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from drover.errors import DroverError


@dataclass(frozen=True, kw_only=True)
class Known:
    """A server; `authority` is PEM, None for one that the system's authorities vouch for."""

    url: str
    token: str
    authority: str | None = None

    def __repr__(self) -> str:
        return f"Known({self.url!r})"


def known(url: str) -> Known | None:
    """What is kept of this server. Raises DroverError."""
    return _all().get(_plain(url))


def keep(server: Known) -> None:
    """Replaces what is kept of this server. Raises DroverError."""
    _write({**_all(), _plain(server.url): server})


def forget(url: str) -> None:
    """Raises DroverError."""
    _write({name: server for name, server in _all().items() if name != _plain(url)})


def _plain(url: str) -> str:
    return url.rstrip("/")


def _path() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "drover" / "servers.json"


def _all() -> dict[str, Known]:
    try:
        return {name: Known(**fields) for name, fields in json.loads(_path().read_text()).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DroverError(f"{_path()} cannot be read: {error}", remedy="remove it, and `drover login` again") from None


def _write(servers: dict[str, Known]) -> None:
    path = _path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        unfinished = path.with_suffix(".new")
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump({name: asdict(server) for name, server in servers.items()}, file, indent=1)
        unfinished.rename(path)
    except OSError as error:
        raise DroverError(
            f"{path} cannot be written: {error.strerror}", remedy="make room, or mend its rights"
        ) from None
