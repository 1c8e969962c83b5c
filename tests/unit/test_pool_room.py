"""Room in destination pools: what one VM needs is in its report, and all of them together are weighed against it."""

from typing import Any

import pytest

from drover.model.migration import Spec
from drover.model.vm import Vdisk, Vm
from drover.platforms.libvirt.storage import Pool
from drover.replicator.check import Report, destination
from drover.replicator.check.pools import room_for_all
from drover.replicator.check.report import PoolRoom

GIB = 1 << 30


def test_what_a_vm_needs_of_each_pool_is_in_its_report(monkeypatch: pytest.MonkeyPatch) -> None:
    free = {"fast": 5 * GIB, "slow": 3 * GIB}
    monkeypatch.setattr(
        destination,
        "find_pool",
        lambda _, name: Pool(name=name, kind="dir", capacity=9 * GIB, available=free[name], format="raw"),
    )
    monkeypatch.setattr(destination, "volume_path", lambda *_: None)
    sizes = {"vda": 1 * GIB, "vdb": 2 * GIB, "vdc": 4 * GIB}
    vdisks = [
        Vdisk(name=name, size=size, format="raw", path="/x", kind="file", allocated=size)
        for name, size in sizes.items()
    ]
    vm = Vm(
        name="web", uuid="u", running=True, memory=0, machine="q35", arch="x86_64", virtualisation="kvm",
        vdisks=tuple(vdisks), networks=(),
    )  # fmt: skip
    report, connection = Report(), Any
    spec = Spec(vm="web", source="a", destination="b", pools={"": "fast", "vdc": "slow"})
    destination._storage(report, connection, vm, spec)
    assert report.pools == {
        "fast": PoolRoom(needed=3 * GIB, free=5 * GIB),
        "slow": PoolRoom(needed=4 * GIB, free=3 * GIB),
    }
    assert [(finding.subject, finding.passed) for finding in report.findings] == [
        ("pool fast", True),
        ("pool slow", False),
    ]


def test_the_needs_of_all_are_summed_against_what_is_left_at_the_least() -> None:
    reports = {
        "web": Report(pools={"fast": PoolRoom(needed=2 * GIB, free=5 * GIB)}),
        "db": Report(
            pools={"fast": PoolRoom(needed=2 * GIB, free=4 * GIB), "slow": PoolRoom(needed=3 * GIB, free=5 * GIB)}
        ),
        "mail": Report(pools={"slow": PoolRoom(needed=3 * GIB, free=5 * GIB)}),
    }
    found = room_for_all(reports)
    assert found.pools == {
        "fast": PoolRoom(needed=4 * GIB, free=4 * GIB),
        "slow": PoolRoom(needed=6 * GIB, free=5 * GIB),
    }
    assert not found.passed
    (bad,) = [finding for finding in found.findings if not finding.passed]
    assert bad.subject == "pool slow" and "db, mail together take 6.0 GiB" in bad.detail and bad.remedy
