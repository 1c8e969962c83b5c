"""How an engine reaches a volume on its host: directly if it is raw, else through QEMU's own NBD server there."""

import time

from drover.engine.client import Endpoint, block, file, nbd
from drover.engine.launcher import EngineHome
from drover.errors import HostError
from drover.platforms.libvirt.capture import Capture
from drover.platforms.libvirt.host import spawn


def open_volume(home: EngineHome, vdisk: str, *, path: str, format: str, writable: bool) -> Endpoint:
    """An endpoint to the volume at `path` on the engine's host. Repeating it is harmless. Raises HostError.

    Raw is opened by the engine itself; for other formats a `qemu-nbd` of ours serves it on a unix socket in the
    engine's folder until `close_volume` or the folder's removal.
    """
    if format == "raw":
        return raw_volume(home, path)
    socket, pid_file = home.file(f"{vdisk}.nbd"), home.file(f"{vdisk}.pid")
    if not _serving(home, pid_file):
        home.host.run("rm", "-f", "--", socket)
        access = ["--discard=unmap", "--cache=writeback"] if writable else ["--read-only"]
        options = [f"--format={format}", "--persistent", "--shared=16", f"--socket={socket}", f"--export-name={vdisk}"]
        spawn(home.host, "qemu-nbd", *options, *access, path, log=home.file(f"{vdisk}.log"), pid_file=pid_file)
        _wait_for(home, vdisk, socket, pid_file)
    return nbd(socket, vdisk)


def raw_volume(home: EngineHome, path: str) -> Endpoint:
    """An endpoint to the file or block device at `path` on the engine's host. Raises HostError."""
    return block(path) if home.host.run("test", "-b", path, check=False).returncode == 0 else file(path)


def is_readable(home: EngineHome, path: str) -> bool:
    """Whether the engine may read `path`: a share that denies root, for one, lets only QEMU. Raises HostError."""
    return home.host.run("head", "-c", "1", "--", path, check=False).returncode == 0


def live_volumes(home: EngineHome, capture: Capture, vdisks: list[str]) -> dict[str, Endpoint]:
    """Where to read the VDISKs of a running VM: raw ones past QEMU, the others as QEMU exports them.

    The bytes of a raw VDISK are in its file as soon as QEMU has completed a write, through the host's page cache or
    past it, and whoever reads the file spares the thread that serves the guest.
    """
    readable = {name: path for name, path in capture.raw().items() if is_readable(home, path)}
    return {
        name: raw_volume(home, readable[name]) if name in readable else nbd(capture.socket, capture.export(name))
        for name in vdisks
    }


def close_volume(home: EngineHome, vdisk: str) -> None:
    """Ends our NBD server of a volume, if there is one, with everything flushed. Raises HostError."""
    pid_file = home.file(f"{vdisk}.pid")
    script = (
        'pid=$(cat "$1" 2>/dev/null) || exit 0; kill "$pid" 2>/dev/null; i=0; while kill -0 "$pid" 2>/dev/null; do '
    )
    script += 'i=$((i+1)); [ "$i" -gt 250 ] && exit 1; sleep 0.02; done; rm -f -- "$1"'
    done = home.host.run("sh", "-c", script, "drover-close", pid_file, check=False)
    if done.returncode != 0:
        raise HostError(f"the NBD server of {vdisk} on {home.host.name} does not end", remedy=f"see {pid_file} there")


def _serving(home: EngineHome, pid_file: str) -> bool:
    script = 'grep -qaF qemu-nbd "/proc/$(cat "$1")/cmdline"'
    return home.host.run("sh", "-c", script, "drover-look", pid_file, check=False).returncode == 0


def _listens(home: EngineHome, socket: str) -> bool:
    """Whether somebody accepts connections on `socket`: it is there a moment earlier (proc(5), `/proc/net/unix`)."""
    script = 'grep -F " 00010000 " /proc/net/unix | grep -qF -- " $1"'
    return home.host.run("sh", "-c", script, "drover-look", socket, check=False).returncode == 0


def _wait_for(home: EngineHome, vdisk: str, socket: str, pid_file: str) -> None:
    deadline = time.monotonic() + 15
    while not _listens(home, socket):
        if time.monotonic() > deadline or not _serving(home, pid_file):
            log = home.host.run("tail", "-n", "3", home.file(f"{vdisk}.log"), check=False).stdout.decode(
                errors="replace"
            )
            raise HostError(
                f"QEMU's NBD server for {vdisk} does not start on {home.host.name}: {log.strip()}",
                remedy="qemu-nbd must be installed there, and the image must not be in use",
            )
        time.sleep(0.05)
