"""The two sites are hosts of their own, and their VMs are real."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import libvirt_qemu
import pytest

from drover.errors import CheckError, HostError, InputError, PlatformError
from drover.lab import Lab

from .conftest import SMALL, run_at


def test_up_again_does_nothing(lab: Lab) -> None:
    assert lab.up() == []


def test_sites_share_nothing_but_the_machine(lab: Lab) -> None:
    alpha, beta = lab.sites
    assert run_at(lab, "alpha", "hostname").stdout.strip() == "alpha"
    with alpha.connection() as one, beta.connection() as two:
        for connection in (one, two):
            assert {pool.name() for pool in connection.listAllStoragePools()} == {"raw", "qcow2"}
        assert {network.name() for network in one.listAllNetworks()} == {"alpha-net"}
        assert {network.name() for network in two.listAllNetworks()} == {"beta-net"}
        assert [domain.name() for domain in one.listAllDomains()] == ["cow"]
        assert two.listAllDomains() == []
    assert alpha.pool("raw") != beta.pool("raw")
    assert "alpha-net-br" not in run_at(lab, "beta", "ip", "link").stdout


def test_guest_boots_and_writes(lab: Lab) -> None:
    first = int(lab.wait_console("alpha", "cow", r"WITNESS WROTE (\d+)").group(1))
    deadline = time.monotonic() + 20
    while f"WITNESS WROTE {first}" in str(lab.site("alpha").witness("cow")):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_vdisks_are_of_the_chosen_formats_and_partly_allocated(lab: Lab) -> None:
    with lab.site("alpha").connection() as connection:
        domain = connection.lookupByName("cow")
        drivers = ElementTree.fromstring(domain.XMLDesc()).iterfind("./devices/disk/driver")
        assert [driver.get("type") for driver in drivers] == ["raw", "qcow2"]
        for target in ("vda", "vdb"):
            capacity, allocation, _physical = domain.blockInfo(target)
            assert capacity == SMALL // 2
            assert 0 < allocation < capacity


def test_monitor_commands_pass_through_libvirt_at_both_sites(lab: Lab) -> None:
    lab.add_vm("calf", site="beta", formats=("qcow2", "raw"), size=SMALL, pattern="idle")
    for site, name in (("alpha", "cow"), ("beta", "calf")):
        with lab.site(site).connection() as connection:
            domain = connection.lookupByName(name)
            answer = json.loads(libvirt_qemu.qemuMonitorCommand(domain, '{"execute": "query-status"}', 0))
            assert answer["return"]["running"] is True
    lab.site("beta").remove("calf")
    assert list(lab.site("beta").pool("raw").iterdir()) == []
    assert lab.site("beta").console("calf") == ""


def test_power_button_ends_the_guest_in_good_order_and_its_log_goes_on(lab: Lab) -> None:
    before = lab.console("alpha", "cow")
    with lab.site("alpha").connection() as connection:
        connection.lookupByName("cow").shutdown()
    lab.wait_console("alpha", "cow", "GUEST unmounted")
    deadline = time.monotonic() + 10
    while lab.site("alpha").state("cow") != "off":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    lab.site("alpha").start("cow")
    said = len(before)
    lab.site("alpha").wait_console("cow", r"GUEST up after", after=said)
    lab.site("alpha").wait_console("cow", r"WITNESS WROTE", after=said)
    assert lab.console("alpha", "cow").startswith(before)


def test_saved_guest_goes_on_at_the_other_site(lab: Lab) -> None:
    alpha, beta = lab.sites
    lab.add_vm("ox", size=SMALL, formats=("raw", "raw"))
    lab.wait_console("alpha", "ox", r"WITNESS WROTE (\d+)")
    image = lab.folder / "ox.saved"
    with alpha.connection() as source, beta.connection() as destination:
        source.lookupByName("ox").save(str(image))
        for path in alpha.pool("raw").glob("ox-*"):
            (beta.pool("raw") / path.name).write_bytes(path.read_bytes())
        written = re.findall(r"WITNESS WROTE (\d+)", lab.console("alpha", "ox"))
        there = source.saveImageGetXMLDesc(str(image)).replace(str(alpha.folder), str(beta.folder))
        destination.restoreFlags(str(image), there.replace("alpha-net", "beta-net"))
    number = int(lab.wait_console("beta", "ox", r"^WITNESS WROTE (\d+)").group(1))
    assert number > int(written[-1])
    assert "GUEST up" not in lab.console("beta", "ox")
    image.unlink()
    beta.remove("ox")
    alpha.remove("ox")


def test_io_tuning_slows_the_guest(lab: Lab) -> None:
    with lab.site("alpha").connection() as connection:
        domain = connection.lookupByName("cow")
        domain.setBlockIoTune("vdb", {"write_iops_sec": 2})
        time.sleep(2)
        before = domain.blockStats("vdb")[2]
        time.sleep(3)
        assert domain.blockStats("vdb")[2] - before < 20
        domain.setBlockIoTune("vdb", {"write_iops_sec": 0})


def test_small_pool_fills_up_and_comes_back_with_the_site(lab: Lab) -> None:
    path = lab.small_pool("beta", "tiny", 16 << 20)
    filled = run_at(lab, "beta", "dd", "if=/dev/zero", f"of={path}/full", "bs=1M", "count=32")
    assert "No space left" in filled.stderr
    lab.site("beta").down()
    lab.up()
    assert "full" in run_at(lab, "beta", "ls", str(path)).stdout
    with lab.site("beta").connection() as connection:
        assert connection.storagePoolLookupByName("tiny").info()[1] < 17 << 20


def test_what_cannot_be_is_refused_before_anything_is_made(lab: Lab) -> None:
    with pytest.raises(InputError, match="already"):
        lab.add_vm("cow")
    with pytest.raises(InputError, match="formats"):
        lab.add_vm("bull", formats=("raw",))
    with pytest.raises(InputError, match="pattern"):
        lab.add_vm("bull", pattern="nonsense")
    with pytest.raises(InputError, match="32MiB"):
        lab.add_vm("bull", size=1 << 20)
    with pytest.raises(InputError, match="no site"):
        lab.site("gamma")
    with pytest.raises(CheckError, match="runs at no site"):
        lab.check_vm("bull")
    with pytest.raises(HostError, match="cow"):
        lab.site("alpha").wait_console("cow", "never said", timeout=0.3)
    assert lab.site("alpha").state("bull") is None


def test_folder_too_deep_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too deep"):
        Lab(tmp_path / ("x" * 100))


@pytest.mark.parametrize("path", ["/run/lab", "/var/lib/libvirt/lab"])
def test_folder_that_a_site_would_hide_is_refused(path: str) -> None:
    with pytest.raises(InputError, match="of its own"):
        Lab(path)


def test_vm_that_cannot_be_made_leaves_no_volume(lab: Lab) -> None:
    with lab.site("alpha").connection() as connection:
        connection.storagePoolLookupByName("qcow2").destroy()
    with pytest.raises(PlatformError, match="not active"):
        lab.add_vm("bull", size=SMALL)
    assert list(lab.site("alpha").pool("raw").glob("bull*")) == []
    assert lab.up() == ["alpha: pool qcow2 started"]


def test_vm_whose_making_was_killed_is_made_anew(lab: Lab) -> None:
    making = f"from drover.lab import Lab; Lab({str(lab.folder)!r}).add_vm('bull', size={4 * SMALL})"
    child = subprocess.Popen([sys.executable, "-c", making])
    half = lab.site("alpha").pool("raw") / "bull-system.img"
    while not half.exists():
        assert child.poll() is None
        time.sleep(0.01)
    child.kill()
    child.wait()
    lab.add_vm("bull", size=SMALL, start=False)
    lab.site("alpha").remove("bull")
    half.write_bytes(b"somebody's own")
    with pytest.raises(InputError, match="already"):
        lab.add_vm("bull", size=SMALL)
    assert half.read_bytes() == b"somebody's own"
    half.unlink()


def test_site_that_is_down_says_so(folder: Path) -> None:
    lab = Lab(folder)
    with pytest.raises(PlatformError, match="drover lab up"):
        lab.site("alpha").vms()
    with pytest.raises(HostError, match="not up"):
        _ = lab.site("beta").pid
