"""Cursors: where the next part of a list begins. Opaque to clients."""

import base64
import binascii
import json
from typing import Annotated

from fastapi import Query

from drover.errors import InputError

Limit = Annotated[int, Query(ge=1, le=1000, description="Items in a part")]
Cursor = Annotated[str | None, Query(max_length=1000, description="`next` of the part before")]


def cursor_after(created_at: float, identity: str) -> str:
    """The cursor of what comes after this one."""
    return base64.urlsafe_b64encode(json.dumps([created_at, identity]).encode()).decode()


def position(cursor: str | None) -> tuple[float, str] | None:
    """(Unix seconds, id). Raises InputError."""
    if cursor is None:
        return None
    try:
        at, identity = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        return float(at), str(identity)
    except (binascii.Error, ValueError, TypeError):
        raise InputError(f"{cursor!r} is not a cursor", remedy="take `next` of the part before, or none") from None


def cursor_of(*words: str) -> str:
    """The cursor of what comes after these words, in a list that they order."""
    return base64.urlsafe_b64encode(json.dumps(words).encode()).decode()


def words(cursor: str | None, count: int) -> tuple[str, ...] | None:
    """So many. Raises InputError."""
    if cursor is None:
        return None
    try:
        found = json.loads(base64.urlsafe_b64decode(cursor.encode()))
    except (binascii.Error, ValueError):
        found = None
    if isinstance(found, list) and len(found) == count and all(isinstance(word, str) for word in found):
        return tuple(found)
    raise InputError(f"{cursor!r} is not a cursor", remedy="take `next` of the part before, or none")
