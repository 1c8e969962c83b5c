"""Reaching the host behind a libvirt URI: running commands there, putting files, talking to unix sockets.

A local daemon may live in namespaces of its own (a container, a lab site); commands then run in those. A remote host
is entered with OpenSSH, as libvirt's own `qemu+ssh` does, so that keys, agents and jump hosts are the same.
"""

import shlex
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import ParseResult, parse_qs, urlparse

from drover.errors import HostError, InputError
from drover.fence import require
from drover.platforms.libvirt import credentials

_SOCKETS = ("/run/libvirt/libvirt-sock", "/run/libvirt/virtqemud-sock")


class Host(Protocol):
    """A machine that a site's VMs run on."""

    name: str

    def run(
        self, *argv: str, timeout: float = 30, check: bool = True, stdin: bytes | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Runs a command there; raises HostError if it fails (and `check`) or exceeds `timeout` seconds."""

    def socket(self, path: str) -> Path:
        """A local path that leads to the unix socket `path` of that host."""

    def close(self) -> None:
        """Lets go of whatever `socket` opened."""


class LocalHost:
    """This machine, in the namespaces of the process `pid` if it has its own."""

    def __init__(self, name: str, pid: int | None) -> None:
        self.name = name
        self._pid = pid

    def run(
        self, *argv: str, timeout: float = 30, check: bool = True, stdin: bytes | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        enter = [] if self._pid is None else ["nsenter", f"--target={self._pid}", "--mount", "--net", "--"]
        return _run(self.name, [*enter, *argv], argv, timeout, check, stdin)

    def socket(self, path: str) -> Path:
        return Path(path) if self._pid is None else Path(f"/proc/{self._pid}/root{path}")

    def close(self) -> None:
        """Nothing is held."""


class SshHost:
    """A remote machine, by OpenSSH's client."""

    def __init__(self, target: str, port: int | None, options: Sequence[str] = ()) -> None:
        self.name = target
        self._folder = tempfile.TemporaryDirectory(prefix="drover-ssh-", dir="/tmp")
        self._ssh = [
            "ssh",
            "-o",
            "BatchMode=yes",
            "-o",
            "ConnectTimeout=10",
            *options,
            *(["-p", str(port)] if port else []),
            target,
        ]
        # One connection carries all commands; it ends by itself soon after the last.
        shared = ["-o", "ControlMaster=auto", "-o", f"ControlPath={self._folder.name}/%C", "-o", "ControlPersist=30"]
        self._ssh[1:1] = shared
        self._tunnels: dict[str, tuple[subprocess.Popen[bytes], Path]] = {}

    def run(
        self, *argv: str, timeout: float = 30, check: bool = True, stdin: bytes | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        return _run(self.name, [*self._ssh, "--", shlex.join(argv)], argv, timeout, check, stdin)

    def socket(self, path: str) -> Path:
        known = self._tunnels.get(path)
        if known is not None and known[0].poll() is None:
            return known[1]
        local = Path(self._folder.name) / f"{time.monotonic_ns()}.sock"
        options = ["-N", "-o", "ExitOnForwardFailure=yes", "-L", f"{local}:{path}"]
        tunnel = subprocess.Popen(
            [*self._ssh[:-1], *options, self._ssh[-1]],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._tunnels[path] = (tunnel, local)
        deadline = time.monotonic() + 15
        while not local.exists():
            if tunnel.poll() is not None or time.monotonic() > deadline:
                tunnel.kill()
                words = tunnel.stderr.read().decode(errors="replace").strip() if tunnel.stderr else ""
                raise HostError(f"cannot forward {path} of {self.name} by ssh: {words or 'no answer'}")
            time.sleep(0.05)
        return local

    def close(self) -> None:
        subprocess.run([*self._ssh[:-1], "-O", "exit", self._ssh[-1]], capture_output=True, check=False)
        for tunnel, _ in self._tunnels.values():
            tunnel.terminate()
        for tunnel, _ in self._tunnels.values():
            tunnel.wait()
        self._tunnels.clear()
        self._folder.cleanup()


def host_of(uri: str) -> Host:
    """The host behind a libvirt URI. Raises InputError for a transport that Drover cannot follow to a host."""
    parts = urlparse(uri)
    transport = parts.scheme.partition("+")[2]
    if transport == "ssh" and parts.hostname:
        target = f"{parts.username}@{parts.hostname}" if parts.username else parts.hostname
        return SshHost(target, parts.port, credentials.ssh_options(credentials.of(uri)))
    if transport in ("", "unix") and not parts.hostname:
        return LocalHost("localhost", _foreign_namespace(_daemon_pid(parts)))
    raise InputError(
        f"{uri} names no host that Drover can put its engine on",
        remedy="use qemu:///system, qemu+unix:///system?socket=PATH or qemu+ssh://USER@HOST/system",
    )


def address_of(uri: str) -> str | None:
    """The network name in a libvirt URI, if it has one."""
    return urlparse(uri).hostname


def put_file(host: Host, path: str, content: bytes, *, mode: int) -> None:
    """Writes a file on a host. Raises HostError."""
    quoted = shlex.quote(path)
    host.run("sh", "-c", f"umask 077 && cat > {quoted} && chmod {mode:o} {quoted}", stdin=content, timeout=120)


def spawn(host: Host, *argv: str, log: str, pid_file: str) -> None:
    """Starts a process that outlives this one and whatever carried the command there."""
    command = f"echo $$ > {shlex.quote(pid_file)}; exec {shlex.join(argv)} >> {shlex.quote(log)} 2>&1 < /dev/null"
    host.run("setsid", "--fork", "sh", "-c", command)


def _run(
    host: str, command: list[str], shown: tuple[str, ...], timeout: float, check: bool, stdin: bytes | None
) -> subprocess.CompletedProcess[bytes]:
    require()
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout, check=False, input=stdin or b"")
    except FileNotFoundError:
        raise HostError(f"cannot run {command[0]!r}: it is not installed here") from None
    except subprocess.TimeoutExpired:
        raise HostError(f"running {shlex.join(shown)!r} on {host} took longer than {timeout:.0f} s") from None
    if check and done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
        raise HostError(f"running {shlex.join(shown)[:200]!r} on {host} failed: {words}")
    return done


def _daemon_pid(parts: ParseResult) -> int | None:
    """The process that listens at the daemon's socket."""
    given = parse_qs(parts.query).get("socket")
    for path in given or _SOCKETS:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(path)
            except OSError:
                continue
            peer = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            return int(struct.unpack("3i", peer)[0])
    return None


def _foreign_namespace(pid: int | None) -> int | None:
    """`pid` if it lives in other namespaces than this process, else None."""
    if pid is None:
        return None
    try:
        same = all(
            Path(f"/proc/{pid}/ns/{kind}").readlink() == Path(f"/proc/self/ns/{kind}").readlink()
            for kind in ("mnt", "net")
        )
    except PermissionError:
        raise HostError(
            f"cannot look into the namespaces of the libvirt daemon (process {pid})",
            remedy="run drover as root when the site is on this machine",
        ) from None
    return None if same else pid
