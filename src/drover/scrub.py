"""Texts that are kept or shown, without the secrets that are in them by mistake."""

import math
import re
from typing import Any

SCRUBBED = "***"
_KEY = re.compile(r"passw|passphrase|secret|token|authori[sz]ation|cookie|private.?key|ssh.?key", re.IGNORECASE)
_SECRETS = re.compile(
    r"drover_[st]_[\w-]+"
    r"|AGE-SECRET-KEY-1\w+"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    # What follows the scheme of an Authorization header, and the password in a URL.
    r"|(?<=Bearer )[\w.~+/=-]{8,}|(?<=Basic )[\w+/=]{8,}"
    r"|(?<=://)[^\s/@:]*:[^\s/@]+(?=@)"
)
"""Sessions and API tokens, keys, and what programs put into headers and URLs."""


def is_secret(name: str) -> bool:
    """Whether what has this name is a secret, by the name."""
    return _KEY.search(name) is not None


def scrub(value: Any) -> Any:
    """The same without secrets, and without characters that a database refuses."""
    if isinstance(value, str):
        text = value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
        return _SECRETS.sub(SCRUBBED, text)
    if isinstance(value, dict):
        return {scrub(str(k)): SCRUBBED if is_secret(str(k)) else scrub(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [scrub(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
