"""(c) The downtime of each cutover mode, split into its parts, as the certificate of a real migration states it."""

import datetime
import json
from dataclasses import dataclass
from pathlib import Path

from tests.migration.world import Vm

from drover.lab import Lab

MODES = ("resume", "restart")


@dataclass(frozen=True)
class Downtime:
    """Seconds of one cutover: until the VM stood still, last epoch and verification, memory and start, and in all."""

    stopping: float
    equal: float
    starting: float
    total: float
    last_epoch_bytes: int
    memory_bytes: int


def measure(lab: Lab, folder: Path) -> dict[str, Downtime]:
    """One migration of a busy VM for each mode, on an unlimited link."""
    result = {}
    for mode in MODES:
        name = f"bench-{mode}"
        lab.add_vm(name, pattern="random", rate=100)
        lab.wait_console("alpha", name, "WITNESS WROTE")
        vm = Vm(lab, name, folder)
        certificate = json.loads(Path(vm.migrate("--cutover", mode).finish()["certificate"]).read_text())
        result[mode] = _split(certificate)
        vm.assert_witness()
        for site in lab.sites:
            site.remove(name)
        print(f"  {mode}: {result[mode].total:.2f} s", flush=True)
    return result


def _split(certificate: dict[str, str | float]) -> Downtime:
    times = [
        datetime.datetime.fromisoformat(str(certificate[key])).timestamp()
        for key in ("stopping", "stopped", "verified", "running_at_destination")
    ]
    epoch = certificate["last_epoch"]
    assert isinstance(epoch, dict)
    return Downtime(
        stopping=times[1] - times[0],
        equal=times[2] - times[1],
        starting=times[3] - times[2],
        total=times[3] - times[0],
        last_epoch_bytes=epoch["bytes"],
        memory_bytes=int(certificate["memory_bytes"] or 0),
    )
