"""Putting an engine on a host for the time of a migration, and taking it away without a trace."""

import contextlib
import shutil
import sys
import time
from pathlib import Path, PurePosixPath

from drover.engine.client import EngineClient
from drover.errors import DroverError, EngineError
from drover.platforms.libvirt.host import Host, put_file, spawn

_ROOT = PurePosixPath("/var/lib/libvirt/drover")
"""Every libvirt host has its parent, and hypervisors may write below it."""


def engine_binary() -> Path:
    """The drover-engine that was installed with this Drover."""
    beside = Path(sys.executable).parent / "drover-engine"
    found = beside if beside.exists() else shutil.which("drover-engine")
    if found is None:
        raise DroverError("drover-engine is not installed", remedy="install the drover wheel, or run `make build`")
    return Path(found)


_REMOVE = """
    for file in "$1"/*.pid; do
      [ -e "$file" ] || continue
      pid=$(cat "$file")
      for signal in TERM 0 0 0 0 0 0 0 0 0 0 0 0 0 0 KILL; do
        grep -qaF "$1/" /proc/"$pid"/cmdline 2>/dev/null || break
        kill -"$signal" "$pid" 2>/dev/null
        sleep 0.2
      done
    done
    rm -rf -- "$1"
    rmdir -- "$2" 2>/dev/null || true
"""
"""Ends what the folder's pid files name, if it still is what runs from the folder, and deletes the folder."""


class EngineHome:
    """The folder of one engine on one host: its binary, socket, journal, log, and helpers' sockets."""

    def __init__(self, host: Host, migration: str, role: str) -> None:
        self.host = host
        self.role = role
        self.path = str(_ROOT / f"{migration}-{role}")

    def file(self, name: str) -> str:
        """Path on the host of something in this folder."""
        return f"{self.path}/{name}"

    def client(self) -> EngineClient:
        """A client to the engine in this folder, which may not run: its calls then raise EngineError."""
        return EngineClient(self.role, self.host.socket(self.file("engine.sock")))

    def start(self) -> EngineClient:
        """A client to the engine in this folder, which is started unless it runs already. Raises DroverError."""
        client = self.client()
        with contextlib.suppress(EngineError):
            client.info()
            return client
        self._install()
        binary, log = self.file("drover-engine"), self.file("engine.log")
        serve = (binary, "serve", "--api", self.file("engine.sock"), "--state", self.file("state"))
        # VMs come first: where processors are short, the engine waits, not they.
        spawn(self.host, "nice", "-n", "10", *serve, log=log, pid_file=self.file("engine.pid"))
        deadline = time.monotonic() + 15
        while True:
            client.close()
            client = self.client()
            try:
                client.info()
            except EngineError as error:
                if time.monotonic() > deadline:
                    words = self.log_tail() or error.message
                    raise EngineError(f"the {self.role} engine does not start on {self.host.name}: {words}") from error
                time.sleep(0.05)
            else:
                return client

    def log_tail(self) -> str:
        """The end of the engine's log."""
        done = self.host.run("tail", "-n", "5", self.file("engine.log"), check=False)
        return done.stdout.decode(errors="replace").strip()

    def remove(self) -> None:
        """Ends whatever runs from this folder and deletes it. Nothing of it is left. Raises HostError."""
        self.host.run("sh", "-c", _REMOVE, "drover-remove", self.path, str(_ROOT), timeout=60)

    def _install(self) -> None:
        self.host.run("mkdir", "-p", "-m", "0711", str(_ROOT))
        self.host.run("mkdir", "-p", "-m", "0700", self.path)
        target = self.file("drover-engine")
        if self.host.run("test", "-x", target, check=False).returncode != 0:
            content = engine_binary().read_bytes()
            put_file(self.host, f"{target}.part", content, mode=0o755)
            self.host.run("mv", f"{target}.part", target)
