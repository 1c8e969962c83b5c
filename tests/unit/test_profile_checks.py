"""Checks of a profile's changes against libvirt's own test driver, which has one VM, `test`, and 3 GiB."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from drover.model.migration import Facts, Spec
from drover.platforms.libvirt.inventory import find_domain
from drover.replicator.check import Report, profile
from drover.store import MigrationStore
from tests.unit.test_plan_resolve import vm


@pytest.fixture
def connection() -> Iterator[Any]:
    connection = libvirt.open("test:///default")
    yield connection
    connection.close()


def findings(connection: Any, folder: Path, changes: dict[str, Any], name: str = "web") -> dict[str, tuple[bool, str]]:
    report, store = Report(), MigrationStore(folder)
    spec = Spec.model_validate({"vm": name, "source": "a", "destination": "b", "profile": changes})
    profile.check(report, connection, vm(name), find_domain(connection, "test"), spec, store)
    return {one.subject: (one.passed, f"{one.detail} {one.remedy or ''}") for one in report.findings}


def test_a_free_name_is_free_and_what_becomes_of_it_is_said(connection: Any, tmp_path: Path) -> None:
    assert findings(connection, tmp_path, {})["name"] == (True, "web is free at the destination ")
    passed, said = findings(connection, tmp_path, {"name": "{name}-2"})["name"]
    assert passed and "web becomes web-2" in said


@pytest.mark.parametrize(("name", "changes"), [("test", {}), ("web", {"name": "test"})])
def test_a_name_that_is_taken_there_is_refused(
    connection: Any, tmp_path: Path, name: str, changes: dict[str, Any]
) -> None:
    passed, said = findings(connection, tmp_path, changes, name)["name"]
    assert not passed and "already has a VM test" in said and "another name" in said


def test_a_name_that_another_migration_brings_is_refused(connection: Any, tmp_path: Path) -> None:
    other = Spec.model_validate({"vm": "db", "source": "a", "destination": "b", "profile": {"name": "new"}})
    made = MigrationStore(tmp_path).add(other, Facts())
    passed, said = findings(connection, tmp_path, {"name": "new"})["name"]
    assert not passed and f"{made.id} brings db there as new" in said


def test_a_name_that_makes_no_file_is_refused(connection: Any, tmp_path: Path) -> None:
    passed, said = findings(connection, tmp_path, {"name": "{name}" + 199 * "x"})["name"]
    assert not passed and "202 characters" in said


def test_the_host_must_have_the_memory(connection: Any, tmp_path: Path) -> None:
    assert findings(connection, tmp_path, {"memory": "2GiB"})["memory"][0]
    passed, said = findings(connection, tmp_path, {"memory": "2TiB"})["memory"]
    assert not passed and "3.0 GiB" in said and "less" in said
