"""The API's document: 3.1, whole, with an example of every body that is as its schema says."""

import json
from typing import Any

import jsonschema_rs
import pytest

from drover.plans.file import parse
from drover.server import examples
from drover.server.openapi import bodies
from tests.server.conftest import Served


@pytest.fixture(scope="module")
def document(served: Served) -> dict[str, Any]:
    answer: Any = served.call("GET", "/openapi.json", who=None)
    made: dict[str, Any] = answer.json()
    return made


def test_it_is_openapi_3_1_and_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    references = {part.split('"')[0] for part in json.dumps(document).split('"$ref": "')[1:]}
    assert len(references) > 40
    for reference in references:
        place: Any = document
        for name in reference.removeprefix("#/").split("/"):
            place = place[name]
    for operations in document["paths"].values():
        for operation in operations.values():
            assert operation["summary"] and operation["description"] and operation["tags"]


def test_every_body_has_an_example_that_is_as_its_schema_says(document: dict[str, Any]) -> None:
    seen = 0
    for method, path, status, media, said in bodies(document):
        where = f"{method.upper()} {path}, {status}, {media}"
        assert "example" in said, f"{where}: add one to drover.server.examples"
        if "json" in media:
            schema = {**said["schema"], "components": document["components"]}
            errors = list(jsonschema_rs.validator_for(schema).iter_errors(said["example"]))
            assert not errors, f"{where}: {errors[0].message}"
        else:
            assert isinstance(said["example"], str), where
        seen += 1
    assert seen > 200


def test_no_example_is_left_over(document: dict[str, Any]) -> None:
    assert not examples.BY_SCHEMA.keys() - document["components"]["schemas"].keys()
    assert not {path for _, path in examples.BY_OPERATION} - document["paths"].keys()
    assert parse(examples.PLAN, "the example").plan == "berlin-to-munich"


def test_lists_come_in_parts_and_changes_take_conditions_or_keys(document: dict[str, Any]) -> None:
    own = {"/v1/sessions", "/v1/plans/{name}", "/v1/me/password", "/v1/sites/{name}/credentials"}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            taken = {one["name"].lower() for one in operation.get("parameters", ())}
            answers = [one for one in operation["responses"] if one < "300"]
            content = operation["responses"][answers[0]].get("content", {}).get("application/json", {})
            schema = document["components"]["schemas"].get(
                content.get("schema", {}).get("$ref", "").rpartition("/")[2], {}
            )
            if "items" in schema.get("properties", {}):
                assert "limit" in taken and taken & {"after", "cursor", "before"}, path
            if method == "post" and path not in own and not path.startswith("/v1/oidc"):
                assert "idempotency-key" in taken, path
            if method in ("put", "patch") and path not in own:
                assert "if-match" in taken, path
