"""The server's certificate: given by the administrator, or signed by an authority that is made at first start."""

import datetime
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from drover.authority import Authority
from drover.errors import DroverError, InputError

_AUTHORITY = datetime.timedelta(days=3650)
_LIFETIME = datetime.timedelta(days=365)
_RENEW = datetime.timedelta(days=30)


@dataclass(frozen=True)
class Files:
    """PEM files; `authority` is what clients trust, None with a certificate that was given."""

    certificate: Path
    key: Path
    authority: Path | None


def given(certificate: Path, key: Path) -> Files:
    """The administrator's own. Raises InputError if one cannot be read."""
    for path in (certificate, key):
        try:
            path.read_bytes()
        except OSError as error:
            raise InputError(
                f"cannot read {path}: {error.strerror}", remedy="name a PEM file that this user may read"
            ) from None
    return Files(certificate, key, None)


def own(folder: Path, names: Sequence[str]) -> Files:
    """Ours, in `folder`; made when there is none, and again when it ends soon or lacks a name.

    Raises DroverError if the folder cannot be written.
    """
    files = Files(folder / "server.pem", folder / "server.key", folder / "authority.pem")
    assert files.authority is not None
    authority_key = folder / "authority.key"
    wanted = list(dict.fromkeys([*names, "localhost", "127.0.0.1", "::1", socket.gethostname()]))
    try:
        # The mode is that of the last folder alone.
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.mkdir(exist_ok=True, mode=0o700)
        if not authority_key.exists():
            made = Authority.new(f"Drover authority of {socket.gethostname()}"[:64], _AUTHORITY)
            _write(files.authority, made.certificate)
            _write(authority_key, made.key)
        if not _is_good(files.certificate, wanted):
            authority = Authority.load(files.authority.read_text(), authority_key.read_text())
            certificate, key = authority.issue("Drover server", wanted, _LIFETIME)
            _write(files.key, key)
            _write(files.certificate, certificate)
    except (OSError, ValueError) as error:
        raise DroverError(
            f"the server's certificates in {folder} cannot be used: {error}",
            remedy="repair them, or remove the folder: new ones are made, which clients must be told of",
        ) from error
    return files


def _is_good(path: Path, names: Sequence[str]) -> bool:
    if not path.exists():
        return False
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    known = {str(one.value) for one in alternative}
    lasts = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    return lasts > _RENEW and set(names) <= known


def _write(path: Path, text: str) -> None:
    """Whole or not at all, and for this user only."""
    unfinished = path.with_suffix(".new")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
