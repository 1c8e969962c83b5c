"""Passwords: what may be one, and how they are kept: as argon2id hashes."""

import secrets
import threading
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from drover.errors import InputError

MINIMUM_LENGTH = 12
MAXIMUM_LENGTH = 1024
"""Characters."""

_LETTERS = "23456789abcdefghjkmnpqrstuvwxyz"
"""None that looks like another: 31, so that 24 of them are 118 bits."""

_hasher = PasswordHasher()
_slots = threading.BoundedSemaphore(4)
"""One hash takes 64 MiB: many log-ins at once wait, rather than take all memory."""


def check_password(name: str, password: str) -> None:
    """Raises InputError unless the user of this name may have this password."""
    if not MINIMUM_LENGTH <= len(password) <= MAXIMUM_LENGTH:
        raise InputError(
            f"the password has {len(password)} characters",
            remedy=f"take one of at least {MINIMUM_LENGTH} and at most {MAXIMUM_LENGTH}",
        )
    if unicodedata.normalize("NFKC", password).casefold() == name.casefold():
        raise InputError("the password is the user's name", remedy="take another one")


def one_time_password() -> str:
    """A random password that can be read out and typed."""
    return "-".join("".join(secrets.choice(_LETTERS) for _ in range(6)) for _ in range(4))


def hash_password(password: str) -> str:
    with _slots:
        return _hasher.hash(_encode(password))


def verify_password(hashed: str | None, password: str) -> bool:
    """Whether this is the hashed password. Without one (None) takes as long, and it is not."""
    if len(password) > MAXIMUM_LENGTH:
        return False
    try:
        with _slots:
            return _hasher.verify(hashed or _no_hash(), _encode(password)) and hashed is not None
    except (VerificationError, InvalidHashError):
        return False


def needs_rehash(hashed: str) -> bool:
    """Whether it was hashed with other parameters than today's."""
    return _hasher.check_needs_rehash(hashed)


def _no_hash() -> str:
    """A hash that is as slow as any other and of no password."""
    cost = f"m={_hasher.memory_cost},t={_hasher.time_cost},p={_hasher.parallelism}"
    return f"$argon2id$v=19${cost}${'A' * 22}${'A' * 43}"


def _encode(password: str) -> bytes:
    # Keyboards disagree on how to write one letter; a lone surrogate is no reason to fail.
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")
