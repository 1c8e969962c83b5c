"""By road: VMs that keep writing while their bulk is carried on real file systems from site to site."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drover.lab import Lab
from tests.migration.drover import Drover, run
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

    def unmount(self, *, pull: bool = False) -> None:
        if self.site is not None:
            self._run(self.site, "umount", *(["-l"] if pull else []), str(self.path))
            self.site = None

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
    done = run(vm.data, "device", "unload", str(disk.path), "--json")
    assert done.returncode == 0, (done.stdout, done.stderr)
    events: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    return next(event for event in reversed(events) if event["event"] == "unloaded")


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
