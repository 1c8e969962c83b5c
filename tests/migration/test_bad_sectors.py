"""A source VDISK with a bad sector: the migration pauses and names it, or with leave sends zeros and lists them."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt_qemu

from drover.lab import Lab
from tests.migration.drover import run
from tests.migration.world import Vm

_SECTOR = 512


def _qmp(domain: Any, command: str, **arguments: object) -> Any:
    words = json.dumps({"execute": command, "arguments": arguments})
    answer = json.loads(libvirt_qemu.qemuMonitorCommand(domain, words, 0))
    assert "error" not in answer, (command, answer)
    return answer["return"]


def _written_sector(path: Path) -> int:
    """Offset of a sector in the last quarter that is not zero; the witness never reads there."""
    offset = path.stat().st_size * 3 // 4
    with path.open("rb") as image:
        image.seek(offset)
        while not any(image.read(_SECTOR)):
            offset += _SECTOR
    return offset


def _damage(lab: Lab, vm: Vm) -> int:
    """Puts QEMU's `blkdebug` below the running VM's records VDISK, so that one sector cannot be read; its offset."""
    with lab.site("alpha").connection() as connection:
        domain = connection.lookupByName(vm.name)
        found = [
            device["inserted"]
            for device in _qmp(domain, "query-block")
            if device.get("inserted") and "records" in device["inserted"]["file"]
        ]
        nodes = {node["node-name"]: node for node in _qmp(domain, "query-named-block-nodes")}
        image = found[0]["node-name"]
        path = Path(nodes[image]["file"])
        storage = next(name for name, node in nodes.items() if node["drv"] == "file" and node["file"] == str(path))
        offset = _written_sector(path)
        rule = {"event": "read_aio", "iotype": "read", "errno": 5, "sector": offset // _SECTOR}
        _qmp(domain, "blockdev-add", **{
            "driver": "blkdebug", "node-name": "damaged", "image": storage, "inject-error": [rule],
        })  # fmt: skip
        _qmp(domain, "blockdev-reopen", options=[{"driver": "raw", "node-name": image, "file": "damaged"}])
    return offset


def test_a_bad_sector_pauses_or_arrives_as_zeros_and_is_certified(make_vm: Callable[..., Vm], lab: Lab) -> None:
    vm = make_vm(pattern="random", formats=("qcow2", "raw"))
    offset = _damage(lab, vm)
    process = vm.migrate()
    error = process.fail()
    assert "read_error" in error["error"] and f"offset {offset}" in error["error"]
    assert "--on-read-error zero" in error["remedy"]
    assert vm.state("alpha") == "running"

    migration = next(event["migration"] for event in process.events if "migration" in event)
    again = vm.resume(migration, "--on-read-error", "zero", "--max-downtime", "60s")
    finished = again.finish()
    vm.assert_witness()
    listed = {"bytes": _SECTOR, "places": 1, "first": [{"offset": offset, "length": _SECTOR}]}
    certificate = json.loads(Path(finished["certificate"]).read_text())
    zeros = {vdisk["name"]: vdisk["zeros_for_unreadable"] for vdisk in certificate["vdisks"]}
    assert zeros == {"vda": {"bytes": 0, "places": 0, "first": []}, "vdb": listed}
    told = run(vm.data, "status", migration).stdout
    assert f"{_SECTOR} bytes at {offset}" in told
    assert any(event.get("unreadable") == _SECTOR for event in again.events)

    vdisk = next(part for part in process.events[0]["vdisks"] if part["name"] == "vdb")
    with Path(vdisk["source_path"]).open("rb") as source:
        source.seek(offset)
        assert any(source.read(_SECTOR))
    copy = lab.site("beta").folder / "pools" / vdisk["pool"] / vdisk["volume"]
    read = ["qemu-io", "-r", "-U", "-f", vdisk["format"], "-c", f"read -P 0 {offset} {_SECTOR}", str(copy)]
    there = subprocess.run(read, capture_output=True, text=True, check=True)
    assert "verification failed" not in there.stdout, there.stdout
