"""Errors as RFC 9457 problem details: what was being done, what went wrong, what to do next."""

import math
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from drover.accounts.errors import AccessError, LockedError
from drover.errors import CheckError, DroverError, HoldError, InputError, MigrationError, PlatformError
from drover.fence import FencedError
from drover.store.database import DatabaseGoneError


class Problem(BaseModel):
    """RFC 9457, with a way out."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    remedy: str | None = None


class ForbiddenError(DroverError):
    """Whoever asks may not do that."""


class MissingError(DroverError):
    """What the path names is not there, or not for whoever asks."""


class ConflictError(DroverError):
    """Not as things stand."""


class PreconditionError(DroverError):
    """It has changed since it was read."""


class UpstreamError(DroverError):
    """Another server that is needed does not answer as it should."""


_STATUS: dict[type[DroverError], int] = {
    AccessError: 401,
    ForbiddenError: 403,
    MissingError: 404,
    ConflictError: 409,
    PreconditionError: 412,
    LockedError: 429,
    HoldError: 409,
    CheckError: 409,
    MigrationError: 409,
    InputError: 422,
    PlatformError: 502,
    UpstreamError: 502,
    DatabaseGoneError: 503,
    FencedError: 503,
}
MEDIA = "application/problem+json"


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What an operation's OpenAPI says of its errors."""
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {
        status: {"description": HTTPStatus(status).phrase, **({"content": {MEDIA: schema}} if status >= 400 else {})}
        for status in sorted({400, 401, 403, 413, 422, 500, *statuses})
    }


def problem(status: int, detail: str, remedy: str | None = None, headers: dict[str, str] | None = None) -> JSONResponse:
    """The answer that tells it."""
    told = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, remedy=remedy)
    return JSONResponse(told.model_dump(), status, headers, media_type=MEDIA)


def install(app: FastAPI) -> None:
    """Has every error of this application answered so."""
    app.add_exception_handler(DroverError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _plain)
    app.add_exception_handler(Exception, _unknown)


def _known(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, DroverError)
    status = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), 500)
    headers = {}
    if isinstance(error, AccessError):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, LockedError):
        headers["Retry-After"] = str(math.ceil(error.seconds))
    return problem(status, error.message, error.remedy, headers)


def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    told = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:5]]
    remedy = next((str(one["ctx"]["remedy"]) for one in error.errors() if one.get("ctx", {}).get("remedy")), None)
    return problem(422, "; ".join(told), remedy or "/openapi.json says what is taken here")


def _plain(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, str(error.detail), None, dict(error.headers or {}))


def _unknown(_: Request, error: Exception) -> JSONResponse:
    # Its text may hold anything; the log has it.
    return problem(500, f"the server failed: {type(error).__name__}", "see its log")
