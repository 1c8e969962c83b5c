"""Servers that copies need, at one place each: QEMU's storage daemon, nbdkit, sshd, and Drover's engines."""

import contextlib
import functools
import json
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.measure import run, wait
from bench.places import Place, Route
from drover.engine.certificates import DESTINATION, SOURCE, issue
from drover.engine.client import EngineClient
from drover.engine.launcher import engine_binary
from drover.errors import EngineError

EXPORT = "x"
_START_SECONDS = 10.0


@dataclass(frozen=True)
class Storage:
    """A qemu-storage-daemon that exports one image as `x`: process, port (or unix socket), and its QMP."""

    pid: int
    port: int
    socket: Path
    qmp: Callable[..., Any]


@contextlib.contextmanager
def storage(place: Place, path: Path, *, writable: bool = False, unix: bool = False) -> Iterator[Storage]:
    """Serves the image as a running VM's QEMU does: it holds the file, and NBD is its only door."""
    control, sock, port = path.with_suffix(".qmp"), path.with_suffix(".sock"), free_port()
    server = f"addr.type=unix,addr.path={sock}"
    if not unix:
        server = f"addr.type=inet,addr.host={place.address},addr.port={port}"
    for stale in (control, sock):
        stale.unlink(missing_ok=True)
    command = place.enter(
        "qemu-storage-daemon",
        "--blockdev", f"driver=file,node-name=file,filename={path},discard=unmap",
        "--blockdev", "driver=raw,node-name=node,file=file,discard=unmap",
        "--nbd-server", f"{server},max-connections=0",
        "--export", f"type=nbd,id=x,node-name=node,name={EXPORT},writable={'on' if writable else 'off'}",
        "--chardev", f"socket,id=qmp,path={control},server=on,wait=off", "--monitor", "qmp",
    )  # fmt: skip
    with process(command) as pid, _qmp(control) as qmp:
        yield Storage(pid, port, sock, qmp)


@contextlib.contextmanager
def nbdkit_tls(place: Place, path: Path, folder: Path) -> Iterator[tuple[int, str]]:
    """The image in an nbdkit that takes nobody without a certificate: its process and its URI."""
    keys, port, pid_file = folder / "tls", free_port(), folder / "nbdkit.pid"
    _write_keys(keys, place.address)
    pid_file.unlink(missing_ok=True)
    options = ["--tls=require", "--tls-verify-peer", f"--tls-certificates={keys}", "--readonly", "--foreground"]
    command = place.enter(
        "nbdkit", *options, f"--ipaddr={place.address}", f"--port={port}", f"--exportname={EXPORT}",
        f"--pidfile={pid_file}", "file", str(path),
    )  # fmt: skip
    with process(command) as pid:
        wait("nbdkit", pid_file.exists, _START_SECONDS)
        yield pid, f"nbds://{place.address}:{port}/{EXPORT}?tls-certificates={keys}"


def _write_keys(folder: Path, address: str) -> None:
    """One certificate that signs itself, for both ends, under the names that libnbd and nbdkit look for."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    key, certificate = folder / "server-key.pem", folder / "server-cert.pem"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=bench", "-addext", f"subjectAltName=IP:{address}"]
    run("openssl", "req", "-x509", *curve, *names, "-keyout", key, "-out", certificate)
    shutil.copy(key, folder / "client-key.pem")
    for name in ("ca-cert.pem", "client-cert.pem"):
        shutil.copy(certificate, folder / name)


@dataclass(frozen=True)
class Ssh:
    """An sshd at the destination, with keys of its own; `client` is the `ssh …` that reaches it as the host `there`."""

    pid: int
    client: str

    def settled(self) -> bool:
        """Whether every session is over, and its processor time therefore counted with the server's."""
        return not Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()


