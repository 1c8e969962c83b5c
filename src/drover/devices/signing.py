"""This installation's signing key: whoever verifies a device's manifest sees by it which Drover loaded the device."""

import contextlib
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from drover import private_file
from drover.errors import DroverError, InputError

FILE = "signing.key"


class Signer:
    """An Ed25519 key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @property
    def public_key(self) -> str:
        """64 hexadecimal digits: what others compare."""
        return self._key.public_key().public_bytes_raw().hex()

    def sign(self, content: bytes) -> str:
        """The signature, in hexadecimal."""
        return self._key.sign(content).hex()

    def __repr__(self) -> str:
        return f"Signer({self.public_key})"


def is_signed(content: bytes, *, public_key: str, signature: str) -> bool:
    """Whether the signature is this key's over the content; both in hexadecimal. What is none is no signature."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(bytes.fromhex(signature), content)
    except (ValueError, InvalidSignature):
        return False
    return True


def own_signer(folder: Path) -> Signer:
    """This installation's key, `signing.key` in the data folder; made if missing. Raises DroverError."""
    path = folder / FILE
    try:
        if not path.exists():
            private_file.make(path, _pem(Ed25519PrivateKey.generate()))
        content = path.read_bytes()
    except OSError as error:
        raise DroverError(
            f"cannot make or read this Drover's signing key {path}: {error.strerror}",
            remedy="check that the folder is writable and has room, or name another one in DROVER_DATA",
        ) from error
    key: object = None
    with contextlib.suppress(ValueError, TypeError, UnsupportedAlgorithm):
        key = serialization.load_pem_private_key(content, password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(
            f"the signing key {path} is damaged",
            remedy="restore it from a copy, or delete it: manifests are then signed with a new one",
        )
    return Signer(key)


def _pem(key: Ed25519PrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
