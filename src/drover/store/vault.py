"""Secrets in the database, encrypted: AES-256-GCM with a key that is in a file of its own, for its owner alone.

Whoever has the database alone, or a backup of it, reads none of them; nor can they be moved from what they belong to
to something else. The file is `vault.key` in the data folder, or what `DROVER_VAULT_KEY` names.
"""

import base64
import binascii
import hashlib
import os
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from drover import private_file
from drover.errors import DroverError
from drover.store.database import Database, exclusive, metadata

KEY_FILE = "DROVER_VAULT_KEY"
"""The variable that names the key's file."""
_LENGTH = 32
_NONCE = 12
_HEAD = (
    "# Opens the secrets in this Drover's database: keep a copy apart from the database's, and show it to nobody.\n"
    "# The first key is the one in use.\n"
)
_secrets = sa.Table(
    "secrets",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("about", sa.String, nullable=False),
    sa.Column("key", sa.String, nullable=False),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
    sa.Column("updated_at", sa.Float, nullable=False),
)
"""`about` is what a secret belongs to: it opens for nothing else."""


@dataclass(frozen=True)
class _Key:
    content: bytes = field(repr=False)

    @property
    def id(self) -> str:
        return hashlib.sha256(b"drover vault key\0" + self.content).hexdigest()[:16]


class Vault:
    """The secrets of one data folder. Each change is durable when the call returns."""

    def __init__(self, folder: Path | None = None) -> None:
        self._database = Database(folder)
        given = os.environ.get(KEY_FILE)
        self.key_file = Path(given) if given else self._database.folder / "vault.key"

    def open(self) -> None:
        """Makes the key's file if there is none. Raises DroverError if it is missing, or cannot be used."""
        with self._database.transaction() as db:
            exclusive(db, _secrets)
            self._keys(db)

    def put(self, name: str, secret: bytes, *, about: str = "") -> None:
        """Keeps a secret, in the place of an older one of this name. Raises DroverError."""
        with self._database.transaction() as db:
            exclusive(db, _secrets)
            row = _sealed(self._keys(db)[0], name, about, secret)
            db.execute(_secrets.delete().where(_secrets.c.name == name))
            db.execute(_secrets.insert().values(name=name, about=about, updated_at=time.time(), **row))

    def get(self, name: str, *, about: str = "") -> bytes | None:
        """The secret of this name, None if there is none. Raises DroverError if it cannot be opened."""
        with self._database.transaction() as db:
            row = db.execute(sa.select(_secrets).where(_secrets.c.name == name)).mappings().first()
            return None if row is None else _opened(self._keys(db), row, about)

    def names(self, prefix: str = "") -> dict[str, float]:
        """The names that begin so, and when each secret was given, Unix seconds."""
        query = sa.select(_secrets.c.name, _secrets.c.updated_at).order_by(_secrets.c.name)
        with self._database.transaction() as db:
            rows = db.execute(query.where(_secrets.c.name.startswith(prefix, autoescape=True)))
            return {row.name: row.updated_at for row in rows}

    def remove(self, name: str) -> bool:
        """Forgets a secret; False if there was none of this name."""
        with self._database.transaction() as db:
            return bool(db.execute(_secrets.delete().where(_secrets.c.name == name)).rowcount)

    def rotate(self) -> int:
        """Makes a new key, seals every secret with it, and forgets the old key; how many they are.

        Whenever it dies, every secret can still be opened: the file has both keys until the database has no row of
        the old one. Raises DroverError.
        """
        with self._database.transaction() as db:
            exclusive(db, _secrets)
            old = self._keys(db)
            new = _Key(secrets.token_bytes(_LENGTH))
            self._write([new, *old])
            rows = db.execute(sa.select(_secrets)).mappings().all()
            for row in rows:
                values = _sealed(new, row["name"], row["about"], _opened(old, row, row["about"]))
                db.execute(_secrets.update().where(_secrets.c.name == row["name"]).values(**values))
        with self._database.transaction() as db:
            exclusive(db, _secrets)
            used = set(db.execute(sa.select(_secrets.c.key)).scalars())
            first, *others = self._keys(db)
            self._write([first, *(key for key in others if key.id in used)])
        return len(rows)

    def _keys(self, db: sa.Connection) -> list[_Key]:
        try:
            if not self.key_file.exists():
                if db.execute(sa.select(_secrets.c.name).limit(1)).first() is not None:
                    raise DroverError(
                        f"the key of this Drover's secrets, {self.key_file}, is gone",
                        remedy="restore it from its copy; without it they have to be given again",
                    )
                private_file.make(self.key_file, _text([_Key(secrets.token_bytes(_LENGTH))]))
            return _parsed(self.key_file)
        except OSError as error:
            raise DroverError(
                f"cannot use the key of this Drover's secrets, {self.key_file}: {error.strerror}",
                remedy=f"let this user read and write it, or name another file in {KEY_FILE}",
            ) from None

    def _write(self, keys: list[_Key]) -> None:
        try:
            private_file.replace(self.key_file, _text(keys))
        except OSError as error:
            raise DroverError(
                f"cannot write the key of this Drover's secrets, {self.key_file}: {error.strerror}",
                remedy="make room, or let this user write there: nothing was changed",
            ) from None


def forget(db: sa.Connection, name: str) -> None:
    """Forgets a secret in the same transaction as what it belongs to."""
    db.execute(_secrets.delete().where(_secrets.c.name == name))


def _text(keys: list[_Key]) -> str:
    return _HEAD + "".join(base64.b64encode(key.content).decode() + "\n" for key in keys)


def _parsed(path: Path) -> list[_Key]:
    """Raises DroverError, OSError."""
    if path.stat().st_mode & 0o077:
        raise DroverError(
            f"others may read {path}, the key of this Drover's secrets",
            remedy=f"chmod 600 {path}, and if somebody did read it: `drover secret rotate`, and change the secrets",
        )
    lines = [line for line in path.read_bytes().splitlines() if line and not line.startswith(b"#")]
    try:
        keys = [_Key(base64.b64decode(line, validate=True)) for line in lines]
    except binascii.Error:
        keys = []
    if not keys or any(len(key.content) != _LENGTH for key in keys):
        raise DroverError(
            f"{path} is not a file of keys",
            remedy="restore it from its copy; a line of it is 32 random bytes in base64 (`openssl rand -base64 32`)",
        )
    return keys


def _sealed(key: _Key, name: str, about: str, secret: bytes) -> dict[str, object]:
    nonce = secrets.token_bytes(_NONCE)
    return {"key": key.id, "sealed": nonce + AESGCM(key.content).encrypt(nonce, secret, _bound(name, about))}


def _opened(keys: list[_Key], row: sa.RowMapping, about: str) -> bytes:
    key = next((key for key in keys if key.id == row["key"]), None)
    if key is None:
        raise DroverError(
            f"the secret {row['name']} was encrypted with another key (its id is {row['key']})",
            remedy=f"restore the file of keys, or name it in {KEY_FILE}; else give the secret again",
        )
    sealed = bytes(row["sealed"])
    try:
        return AESGCM(key.content).decrypt(sealed[:_NONCE], sealed[_NONCE:], _bound(row["name"], about))
    except (InvalidTag, ValueError):
        raise DroverError(
            f"the secret {row['name']} is damaged, or belongs to something else", remedy="give it again"
        ) from None


def _bound(name: str, about: str) -> bytes:
    return f"drover vault 1\0{name}\0{about}".encode()