@contextlib.contextmanager
def sshd(place: Place, folder: Path) -> Iterator[Ssh]:
    home, port = folder / "ssh", free_port()
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    for key in ("host", "user"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / key)
    (home / "authorized").write_text((home / "user.pub").read_text())
    (home / "sshd_config").write_text(
        f"ListenAddress {place.address}:{port}\nHostKey {home}/host\nAuthorizedKeysFile {home}/authorized\n"
        f"PidFile {home}/pid\nStrictModes no\nPermitRootLogin prohibit-password\nUsePAM no\n"
    )
    # The cipher that is fastest where the processor has AES.
    (home / "ssh_config").write_text(
        f"Host there\n  HostName {place.address}\n  Port {port}\n  User root\n  IdentityFile {home}/user\n"
        f"  UserKnownHostsFile {home}/known\n  StrictHostKeyChecking accept-new\n  LogLevel ERROR\n"
        "  Ciphers aes128-gcm@openssh.com\n"
    )
    # sshd's privilege separation folder, which a started system has; a namespace's /run is its own.
    run(*place.enter("mkdir", "-p", "/run/sshd"))
    with process(place.enter("/usr/sbin/sshd", "-D", "-e", "-f", str(home / "sshd_config"))) as pid:
        wait("sshd", (home / "pid").exists, _START_SECONDS)
        yield Ssh(pid, f"ssh -F {home}/ssh_config")


@dataclass(frozen=True)
class Engines:
    """Both engines, joined: the source's, the destination's, their processes and state folders."""

    near: EngineClient
    far: EngineClient
    pids: tuple[int, int]
    states: tuple[Path, Path]


@contextlib.contextmanager
def engines(route: Route, folder: Path, *, connections: int = 8) -> Iterator[Engines]:
    """Drover's engines in fresh folders: nothing is known of any VDISK."""
    with contextlib.ExitStack() as stack:
        clients, pids, states = [], [], []
        for role, place in ((SOURCE, route.source), (DESTINATION, route.destination)):
            home = folder / role
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir()
            states.append(home / "state")
            command = [str(engine_binary()), "serve", "--api", str(home / "engine.sock"), "--state", str(states[-1])]
            pids.append(stack.enter_context(process(place.enter(*command), log=home / "log")))
            client = EngineClient(role, home / "engine.sock")
            stack.callback(client.close)
            wait("the engine", functools.partial(_answers, client), _START_SECONDS)
            clients.append(client)
        near, far = clients
        credentials = issue("bench")
        port = far.listen(f"{route.destination.address}:0", credentials[1], token=1).rpartition(":")[2]
        near.connect(
            f"{route.destination.address}:{port}", credentials[0], server=DESTINATION, token=1,
            connections=connections, compression="auto",
        )  # fmt: skip
        yield Engines(near, far, (pids[0], pids[1]), (states[0], states[1]))


def _answers(client: EngineClient) -> bool:
    try:
        client.info()
    except EngineError:
        return False
    return True


@contextlib.contextmanager
def process(command: list[str], log: Path | None = None) -> Iterator[int]:
    """A process, and nothing of it afterwards; what it says goes to `log`."""
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(log.open("wb")) if log else subprocess.DEVNULL
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            yield server.pid
        finally:
            server.terminate()
            try:
                server.wait(timeout=30)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


@contextlib.contextmanager
def _qmp(path: Path) -> Iterator[Callable[..., Any]]:
    with socket.socket(socket.AF_UNIX) as connection:
        # The socket's file is there before anybody listens.
        wait("QMP", lambda: connection.connect_ex(str(path)) == 0, _START_SECONDS)
        lines = connection.makefile("rw")
        lines.readline()

        def ask(command: str, **arguments: Any) -> Any:
            lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
            lines.flush()
            while True:
                answer = json.loads(lines.readline())
                if "error" in answer:
                    raise RuntimeError(f"{command}: {answer['error']['desc']}")
                if "return" in answer:
                    return answer["return"]

        ask("qmp_capabilities")
        yield ask


def free_port() -> int:
    """A port that is free here, and so in a namespace, where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
