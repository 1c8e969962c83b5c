"""By road: VMs that keep writing while their bulk is carried on real file systems from site to site."""

import contextlib
import json
import mmap
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drover.lab import Lab
from drover.store import MigrationStore
from tests.migration.drover import Drover, run
from tests.migration.test_groups import TOGETHER, plan_of, started
from tests.migration.test_interruptions import kill_engine
from tests.migration.world import Vm


class Disk:
    """A disk image with a file system of its own, mounted at one site at a time."""

    def __init__(self, lab: Lab, folder: Path, name: str, size: int, kind: str) -> None:
        self.lab, self.kind = lab, kind
        self.image, self.path = folder / f"{name}.disk", folder / name
        self.path.mkdir()
        with self.image.open("wb") as image:
            image.truncate(size)
        make = {"exfat": ["mkfs.exfat"], "ext4": ["mkfs.ext4", "-q", "-F", "-m", "0"]}[kind]
        subprocess.run([*make, self.image], check=True, capture_output=True)
        attached = subprocess.run(
            ["losetup", "--find", "--show", self.image], check=True, capture_output=True, text=True
        )
        self.device = attached.stdout.strip()
        self.site: str | None = None

    def mount(self, site: str) -> None:
        # exFAT through FUSE: not every kernel has it.
        how = "mount.exfat-fuse" if self.kind == "exfat" else "mount"
        self._run(site, how, self.device, str(self.path))
        self.site = site

    def at(self, site: str) -> Path:
        """Its folder as that site sees it."""
        return Path(f"/proc/{self.lab.site(site).pid}/root{self.path}")

    def unmount(self, *, pull: bool = False) -> None:
        if self.site is not None:
            self._run(self.site, "umount", *(["-l"] if pull else []), str(self.path))
            self.site = None

    @property
    def server(self) -> int:
        """The process that serves an exFAT file system."""
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (process / "cmdline").read_bytes().split(b"\0")
                if words[0].endswith(b"mount.exfat-fuse") and self.device.encode() in words:
                    return int(process.name)
        raise AssertionError(f"nobody serves {self.device}")

    def pull(self) -> None:
        """Every access to the file system fails from now on, as when a stick is pulled out."""
        os.kill(self.server, signal.SIGKILL)
        self.unmount(pull=True)

    @contextlib.contextmanager
    def slow(self) -> Iterator[None]:
        """The file system rests most of the time, so that a test can act while it is read."""
        server, over = self.server, threading.Event()

        def rest() -> None:
            while not over.wait(0.001):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(server, signal.SIGSTOP)
                    over.wait(0.3)
                    os.kill(server, signal.SIGCONT)

        resting = threading.Thread(target=rest)
        resting.start()
        try:
            yield
        finally:
            over.set()
            resting.join()

    def discard(self) -> None:
        self.unmount(pull=True)
        subprocess.run(["losetup", "--detach", self.device], check=True)

    def carry(self, site: str) -> None:
        """Unmounted here, mounted there."""
        self.unmount()
        self.mount(site)

    def _run(self, site: str, *command: str) -> None:
        done = subprocess.run(self.lab.site(site).enter(*command), capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stdout, done.stderr)


@pytest.fixture
def make_disk(lab: Lab, tmp_path: Path) -> Iterator[Callable[..., Disk]]:
    made: list[Disk] = []

    def make(name: str, size: int = 256 << 20, kind: str = "ext4") -> Disk:
        disk = Disk(lab, tmp_path, name, size, kind)
        made.append(disk)
        disk.mount("alpha")
        done = run(tmp_path, "device", "init", str(disk.path), "--host", lab.site("alpha").uri)
        assert done.returncode == 0, done.stderr
        return disk

    yield make
    for disk in made:
        disk.discard()


def by_road(vm: Vm, *disks: Disk, options: tuple[str, ...] = ()) -> Drover:
    devices = [word for disk in disks for word in ("--device", str(disk.path))]
    return vm.migrate("--cutover", "resume", *devices, *options)


def wait_loaded(process: Drover, disks: int = 1) -> None:
    for _ in range(disks):
        process.wait_for(lambda event: "and carry it" in event.get("text", ""))


def unload(vm: Vm, disk: Disk) -> dict[str, Any]:
    return unload_all(vm, disk.path)[-1]


def unload_all(vm: Vm, path: Path) -> list[dict[str, Any]]:
    """What came of it for each migration."""
    done = run(vm.data, "device", "unload", str(path), "--json")
    assert done.returncode == 0, (done.stdout, done.stderr)
    events: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    return [event for event in events if event["event"] == "unloaded"]


