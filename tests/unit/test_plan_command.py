"""`drover plan`: what a plan comes to is shown without changing anything, and its schema says what a plan may hold."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from drover.cli.main import app
from drover.errors import InputError
from drover.model.plan import Plan
from drover.model.vm import Vdisk, Vm
from drover.plans import site
from drover.plans.file import parse

PLAN = """\
version: 1
plan: move
from: a:///
to: b:///
networks: {default: lan}
pools: {"*": fast}
groups:
  - group: database
    vms: ["db*"]
    power_on:
      - {vms: [db1]}
      - {vms: [db2], after: 10s}
  - {group: shop, vms: [web], after: [database], settings: {cutover: restart, bandwidth: 8MiB/s}}
vms: ["legacy[1]"]
exceptions:
  - {vms: [db1], pools: {vda: slow}, formats: {vda: qcow2}}
"""


def vm(name: str) -> Vm:
    disks = [Vdisk(name=disk, size=1, format="raw", path="/x", kind="file", allocated=1) for disk in ("vda", "vdb")]
    return Vm(
        name=name, uuid=f"uuid-{name}", running=True, memory=0, machine="q35", arch="x86_64", virtualisation="kvm",
        vdisks=tuple(disks), networks=("default", "dmz"),
    )  # fmt: skip


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(site, "look", lambda _: [vm(name) for name in ("db1", "db2", "legacy[1]", "web")])
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN)
    return path


def run(*words: str | Path) -> str:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["plan", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_plan_is_validated_and_exported_without_a_site(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN)
    assert run("validate", path, path).splitlines() == [f"{path}: move is a plan"] * 2
    assert json.loads(run("validate", path, "--json")) == {
        "event": "valid", "file": str(path), "plan": "move", "groups": ["database", "shop"]
    }  # fmt: skip
    exported = run("export", path)
    assert parse(exported, "exported") == parse(PLAN, "plan")
    assert json.loads(run("export", path, "--json"))["text"] == exported
    path.write_text(exported)
    assert run("export", path) == exported, "what is canonical stays as it is"
    path.write_text(PLAN.replace("group: database", "grup: database"))
    with pytest.raises(InputError, match="grup"):
        run("validate", path)


def test_hours_limits_and_profiles_are_shown(file: Path) -> None:
    file.write_text(
        PLAN + "timezone: UTC\nwindows: [{days: [sat], from: 22:00, to: 04:00}]\nprofile: {name: '{name}-m', cpus: 2}\n"
        "settings: {bandwidth: {schedule: [{from: 08:00, to: 18:00, limit: 50mbit}]}}\n"
    )
    shown = " ".join(run("show", file).split())
    for words in ("windows sat 22:00–04:00 UTC", "50mbit mon-sun 08:00–18:00 UTC", "profile name {name}-m, cpus 2"):
        assert words in shown
    first = json.loads(run("show", file, "--json"))["batches"][0]["members"][0]["settings"]
    assert first["windows"] == [{"days": ["sat"], "from": "22:00", "to": "04:00", "timezone": "UTC"}]
    assert first["profile"]["cpus"] == 2


def test_where_everything_goes_is_in_the_table(file: Path) -> None:
    lines = [" ".join(line.split()) for line in run("show", file).splitlines()]
    assert lines[0] == "move: from a:/// to b:///, 4 VMs at once"
    assert "database db1 1. default → lan vda → slow as qcow2" in lines
    assert "db2 2. 10.0 s later default → lan vda → fast" in lines
    assert "shop database web default → lan vda → fast cutover restart" in lines
    assert "dmz → dmz vdb → fast bandwidth 8.0 MiB/s" in lines
    assert "legacy[1] default → lan vda → fast" in lines


def test_programs_read_the_same(file: Path) -> None:
    said: dict[str, Any] = json.loads(run("show", file, "--json"))
    assert (said["event"], said["plan"], said["from"], said["to"], said["at_once"]) == (
        "plan",
        "move",
        "a:///",
        "b:///",
        4,
    )
    assert [(batch["name"], batch["group"], batch["after"]) for batch in said["batches"]] == [
        ("database", True, []),
        ("shop", True, ["database"]),
        ("legacy[1]", False, []),
    ]
    db1, db2 = said["batches"][0]["members"]
    assert db1["vdisks"] == [
        {"name": "vda", "pool": "slow", "format": "qcow2"},
        {"name": "vdb", "pool": "fast", "format": None},
    ]
    assert (db2["turn"], db2["delay_seconds"], db2["networks"]) == (1, 10.0, {"default": "lan", "dmz": "dmz"})
    assert [member["settings"] for batch in said["batches"] for member in batch["members"]] == [
        {}, {}, {"cutover": "restart", "bandwidth": 8 << 20}, {},
    ]  # fmt: skip


def test_what_is_said_of_the_order_is_shown(file: Path) -> None:
    file.write_text(
        PLAN.replace("after: [database]", "after: [database], priority: 2").replace(
            "exceptions:", "limits: {per_host: 2}\nexceptions:\n  - {vms: ['legacy[[]1]'], pin: {position: 1}}"
        )
    )
    lines = [" ".join(line.split()) for line in run("show", file).splitlines()]
    assert lines[0] == "move: from a:/// to b:///, 4 VMs at once, 2 per host"
    assert any(line.startswith("priority 2") for line in lines)
    assert any(line.startswith("pinned to position 1 legacy[1]") for line in lines)
    said = json.loads(run("show", file, "--json"))
    assert said["limits"] == {"per_host": 2, "per_pool": None, "per_link": None}
    assert [(batch["priority"], batch["pin"]) for batch in said["batches"]] == [
        (0, None),
        (2, None),
        (0, {"position": 1, "not_before": None}),
    ]


def test_one_group_of_it_can_be_read_and_waits_for_none(file: Path) -> None:
    found = site.read(file, "shop")
    assert [(batch.name, batch.after) for batch in found.batches] == [("shop", ())]
    with pytest.raises(InputError, match="no group 'mail'"):
        site.read(file, "mail")


def test_the_schema_names_what_a_plan_may_hold() -> None:
    said = json.loads(run("schema"))
    assert json.loads(run("schema", "--json")) == said
    assert {"from", "to", "plan", "version"} == set(said["required"])
    assert said["additionalProperties"] is False
    assert set(said["properties"]) == {field.alias or name for name, field in Plan.model_fields.items()}
    settings = said["$defs"]["Settings"]
    assert settings["properties"]["cutover"]["anyOf"][0]["enum"] == ["auto", "manual", "restart", "resume"]
    assert said["$defs"]["Group"]["properties"]["after"]["description"].startswith("Groups that must have finished")
