"""Keys of transport devices: 32 bytes each, kept on the device itself, encrypted with age to whoever may open it.

This installation is always one of the recipients; its identity stays in the data folder and is made at first use.
"""

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyrage

from drover import private_file
from drover.errors import DroverError, InputError

LENGTH = 32
"""Bytes of a device's key."""
_SECRET = "AGE-SECRET-KEY-"
_NO_MATCH = "No matching keys found"


class Identity:
    """An age identity (X25519): opens what was encrypted to its recipient."""

    def __init__(self, secret: str) -> None:
        """Raises InputError if the text is none."""
        try:
            self._identity: Any = pyrage.x25519.Identity.from_str(secret)
        except pyrage.IdentityError as error:
            raise InputError(
                f"this is not an age identity: {error}", remedy=f"one line of the file must begin with {_SECRET}1"
            ) from None

    @property
    def recipient(self) -> str:
        """What others encrypt to: age1…"""
        return str(self._identity.to_public())

    def open(self, sealed: bytes) -> bytes:
        """What was encrypted to this identity. Raises pyrage.DecryptError."""
        return bytes(pyrage.decrypt(sealed, [self._identity]))

    def __repr__(self) -> str:
        return f"Identity({self.recipient})"


def own_identity(folder: Path) -> Identity:
    """This installation's identity, `identity.age-key` in the data folder; made if missing. Raises DroverError."""
    path = folder / "identity.age-key"
    try:
        if not path.exists():
            _make(path)
    except OSError as error:
        raise DroverError(
            f"cannot write this Drover's identity to {path}: {error.strerror}",
            remedy="check that the folder is writable and has room, or name another one in DROVER_DATA",
        ) from error
    return read_identity(path)


def read_identity(path: Path) -> Identity:
    """The first identity in an age identity file. Raises InputError."""
    try:
        lines = path.read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read the identity {path}: {error}", remedy="name a readable age identity file"
        ) from None
    secret = next((line for line in lines if line.startswith(_SECRET)), None)
    if secret is None:
        raise InputError(
            f"{path} has no age identity in it",
            remedy=f"one line of it must begin with {_SECRET}1, as age-keygen writes",
        )
    try:
        return Identity(secret)
    except InputError as error:
        raise InputError(
            f"the identity in {path} is damaged: {error.message}", remedy="restore it from a copy"
        ) from None


def check_recipient(recipient: str) -> str:
    """The recipient as it was given. Raises InputError if it is none."""
    _recipient(recipient)
    return recipient


def new_key() -> bytes:
    """A device's key."""
    return secrets.token_bytes(LENGTH)


def seal(content: bytes, recipients: Sequence[str]) -> bytes:
    """Encrypts a device's key, or anything, for any one of the recipients to open. Raises InputError."""
    return bytes(pyrage.encrypt(content, [_recipient(recipient) for recipient in recipients]))


def unwrap(sealed: bytes, identity: Identity, *, what: str) -> bytes:
    """A device's key out of `key.age`. Raises InputError; `what` names the device in it."""
    try:
        key = identity.open(sealed)
    except pyrage.DecryptError as error:
        if str(error) == _NO_MATCH:
            raise InputError(
                f"{what} was not encrypted to {identity.recipient}, or its key file is damaged",
                remedy="open it where it was made, or with --identity FILE of one of its recipients",
            ) from None
        raise InputError(
            f"the key file of {what} is damaged: {' '.join(str(error).split())}",
            remedy="what it holds cannot be read any more: `drover device forget` has it sent over the network",
        ) from None
    if len(key) != LENGTH:
        raise InputError(
            f"the key file of {what} holds {len(key)} bytes instead of a key", remedy="it was not written by Drover"
        )
    return key


def _recipient(recipient: str) -> Any:
    try:
        return pyrage.x25519.Recipient.from_str(recipient)
    except pyrage.RecipientError as error:
        raise InputError(
            f"{recipient!r} is not an age recipient: {error}", remedy="write it as age1…, as age-keygen shows it"
        ) from None


def _make(path: Path) -> None:
    identity = pyrage.x25519.Identity.generate()
    private_file.make(
        path,
        "# Opens the transport devices of this Drover. Whoever has this file and a device can read the VMs on it.\n"
        f"# public key: {identity.to_public()}\n{identity}\n",
    )
