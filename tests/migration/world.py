"""What tests look at in the world: VDISKs compared by a program that is not ours, and traces that must not be there."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu

from drover.lab import Lab
from tests.migration.drover import Drover, Event


@dataclass(frozen=True)
class Vm:
    """A lab VM that a test migrates from alpha to beta."""

    lab: Lab
    name: str
    data: Path

    @property
    def sites(self) -> list[str]:
        """`drover migrate` for this VM, but for where its VDISKs go."""
        alpha, beta = self.lab.site("alpha"), self.lab.site("beta")
        return [
            *("migrate", self.name, "--from", alpha.uri, "--to", beta.uri),
            *("--network", f"{alpha.network}={beta.network}"),
        ]

    @property
    def arguments(self) -> list[str]:
        """`drover migrate` for this VM with the system VDISK as qcow2 and the records as raw."""
        pools = ["--pool", "vda=qcow2", "--pool", "vdb=raw", "--format", "vda=qcow2", "--format", "vdb=raw"]
        return [*self.sites, *pools]

    def migrate(self, *options: str) -> Drover:
        return Drover(self.data, *self.arguments, *options)

    def resume(self, migration: str, *options: str) -> Drover:
        return Drover(self.data, "resume", migration, *options)

    def state(self, site: str) -> str | None:
        return self.lab.site(site).state(self.name)

    def compare_and_finish(self, process: Drover, vdisks: list[dict[str, Any]] | None = None) -> Event:
        """Compares source and destination while the VM runs at neither side, then lets the migration end.

        `vdisks` are what the check said of them, if it was another process that checked.
        """
        process.wait_state("starting")
        process.freeze()
        try:
            assert self.state("alpha") == "off"
            assert self.state("beta") in (None, "off"), "the destination started before it could be compared"
            self.compare(vdisks or process.events[0]["vdisks"])
        finally:
            process.thaw()
        return process.finish()

    def compare(self, vdisks: list[dict[str, Any]]) -> None:
        """`qemu-img compare` of every VDISK; both sides must stand still."""
        pools = self.lab.site("beta").folder / "pools"
        for vdisk in vdisks:
            copy = pools / vdisk["pool"] / vdisk["volume"]
            formats = ["-f", vdisk["source_format"], "-F", vdisk["format"]]
            done = subprocess.run(
                ["qemu-img", "compare", "-U", *formats, vdisk["source_path"], copy],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{vdisk['name']}: {done.stdout}{done.stderr}"
            assert "identical" in done.stdout

    def announced(self, site: str) -> int:
        """The highest record that the guest's witness announced as durable there."""
        numbers = [
            int(line.split()[2]) for line in self.lab.console(site, self.name).splitlines() if "WITNESS WROTE" in line
        ]
        return max(numbers, default=0)

    def assert_witness(self) -> None:
        """The guest at the destination has every record that it announced at the source."""
        announced = self.announced("alpha")
        self.lab.check_vm(self.name, timeout=90)
        said = self.lab.console("beta", self.name)
        checked = [int(line.split()[2]) for line in said.splitlines() if line.startswith("WITNESS OK")]
        assert checked and max(checked) >= announced, (announced, checked)


def processes(lab: Lab) -> dict[int, list[bytes]]:
    """Command lines of the processes at the lab's sites, by process id."""
    homes = {Path(f"/proc/{site.pid}/ns/mnt").readlink() for site in lab.sites}
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "ns/mnt").readlink() in homes:
                found[int(process.name)] = (process / "cmdline").read_bytes().split(b"\0")
    return found


def started(data: Path) -> dict[int, bytes]:
    """Command lines of the processes that Drover with this data folder is or started, by process id."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"DROVER_DATA={data}\0".encode() in (process / "environ").read_bytes() + b"\0":
                found[int(process.name)] = (process / "cmdline").read_bytes()
    return found


def guards(data: Path) -> list[int]:
    """Guards that a Drover with this data folder started."""
    return [pid for pid, words in started(data).items() if b"drover.guard" in words]


def sweep(lab: Lab, data: Path) -> None:
    """Ends and removes what a test that failed left at the sites, so that the next one does not fail for it."""
    engines = [pid for pid, words in processes(lab).items() if any(b"/libvirt/drover/" in word for word in words)]
    for pid in (*started(data), *engines):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for site in lab.sites:
        shutil.rmtree(site.folder / "lib" / "drover", ignore_errors=True)


def traces(lab: Lab, name: str) -> list[str]:
    """Everything of Drover's that is still at a site: processes, files, exports, bitmaps, limits."""
    found = [
        f"process {b' '.join(words).decode(errors='replace')}"
        for words in processes(lab).values()
        if any(b"/libvirt/drover/" in word for word in words)
    ]
    for site in lab.sites:
        found += [str(path) for path in (site.folder / "lib" / "drover").glob("**/*")]
        found += [str(path) for path in (site.folder / "lib").glob("**/drover.sock")]
        with site.connection() as connection:
            for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
                if domain.name() == name:
                    found += _inside(domain)
    return found


def histograms(domain: Any) -> list[str]:
    """Latency histograms that QEMU keeps, of whatever device."""
    devices = _qmp(domain, "query-blockstats")
    return [f"{key} of {device['qdev']}" for device in devices for key in device["stats"] if key.endswith("histogram")]


def _inside(domain: Any) -> list[str]:
    found = []
    for device in _qmp(domain, "query-block"):
        for bitmap in device.get("inserted", {}).get("dirty-bitmaps", []):
            found.append(f"bitmap {bitmap.get('name')}")
    found += histograms(domain)
    found += [f"export {export['id']}" for export in _qmp(domain, "query-block-exports")]
    if _served(domain):
        found.append("QEMU's NBD server")
    for vdisk in ("vda", "vdb"):
        limits = domain.blockIoTune(vdisk, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        found += [f"limit {key}" for key, value in limits.items() if isinstance(value, int) and value]
    return found


def _served(domain: Any) -> bool:
    answer = json.loads(libvirt_qemu.qemuMonitorCommand(domain, json.dumps({"execute": "nbd-server-stop"}), 0))
    return "error" not in answer


def _qmp(domain: Any, command: str) -> Any:
    answer = json.loads(libvirt_qemu.qemuMonitorCommand(domain, json.dumps({"execute": command}), 0))
    return answer["return"]
