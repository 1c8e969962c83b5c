"""Drover and its peers, each as a function that copies one VDISK from one place to a file at another.

The source is what a running VM is: an image that QEMU's storage daemon holds and offers over NBD; only nbdkit and ssh,
which offer nothing better that way, read the file itself. The readers of NBD run at the destination, so that the bytes
travel once. Every copy ends with the data on the disk: `--flush`, `-t none`-like settings or an fdatasync afterwards.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.measure import Sample, TooSlowError, run, sample, sync, wait
from bench.places import Route
from bench.servers import EXPORT, engines, nbdkit_tls, sshd, storage
from drover.engine.client import EngineClient, file, nbd


@dataclass(frozen=True)
class Task:
    """What is copied, between which places; a copier has `patience` seconds."""

    source: Path
    target: Path
    route: Route
    patience: float = 300.0

    @property
    def size(self) -> int:
        """Bytes."""
        return self.source.stat().st_size

    @property
    def folder(self) -> Path:
        """For sockets, keys and the engines' state."""
        return self.target.parent

    def at_destination(self, *command: str | Path) -> None:
        """Runs a command at the destination within the patience, then syncs the target."""
        run(*self.route.destination.enter(*map(str, command)), patience=self.patience)
        sync(self.target)

    def sample(self, work: Callable[[], object], *servers: int) -> Sample:
        """Runs and measures `work`."""
        return sample(work, servers, self.route.carried)


def nbdcopy(task: Task) -> Sample:
    with storage(task.route.source, task.source) as server:
        uri = f"nbd://{task.route.source.address}:{server.port}/{EXPORT}"
        return task.sample(lambda: task.at_destination("nbdcopy", "--flush", uri, task.target), server.pid)


def nbdcopy_tls(task: Task) -> Sample:
    with nbdkit_tls(task.route.source, task.source, task.folder) as (pid, uri):
        return task.sample(lambda: task.at_destination("nbdcopy", "--flush", uri, task.target), pid)


def convert(task: Task) -> Sample:
    with storage(task.route.source, task.source) as server:
        uri = f"nbd://{task.route.source.address}:{server.port}/{EXPORT}"
        command = ["qemu-img", "convert", "-W", "-m", "16", "-O", "raw", uri, str(task.target)]
        return task.sample(lambda: task.at_destination(*command), server.pid)


def mirror(task: Task) -> Sample:
    """`blockdev-mirror` in the process that holds the source, to an NBD server at the destination, as libvirt does it
    for `--copy-storage-all`."""
    with task.target.open("wb") as made:
        made.truncate(task.size)
    with (
        storage(task.route.destination, task.target, writable=True) as there,
        storage(task.route.source, task.source) as here,
    ):
        here.qmp("blockdev-add", **{
            "driver": "nbd", "node-name": "target", "export": EXPORT,
            "server": {"type": "inet", "host": task.route.destination.address, "port": str(there.port)},
        })  # fmt: skip

        def jobs() -> dict[str, str]:
            return {job["id"]: job["status"] for job in here.qmp("query-jobs")}

        def is_ready() -> bool:
            # A mirror that failed is not there any more.
            if "m" not in jobs():
                raise RuntimeError("the mirror ended by itself")
            return jobs().get("m") == "ready"

        def work() -> None:
            here.qmp("blockdev-mirror", **{"job-id": "m", "device": "node", "target": "target", "sync": "full"})
            wait("the mirror", is_ready, task.patience)
            here.qmp("job-complete", id="m")
            wait("the mirror's end", lambda: jobs().get("m", "concluded") == "concluded", task.patience)
            sync(task.target)

        return task.sample(work, here.pid, there.pid)


def rsync(task: Task, *options: str) -> Sample:
    """The raw file over ssh. Without options the whole of it; `--no-whole-file` for the differences only."""
    with sshd(task.route.destination, task.folder) as server:
        ways = ["--inplace", "--ignore-times", *(options or ["--whole-file"])]
        command = task.route.source.enter(
            "rsync", *ways, "-e", server.client, str(task.source), f"there:{task.target}"
        )  # fmt: skip

        def work() -> None:
            run(*command, patience=task.patience)
            sync(task.target)
            wait("the end of the ssh session", server.settled, task.patience)

        return task.sample(work, server.pid)


def dd(task: Task) -> Sample:
    """`dd | ssh dd`: what needs nothing at either end."""
    with sshd(task.route.destination, task.folder) as server:
        script = f"dd if={task.source} bs=1M status=none | {server.client} there dd of={task.target} bs=1M iflag=fullblock conv=sparse,fdatasync status=none"  # noqa: E501

        def work() -> None:
            run(*task.route.source.enter("sh", "-c", script), patience=task.patience)
            wait("the end of the ssh session", server.settled, task.patience)

        return task.sample(work, server.pid)


def drover(task: Task, mode: str = "copy", *, through_qemu: bool = False) -> Sample:
    """Both engines, new for each copy; `compare` sends what differs from a target that is there.

    A raw VDISK is read past QEMU, as in a migration; `through_qemu` reads it over NBD, as one of another format is.
    """
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(storage(task.route.source, task.source, unix=True))
        pair = stack.enter_context(engines(task.route, task.folder))
        pair.far.put_vdisk(EXPORT, size=task.size, endpoint=file(str(task.target), create=True))
        source = nbd(str(server.socket), EXPORT) if through_qemu else file(str(task.source))
        pair.near.put_vdisk(EXPORT, size=task.size, endpoint=source)

        def work() -> None:
            pair.near.background(EXPORT, mode)
            await_background(pair.near, task.patience)
            sync(task.target)

        return task.sample(work, server.pid, *pair.pids)


def await_background(engine: EngineClient, patience: float) -> None:
    """Until all is acknowledged. Raises RuntimeError if the VDISK is held, TooSlowError after `patience` seconds."""
    deadline = time.monotonic() + patience
    while (vdisk := engine.status().vdisks[EXPORT]).background.state != "done":
        if vdisk.error:
            raise RuntimeError(f"the engine holds the VDISK: {vdisk.error.message}")
        if time.monotonic() > deadline:
            raise TooSlowError(f"{vdisk.background.left_bytes} bytes were left after {patience:g} s")
        time.sleep(0.02)