def refused(vm: Vm, *words: str | Path) -> str:
    """Why a command is refused."""
    done = run(vm.data, *map(str, words))
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stderr


def verify(vm: Vm, disk: Disk, code: int = 0) -> dict[str, Any]:
    """What a verification of the whole device at the source says."""
    done = run(vm.data, "device", "verify", str(disk.path), "--host", vm.lab.site("alpha").uri, "--json")
    assert done.returncode == code, (done.stdout, done.stderr)
    verified: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return verified


def readable(disk: Disk, *texts: bytes) -> list[bytes]:
    """Which of these a thief finds anywhere on the raw disk."""
    with disk.image.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
        return [text for text in texts if re.search(re.escape(text), raw)]


@contextlib.contextmanager
def held(migration: str) -> Iterator[None]:
    """The process that runs this migration for `drover device load` stands still."""
    process = next(
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if b"resume\0" + migration.encode() in path.read_bytes()
    )
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def test_two_devices_carry_a_busy_vm(make_vm: Callable[..., Vm], make_disk: Callable[..., Disk]) -> None:
    vm = make_vm(pattern="random")
    disks = [make_disk("usb1", 64 << 20, kind="exfat"), make_disk("usb2")]
    process = by_road(vm, *disks)
    wait_loaded(process, 2)
    for disk in reversed(disks):
        disk.carry("beta")
        assert unload(vm, disk)["by_network_bytes"] == 0
    finished = vm.compare_and_finish(process)
    assert finished["event"] == "finished", finished
    vm.assert_witness()


def test_two_busy_vms_are_loaded_side_by_side_and_a_thief_reads_nothing(
    make_vm: Callable[..., Vm], make_disk: Callable[..., Disk]
) -> None:
    vms = [make_vm(pattern="random", rate=20), make_vm(pattern="rewrite-hot", rate=20)]
    disks = [make_disk("usb1", 96 << 20, kind="exfat"), make_disk("usb2")]
    devices = [word for disk in disks for word in ("--device", str(disk.path))]
    options = [*vms[0].arguments[2:], "--cutover", "resume", *devices]
    process = Drover(vms[0].data, "device", "load", *(vm.name for vm in vms), *options)
    wait_loaded(process, 4)
    ids = {event["vm"]: event["migration"] for event in process.events if "migration" in event}
    for disk in disks:
        verified = verify(vms[0], disk)
        assert verified["complete"] is True, verified
        assert {(one["vm"], one["own"]) for one in verified["manifests"]} == {(vm.name, True) for vm in vms}
    disks[1].carry("beta")
    assert [done["by_network_bytes"] for done in unload_all(vms[0], disks[1].path)] == [0, 0]
    disks[0].carry("beta")
    names = [b'"%s"' % name.encode() for vm in vms for name in (vm.name, "vda", "vdb")]
    for disk in disks:
        assert readable(disk, b"WITNESS1", b"customer", *names) == []
        assert readable(disk, b"DROVPACK", disk.path.name.encode()), "this is where a thief looks"
    with held(ids[vms[1].name]):
        assert [done["by_network_bytes"] for done in unload_all(vms[0], disks[0].path)] == [0, 0]
        finish_one(vms[0], process, ids)
    finish_one(vms[1], process, ids)
    process.finish()
    for vm in vms:
        vm.assert_witness()


def test_a_group_of_a_plan_goes_by_road_and_cuts_over_together(
    make_vm: Callable[..., Vm], make_disk: Callable[..., Disk], tmp_path: Path
) -> None:
    vms, disk = [make_vm(pattern="random", rate=20), make_vm(pattern="idle")], make_disk("usb1")
    file = plan_of(vms, tmp_path, cutover="resume")
    words = ["--plan", str(file), "--group", "shop", "--device", str(disk.path)]
    process = Drover(vms[0].data, "device", "load", *words)
    wait_loaded(process, 2)
    (room,) = [event for event in process.events if event["event"] == "pools"]
    assert room["passed"] is True and room["pools"].keys() == {"raw", "qcow2"}
    disk.carry("beta")
    assert [done["by_network_bytes"] for done in unload_all(vms[0], disk.path)] == [0, 0]
    assert process.finish()["finished"] is True
    times = started(vms)
    assert max(times.values()) - min(times.values()) < TOGETHER, times
    for vm in vms:
        vm.assert_witness()


def finish_one(vm: Vm, process: Drover, ids: dict[str, str]) -> None:
    """As `compare_and_finish`, of one VM among those that are loaded together."""
    process.wait_for(lambda event: event.get("vm") == vm.name and event.get("state") == "starting")
    with held(ids[vm.name]):
        assert (vm.state("alpha"), vm.state("beta")) in (("off", None), ("off", "off"))
        vm.compare(next(e["vdisks"] for e in process.events if e["event"] == "check" and e["vm"] == vm.name))
    process.wait_for(lambda event: event.get("vm") == vm.name and event["event"] == "finished")


