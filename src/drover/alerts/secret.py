"""Secrets of receivers: named in the configuration, read when they are needed, in no text that leaves Drover.

They are kept by Drover, encrypted (`drover secret set NAME`), or where other programs of the administrator keep theirs.
"""

import base64
import os
from pathlib import Path

from drover.alerts.message import DeliveryError
from drover.errors import DroverError
from drover.store import Vault

STORED = "alert/"
"""What the names of these secrets begin with in the vault."""
_LARGEST = 4096


def read_secret(what: str, file: Path | None, variable: str | None, stored: str | None) -> str:
    """The secret that is stored, in `file`, or in the environment variable; `what` is what errors call it.

    Raises DeliveryError.
    """
    if stored is not None:
        return _stored(what, stored)
    if file is not None:
        where = f"the {what} file {file}"
        try:
            with file.open("rb") as opened:
                content = opened.read(_LARGEST + 1)
            # An editor ends the line; nothing else is taken off.
            secret = content.decode().removesuffix("\n").removesuffix("\r")
        except OSError as error:
            raise DeliveryError(
                f"cannot read {where}: {error.strerror}", remedy="make it readable for Drover's user"
            ) from None
        except UnicodeDecodeError:
            raise DeliveryError(f"{where} is not UTF-8", remedy=f"write the {what} into it, as text") from None
        if len(content) > _LARGEST:
            raise DeliveryError(f"{where} is larger than {_LARGEST} bytes", remedy=f"write the {what} alone into it")
    else:
        where = f"the environment variable {variable} for the {what}"
        secret = os.environ.get(variable or "", "")
    if not secret or "\n" in secret or "\0" in secret:
        raise DeliveryError(f"{where} is empty, or not one line", remedy=f"put the {what} there, one line")
    return secret


def _stored(what: str, name: str) -> str:
    try:
        secret = Vault().get(STORED + name)
    except DroverError as error:
        raise DeliveryError(error.message, remedy=error.remedy or "see `drover secret list`") from None
    if secret is None:
        # What is named may be the secret itself, so it is not repeated.
        raise DeliveryError(
            f"no secret of the name that is given for the {what} is stored",
            remedy="`drover secret set NAME`; `drover secret list` shows what is there",
        )
    return secret.decode()


def without(text: str, secret: str, *, username: str = "") -> str:
    """`text` without every form in which the secret is sent: some servers repeat what they got."""
    plain = [secret, f"\0{username}\0{secret}"]
    forms = plain + [base64.b64encode(one.encode()).decode() for one in plain]
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "…")
    return text
