"""Cursors: where the next part of a list begins. Opaque to clients."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

from fastapi import Query

from drover.errors import InputError

Limit = Annotated[int, Query(ge=1, le=1000, description="Items in a part")]
Cursor = Annotated[str | None, Query(max_length=200, description="`next` of the part before")]


After = Annotated[str | None, Query(max_length=255, description="`next` of the part before")]
Item = TypeVar("Item")


def part(
    items: Sequence[Item], key: Callable[[Item], str], limit: int, after: str | None
) -> tuple[list[Item], str | None]:
    """A part of a list that is in the order of its keys, and the `after` of the part that follows.

    One whose item was removed meanwhile begins at the next.
    """
    later = [item for item in items if after is None or key(item) > after]
    found = later[:limit]
    return found, key(found[-1]) if len(later) > limit else None


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
