"""The API's document, OpenAPI 3.1: what FastAPI knows of the routes, the schema of errors, and examples."""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from drover.server import examples
from drover.server.problems import MEDIA, Problem


def install(app: FastAPI) -> None:
    """Has the application answer `/openapi.json` with it."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _made(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def bodies(document: dict[str, Any]) -> Iterator[tuple[str, str, str, str, dict[str, Any]]]:
    """(method, path, `request` or status, media type, what the document says of it), of every body."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for media, said in operation.get("requestBody", {}).get("content", {}).items():
                yield method, path, "request", media, said
            for status, answer in operation["responses"].items():
                for media, said in answer.get("content", {}).items():
                    yield method, path, status, media, said


def _made(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, servers=app.servers,
        openapi_version="3.1.0",
    )  # fmt: skip
    document["components"]["schemas"]["Problem"] = Problem.model_json_schema()
    for method, path, status, media, said in bodies(document):
        example = _example(method, path, status, media, said)
        if example is not None:
            said["example"] = example
    return document


def _example(method: str, path: str, status: str, media: str, said: dict[str, Any]) -> Any:
    if media == MEDIA:
        detail, remedy = examples.PROBLEMS[int(status)]
        title = HTTPStatus(int(status)).phrase
        return Problem(title=title, status=int(status), detail=detail, remedy=remedy).model_dump()
    if media in examples.BY_MEDIA:
        return examples.BY_MEDIA[media]
    if (method, path) in examples.BY_OPERATION and status != "request":
        return examples.BY_OPERATION[method, path]
    named = _named(said.get("schema", {}))
    return next((examples.BY_SCHEMA[name] for name in named if name in examples.BY_SCHEMA), None)


def _named(schema: dict[str, Any]) -> Iterator[str]:
    """The schemas that a body may be of."""
    for one in (schema, *schema.get("anyOf", ())):
        if "$ref" in one:
            yield one["$ref"].rpartition("/")[2]
