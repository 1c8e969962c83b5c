"""(b) What a running guest pays: 4 KiB random writes at depth 1 with no migration, with Drover, and with QEMU's mirror.

The guest writes with O_DIRECT as fast as it can, so it writes more than the link carries: the case that is hardest on
a migration. The mirror is set up as `virsh migrate --copy-storage-all` does it, all VDISKs at once to an NBD server at
the other site; with `--copy-storage-synchronous-writes` its copy mode is write-blocking. Nothing of it is encrypted.
"""

import contextlib
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.migration.drover import Drover
from tests.migration.drover import run as run_drover
from tests.migration.world import Vm

from bench.measure import run
from drover.lab import Lab
from drover.platforms.libvirt.connection import qmp
from drover.platforms.libvirt.inventory import nodes

SIZE = 2 << 30
"""Bytes of the VM's VDISKs: a copy over the link outlasts a window of measuring."""
RATE = 25e6
"""Bytes/s of the link each way: 200 Mbit/s."""
RUNS = 2
WINDOW = 10.0
"""Seconds of each measuring."""
FEWEST = 5
"""Lines, one a second, without which a window tells nothing."""
SETTLE = 3.0
"""Seconds from the start of a case to its steady state."""
PATIENCE = 300.0
BETA_PORT = 10809

NONE = "no migration"
COPYING = "Drover, copying"
EPOCHS = "Drover, in epochs"
MIRROR = "QEMU mirror, background, copying"
BLOCKING = "QEMU mirror, write-blocking, copying"
IN_STEP = "QEMU mirror, write-blocking, all copied"
CASES = (NONE, COPYING, EPOCHS, MIRROR, BLOCKING, IN_STEP)