def test_a_device_that_is_pulled_out_goes_on_and_a_power_cycle_on_the_way_costs_little(
    make_vm: Callable[..., Vm], make_disk: Callable[..., Disk], lab: Lab
) -> None:
    vm, disk = make_vm(pattern="random", rate=2, size=192 << 20), make_disk("usb1", kind="exfat")
    process = by_road(vm, disk)
    process.wait_for(lambda event: "it is loaded at" in event.get("text", ""))
    with disk.slow():
        part = process.wait_for(lambda event: event["event"] == "progress" and event["loaded"] > 0)
        disk.pull()
    assert part["done"] + part["loaded"] < part["size"]
    process.wait_for(lambda event: "it failed while it was loaded" in event.get("text", ""))
    disk.mount("alpha")
    again = process.wait_for(lambda event: event["event"] == "progress" and event["loaded"] > 0)
    assert again["loaded"] >= part["loaded"], "what was on it is there still"
    wait_loaded(process)
    verified = verify(vm, disk)
    assert verified["complete"] is True, verified
    first = disk.at("alpha") / "drover/packs/00000000.pack"
    first.rename(first.with_suffix(".gone"))
    assert verify(vm, disk, code=1)["manifests"][0]["missing"]
    first.with_suffix(".gone").rename(first)
    disk.unmount()
    with lab.site("alpha").connection() as connection:
        domain = connection.lookupByName(vm.name)
        domain.destroy()
        domain.create()
    process.wait_for(lambda event: "comparing hashes" in event.get("text", ""))
    lab.wait_console("alpha", vm.name, r"WITNESS OK")
    disk.mount("beta")
    unload(vm, disk)
    finished = vm.compare_and_finish(process)
    facts = MigrationStore(vm.data).get(finished["migration"]).facts
    assert facts.cutover is not None
    sent = facts.sent_bytes - (facts.cutover.memory_wire_bytes or 0)
    assert sent < verified["total_bytes"] / 3, "hashes and what the VM wrote travel, not the VDISKs"
    vm.assert_witness()


def test_a_full_device_another_that_is_lost_and_those_that_nobody_expects(
    make_vm: Callable[..., Vm], make_disk: Callable[..., Disk], lab: Lab, tmp_path: Path
) -> None:
    # Slow, so that it has not written all anew that is on the device when that is forgotten.
    vm, small = make_vm(pattern="random", rate=5, size=192 << 20), make_disk("usb1", 40 << 20, kind="exfat")
    process = by_road(vm, small)
    full = process.wait_for(lambda event: "no device has room for" in (event.get("text") or ""))
    assert f"drover resume {full['migration']} --device PATH" in full["text"]
    process.interrupt()
    assert process.wait(60) == 130
    vdisks = process.events[0]["vdisks"]
    big = make_disk("usb2", kind="exfat")
    process = vm.resume(full["migration"], "--device", str(big.path))
    wait_loaded(process)
    copy = tmp_path / "copy"
    shutil.copytree(small.at("alpha"), copy)
    small.unmount()
    forgotten = run(vm.data, "device", "forget", "usb1", "--json")
    assert json.loads(forgotten.stdout)["bytes"] > 0, forgotten
    process.wait_for(lambda event: "that are on no device go over the network" in event.get("text", ""))

    (replayed,) = unload_all(vm, copy)
    assert (replayed["unloaded_chunks"], replayed["by_network_bytes"]) == (0, 0), replayed
    (copy / "drover/key.age").unlink()
    assert "it was wiped" in refused(vm, "device", "unload", copy)
    other, strange = tmp_path / "other", tmp_path / "strange"
    strange.mkdir()
    assert run(other, "device", "init", str(strange)).returncode == 0
    assert "expects the device strange" in refused(vm, "device", "unload", strange)
    assert "there is no transport device" in refused(vm, "device", "unload", tmp_path)

    big.carry("beta")
    theirs = ("--identity", other / "identity.age-key")
    assert "was not encrypted to age1" in refused(vm, "device", "unload", big.path, *theirs)
    with big.slow():
        unloading = Drover(vm.data, "device", "unload", str(big.path))
        unloading.wait_for(lambda event: event["event"] == "progress" and 0 < event["read"] < event["total"])
        kill_engine(lab, "destination")
    assert unloading.finish()["by_network_bytes"] == 0
    vm.compare_and_finish(process, vdisks)
    assert any("starting it again" in event.get("text", "") for event in process.events)
    vm.assert_witness()
