"""Requests that are sent again, because their answer was lost, are answered again and change nothing again."""

from collections.abc import Callable
from typing import Annotated, TypeVar

from fastapi import Header, Request
from pydantic import BaseModel

from drover.accounts.identity import Identity
from drover.errors import InputError
from drover.server.context import Context
from drover.server.problems import ConflictError

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Sent again with the same key within a day, a request changes nothing again: it gets the answer of "
        "the first time",
    ),
]
Model = TypeVar("Model", bound=BaseModel)


def once(
    stores: Context,
    identity: Identity,
    request: Request,
    key: str | None,
    body: BaseModel | None,
    model: type[Model],
    act: Callable[[], Model],
    *,
    secret: bool = False,
) -> Model:
    """What `act` returns, now or when this key was first used; one that is `secret` is not kept, and not shown again.

    Raises InputError if the key was used for another request, ConflictError while it is answered elsewhere.
    """
    if key is None:
        return act()
    asked = f"{request.method} {request.url.path}?{request.url.query} {body.model_dump_json() if body else ''}"
    before = stores.answers.begin(identity.name, key, asked)
    if before is None:
        try:
            made = act()
        except BaseException:
            stores.answers.give_up(identity.name, key)
            raise
        stores.answers.finish(identity.name, key, None if secret else made.model_dump(mode="json"))
        return made
    same, done, answer = before
    if not same:
        raise InputError(f"the key {key!r} was used for another request", remedy="use a new key for each request")
    if not done:
        raise ConflictError("this request is being answered already", remedy="ask again in a moment")
    if answer is None:
        raise ConflictError(
            "this was done already, and its secret is shown once", remedy="make another with a new key, if it is lost"
        )
    return model.model_validate(answer)
