"""What a site wants to see before it lets Drover in. Nothing of it is in any text but that of `reveal`."""

import json
from typing import Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from drover.model.settings import refused


class Credentials(BaseModel):
    """An SSH key for `qemu+ssh`, and user and password for SASL (`auth_unix_rw = "sasl"`); either, or both."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    user: str | None = Field(default=None, min_length=1, max_length=255)
    """For SASL; SSH's is in the site's URI."""
    password: SecretStr | None = Field(default=None, min_length=1, max_length=1000)
    ssh_key: SecretStr | None = Field(default=None, min_length=1, max_length=20_000)
    """A private key without a passphrase, as `ssh-keygen` writes it."""

    @field_validator("ssh_key")
    @classmethod
    def _is_a_key(cls, key: SecretStr | None) -> SecretStr | None:
        if key is None:
            return None
        # ssh-add wants the last line ended.
        text = key.get_secret_value().replace("\r\n", "\n").strip() + "\n"
        try:
            load_ssh_private_key(text.encode(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            # The error of the library may hold a part of it.
            raise refused(
                "it is not a private SSH key that opens without a passphrase",
                "give one as `ssh-keygen -t ed25519 -N ''` writes it; it is kept encrypted",
            ) from None
        return SecretStr(text)

    @model_validator(mode="after")
    def _hang_together(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise refused("a user and a password go together", "give both, or neither")
        if self.password is None and self.ssh_key is None:
            raise refused("these are no credentials", "give a user with a password, an SSH key, or all of them")
        return self

    def reveal(self) -> bytes:
        """All of it in plain, to be encrypted."""
        fields = {
            "user": self.user,
            "password": self.password.get_secret_value() if self.password else None,
            "ssh_key": self.ssh_key.get_secret_value() if self.ssh_key else None,
        }
        return json.dumps(fields).encode()

    @classmethod
    def from_plain(cls, plain: bytes) -> Self:
        """What `reveal` returned."""
        return cls.model_validate_json(plain)
