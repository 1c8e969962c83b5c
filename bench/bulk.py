"""(a) Bulk copy of a mixed image from a QEMU NBD export to a file, over loopback TCP: Drover against its peers.

Drover encrypts and hashes, and acknowledges only what is stable; the peers do neither. Every copy ends with the data
on the disk (`--flush`, `-t none`-like settings or an fdatasync afterwards), and is compared with the source.
"""

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import image
from bench.measure import Sample, median, run, sample
from drover.engine.certificates import DESTINATION, issue
from drover.engine.client import EngineClient, file, nbd
from drover.engine.launcher import engine_binary

SIZE = 4 << 30
RUNS = 3


def measure(folder: Path) -> dict[str, Sample]:
    """The median of each copier."""
    source = folder / "source.img"
    image.make(source, SIZE)
    copiers: dict[str, Callable[[Path, Path], Sample]] = {
        "nbdcopy": _nbdcopy,
        "qemu-img convert -W": _convert,
        "QEMU mirror": _mirror,
        "Drover": _drover,
    }
    samples: dict[str, list[Sample]] = {name: [] for name in copiers}
    for turn in range(RUNS):
        for name, copier in copiers.items():
            target = folder / "target.img"
            target.unlink(missing_ok=True)
            samples[name].append(copier(source, target))
            run("qemu-img", "compare", "-f", "raw", "-F", "raw", source, target)
            print(f"  {turn + 1}/{RUNS} {name}: {samples[name][-1].seconds:.2f} s", flush=True)
    return {name: median(taken) for name, taken in samples.items()}


def _nbdcopy(source: Path, target: Path) -> Sample:
    with _serve(source) as (pid, port, _):
        return sample(lambda: (run("nbdcopy", "--flush", f"nbd://127.0.0.1:{port}/x", target), _sync(target))[0], [pid])


def _convert(source: Path, target: Path) -> Sample:
    with _serve(source) as (pid, port, _):
        command = ["qemu-img", "convert", "-W", "-m", "16", "-O", "raw", f"nbd://127.0.0.1:{port}/x", str(target)]
        return sample(lambda: (run(*command), _sync(target))[0], [pid])


def _mirror(source: Path, target: Path) -> Sample:
    """`blockdev-mirror` in the process that holds the source, to an NBD server over TCP, as libvirt does it."""
    with target.open("wb") as made:
        made.truncate(SIZE)
    with _serve(target, writable=True) as (there, port, _), _serve(source) as (here, _, qmp):
        qmp("blockdev-add", **{
            "driver": "nbd", "node-name": "target", "export": "x",
            "server": {"type": "inet", "host": "127.0.0.1", "port": port},
        })  # fmt: skip

        def work() -> None:
            qmp("blockdev-mirror", **{"job-id": "m", "device": "node", "target": "target", "sync": "full"})
            while not any(job["id"] == "m" and job["status"] == "ready" for job in qmp("query-jobs")):
                time.sleep(0.02)
            qmp("job-complete", id="m")
            while any(job["id"] == "m" and job["status"] != "concluded" for job in qmp("query-jobs")):
                time.sleep(0.02)
            _sync(target)

        return sample(work, [here, there])


def _drover(source: Path, target: Path) -> Sample:
    folder = target.parent
    with _serve(source, unix=True) as (pid, sock, _), _engines(folder) as (near, far):
        credentials = issue("bench")
        port = far.listen("127.0.0.1:0", credentials[1], token=1).rpartition(":")[2]
        near.connect(
            f"127.0.0.1:{port}", credentials[0], server=DESTINATION, token=1, connections=4, compression="auto"
        )
        far.put_vdisk("x", size=SIZE, endpoint=file(str(target), create=True))
        near.put_vdisk("x", size=SIZE, endpoint=nbd(sock, "x"))
        pids = [pid, near.info().pid, far.info().pid]

        def work() -> None:
            near.background("x", "copy")
            while near.status().vdisks["x"].background.state != "done":
                time.sleep(0.02)
            _sync(target)

        return sample(work, pids)


@contextlib.contextmanager
def _serve(path: Path, *, writable: bool = False, unix: bool = False) -> Iterator[tuple[int, str, Callable[..., Any]]]:
    """The image in a qemu-storage-daemon that exports it as `x`: its process, NBD address, and QMP."""
    control, sock, port = path.with_suffix(".qmp"), path.with_suffix(".sock"), _free_port()
    server = f"addr.type=unix,addr.path={sock}" if unix else f"addr.type=inet,addr.host=127.0.0.1,addr.port={port}"
    for stale in (control, sock):
        stale.unlink(missing_ok=True)
    daemon = subprocess.Popen([
        "qemu-storage-daemon",
        "--blockdev", f"driver=file,node-name=file,filename={path},discard=unmap",
        "--blockdev", "driver=raw,node-name=node,file=file,discard=unmap",
        "--nbd-server", f"{server},max-connections=0",
        "--export", f"type=nbd,id=x,node-name=node,name=x,writable={'on' if writable else 'off'}",
        "--chardev", f"socket,id=qmp,path={control},server=on,wait=off", "--monitor", "qmp",
    ])  # fmt: skip
    try:
        with _qmp(control) as qmp:
            yield daemon.pid, str(sock) if unix else str(port), qmp
    finally:
        daemon.terminate()
        daemon.wait()


@contextlib.contextmanager
def _engines(folder: Path) -> Iterator[tuple[EngineClient, EngineClient]]:
    processes, clients = [], []
    for role in ("source", "destination"):
        home = folder / role
        subprocess.run(["rm", "-rf", str(home)], check=True)
        home.mkdir()
        log = (home / "log").open("wb")
        command = [engine_binary(), "serve", "--api", home / "engine.sock", "--state", home / "state"]
        processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        while not (home / "engine.sock").exists():
            time.sleep(0.02)
        clients.append(EngineClient(role, home / "engine.sock"))
    try:
        yield clients[0], clients[1]
    finally:
        for process in processes:
            process.terminate()
            process.wait()


@contextlib.contextmanager
def _qmp(path: Path) -> Iterator[Callable[..., Any]]:
    deadline = time.monotonic() + 10
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        lines = connection.makefile("rw")
        lines.readline()

        def ask(command: str, **arguments: Any) -> Any:
            lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
            lines.flush()
            while True:
                answer = json.loads(lines.readline())
                if "error" in answer:
                    raise RuntimeError(f"{command}: {answer['error']}")
                if "return" in answer:
                    return answer["return"]

        ask("qmp_capabilities")
        yield ask


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDWR)
    os.fdatasync(handle)
    os.close(handle)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
