"""A site's own libvirtd: its configuration, its start, and connections to it."""

import contextlib
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import libvirt

from drover.errors import HostError, PlatformError
from drover.lab import processes
from drover.lab.namespace import Namespace

# A unix socket's path may have 108 bytes with its closing zero.
SOCKET_PATH_BYTES = 107
_START_SECONDS = 30
_ANSWER_SECONDS = 20

# QEMU runs as root without the protections of a shared host: everything it touches lies in the lab's folder.
_QEMU_CONF = """\
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
"""

_LIBVIRTD_CONF = """\
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_ro_perms = "0700"
unix_sock_rw_perms = "0700"
log_level = 3
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
host_uuid = "{uuid}"
"""


def _stay_quiet(_context: object, _error: object) -> None:
    """libvirt's own habit is to print every error as well as raising it."""


libvirt.registerErrorHandler(_stay_quiet, None)


class Daemon:
    """The libvirtd of one site."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self.socket = namespace.folder / "run" / "libvirt-sock"
        self.uri = f"qemu+unix:///system?socket={quote(str(self.socket))}"

    def ensure(self) -> str | None:
        """Starts libvirtd unless it runs; says what was done. Raises HostError with the end of its log."""
        if self.pid() is not None:
            if self.answers():
                return None
            # Hung or stopped. Its VMs do not mind: a new libvirtd finds them again.
            libvirtd = processes.called("libvirtd", self._namespace.belongs)
            processes.end(libvirtd, what=f"the hung libvirtd of the site {self._namespace.name}", grace_seconds=1)
        self._write_configuration()
        # The path is the site's own: the machine's libvirtd, should there be one, is not concerned.
        command = self._namespace.enter("libvirtd", "--daemon", "--pid-file", "/run/libvirtd.pid")
        log = self._namespace.folder / "log" / "libvirtd.start.log"
        with log.open("wb") as output:
            started = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                timeout=_START_SECONDS,
                check=False,
            )
        deadline = time.monotonic() + _START_SECONDS
        while started.returncode == 0 and time.monotonic() < deadline:
            if self.answers():
                return f"libvirtd started, {self.uri}"
            time.sleep(0.1)
        said = _tail(log) + _tail(self._namespace.folder / "log" / "libvirtd.log")
        raise HostError(f"starting libvirtd at the site {self._namespace.name}: {said or 'it does not answer'}")

    def pid(self) -> int | None:
        """The process id of libvirtd, or None when it does not run."""
        return self._namespace.pid_of("libvirtd")

    def answers(self) -> bool:
        """Whether libvirtd accepts a connection within a few seconds."""
        # libvirt itself would wait for ever for a daemon that is stopped.
        answered = threading.Event()

        def ask() -> None:
            with contextlib.suppress(PlatformError), self.connection():
                answered.set()

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(_ANSWER_SECONDS)
        return answered.is_set()

    @contextlib.contextmanager
    def connection(self) -> Iterator[Any]:
        """A libvirt connection to the site, closed at the end of the block. Raises PlatformError."""
        try:
            connection = libvirt.open(self.uri)
        except libvirt.libvirtError as error:
            raise PlatformError(
                f"connecting to libvirt at the site {self._namespace.name} ({self.uri}): {error}",
                remedy="start the lab with `drover lab up`",
            ) from error
        try:
            yield connection
        finally:
            connection.close()

    def _write_configuration(self) -> None:
        folder = self._namespace.folder / "etc"
        (folder / "qemu.conf").write_text(_QEMU_CONF)
        identity = uuid.uuid5(uuid.NAMESPACE_URL, str(self._namespace.folder))
        (folder / "libvirtd.conf").write_text(_LIBVIRTD_CONF.format(uuid=identity))


def _tail(log: Path, characters: int = 1500) -> str:
    try:
        return log.read_text(errors="replace")[-characters:].strip()
    except OSError:
        return ""