VDISKS = ["vda", "vdb"]
_LINE = re.compile(r"^LOAD iops=(\d+) p50_us=(\d+) p99_us=(\d+) max_us=(\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Load:
    """Of one-second windows the middle one: writes per second, seconds of the median and the slowest but one percent;
    and the seconds of the slowest write of all. `carried` is what the link carried meanwhile, in bytes/s."""

    iops: float
    p50: float
    p99: float
    longest: float
    carried: float


def measure(lab: Lab, folder: Path) -> dict[str, Load]:
    """The median of each case over rounds, each on a VM made anew, in an order that rotates."""
    cases: list[Callable[[Vm], dict[str, Load]]] = [_none, _drover, _mirror, _blocking]
    samples: dict[str, list[Load]] = {name: [] for name in CASES}
    lab.link.set(rate=RATE)
    try:
        for turn in range(RUNS):
            for number in range(len(cases)):
                with load_vm(lab, f"load-{turn}-{number}", folder) as vm:
                    found = cases[(turn + number) % len(cases)](vm)
                for name, load in found.items():
                    samples[name].append(load)
                    print(f"  {turn + 1}/{RUNS} {name}: {load.iops:.0f} IOPS, p99 {load.p99 * 1e3:.2f} ms", flush=True)
    finally:
        lab.link.set(rate=None)
    return {name: _median(taken) for name, taken in samples.items()}


@contextlib.contextmanager
def load_vm(lab: Lab, name: str, folder: Path, *, size: int = SIZE) -> Iterator[Vm]:
    """A VM that writes as fast as it can, and nothing of it afterwards."""
    lab.add_vm(name, size=size, pattern="load")
    try:
        lab.wait_console("alpha", name, r"^LOAD ")
        yield Vm(lab, name, folder)
    finally:
        for site in lab.sites:
            if site.state(name) is not None:
                site.remove(name)


def _none(vm: Vm) -> dict[str, Load]:
    return {NONE: window(vm, lambda: True)}


def _drover(vm: Vm) -> dict[str, Load]:
    """A migration whose gate cannot open, cancelled at the end."""
    process = vm.migrate("--max-downtime", "1ms")
    try:
        process.wait_for(lambda event: event.get("event") == "progress" and event["done"] > 0, PATIENCE)
        copying = window(vm, lambda: _left(process) > 0)
        process.wait_state("ready", PATIENCE)
        epochs = window(vm, lambda: process.events[-1].get("state") == "ready")
    finally:
        process.kill()
    cancelled = run_drover(vm.data, "cancel", process.events[-1]["migration"])
    if cancelled.returncode != 0:
        raise RuntimeError(f"cancelling the migration failed: {cancelled.stderr.strip()}")
    return {COPYING: copying, EPOCHS: epochs}


def _left(process: Drover) -> int:
    """Bytes that the background has still to copy."""
    progress = next(event for event in reversed(process.events) if event.get("event") == "progress")
    return sum(vdisk["left"] for vdisk in progress["vdisks"])


def _mirror(vm: Vm) -> dict[str, Load]:
    """In the background mode it never catches up with this guest, so there is no second phase."""
    with _mirrored(vm, "background") as domain:
        return {MIRROR: window(vm, lambda: not _is_ready(domain))}


def _blocking(vm: Vm) -> dict[str, Load]:
    with _mirrored(vm, "write-blocking") as domain:
        copying = window(vm, lambda: not _is_ready(domain))
        deadline = time.monotonic() + PATIENCE
        while not _is_ready(domain):
            if time.monotonic() > deadline:
                raise RuntimeError(f"the mirrors have not copied everything after {PATIENCE:g} s")
            time.sleep(0.5)
        return {BLOCKING: copying, IN_STEP: window(vm, lambda: True)}


@contextlib.contextmanager
def _mirrored(vm: Vm, copy_mode: str) -> Iterator[Any]:
    """`blockdev-mirror` of both VDISKs to the other site; the VM's domain."""
    alpha, beta = vm.lab.site("alpha"), vm.lab.site("beta")
    with contextlib.ExitStack() as stack:
        domain = stack.enter_context(alpha.connection()).lookupByName(vm.name)
        for number, node in enumerate(nodes(domain, VDISKS)):
            port = BETA_PORT + number
            stack.enter_context(_nbd_server(vm, node.vdisk, port))
            target = f"target-{node.vdisk}"
            server = {"type": "inet", "host": beta.address, "port": str(port)}
            add = {"driver": "nbd", "node-name": target, "export": node.vdisk, "server": server, "discard": "unmap"}
            qmp(domain, "blockdev-add", **add)
            mirror = {"job-id": f"mirror-{node.vdisk}", "device": node.node, "target": target, "sync": "full"}
            qmp(domain, "blockdev-mirror", **mirror, **{"copy-mode": copy_mode})
        try:
            yield domain
        finally:
            _cancel(domain)


@contextlib.contextmanager
def _nbd_server(vm: Vm, vdisk: str, port: int) -> Iterator[None]:
    """A fresh VDISK at the destination, in the format that Drover makes there, offered over the link."""
    beta = vm.lab.site("beta")
    volume_format = "qcow2" if vdisk == "vda" else "raw"
    image = beta.pool(volume_format) / f"{vm.name}-{vdisk}"
    run("qemu-img", "create", "-q", "-f", volume_format, image, str(SIZE // 2))
    options = ["--persistent", "--cache=none", "--discard=unmap", f"--format={volume_format}", f"--export-name={vdisk}"]
    command = beta.enter("qemu-nbd", *options, f"--bind={beta.address}", f"--port={port}", str(image))
    server = subprocess.Popen(command)
    try:
        _await_port(vm, port)
        yield
    finally:
        server.terminate()
        server.wait()
        image.unlink()


def _await_port(vm: Vm, port: int) -> None:
    deadline = time.monotonic() + 10
    beta = vm.lab.site("beta")
    while True:
        listening = subprocess.run(beta.enter("ss", "-Htln"), capture_output=True, text=True, check=True).stdout
        if f":{port} " in listening:
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"qemu-nbd does not listen at port {port} of the site beta")
        time.sleep(0.05)


def _is_ready(domain: Any) -> bool:
    """Whether every VDISK is copied. A mirror that failed is not there any more."""
    jobs = qmp(domain, "query-block-jobs")
    if len(jobs) != len(VDISKS):
        raise RuntimeError(f"a mirror ended by itself; left are {[job['device'] for job in jobs]}")
    return all(job["ready"] for job in jobs)


def _cancel(domain: Any) -> None:
    for job in qmp(domain, "query-block-jobs"):
        qmp(domain, "block-job-cancel", device=job["device"], force=True)
    deadline = time.monotonic() + 60
    while qmp(domain, "query-block-jobs"):
        if time.monotonic() > deadline:
            raise RuntimeError("QEMU does not end its mirrors within 60 s")
        time.sleep(0.1)


def window(vm: Vm, lasts: Callable[[], bool]) -> Load:
    """What the guest says for WINDOW seconds, or for as long as the phase lasts."""
    time.sleep(SETTLE)
    site = vm.lab.site("alpha")
    mark, sent, begun = len(site.console(vm.name)), carried(vm.lab), time.monotonic()
    while time.monotonic() < begun + WINDOW and lasts():
        time.sleep(0.25)
    rate = (carried(vm.lab) - sent) / (time.monotonic() - begun)
    # The first line began before the window.
    lines = _LINE.findall(site.console(vm.name)[mark:])[1:]
    if len(lines) < FEWEST:
        raise RuntimeError(f"the guest said only {len(lines)} lines before the phase was over; give a larger SIZE")
    seconds = [[int(word) for word in line] for line in lines]
    iops, p50, p99, longest = zip(*seconds, strict=True)
    middle = statistics.median
    return Load(middle(iops), middle(p50) / 1e6, middle(p99) / 1e6, max(longest) / 1e6, rate)


def carried(lab: Lab) -> int:
    """Bytes that the link has carried towards the destination."""
    return int(lab.link.describe()["counters"]["alpha_to_beta"]["bytes"])


def _median(taken: list[Load]) -> Load:
    return Load(
        iops=statistics.median(one.iops for one in taken),
        p50=statistics.median(one.p50 for one in taken),
        p99=statistics.median(one.p99 for one in taken),
        longest=max(one.longest for one in taken),
        carried=statistics.median(one.carried for one in taken),
    )
