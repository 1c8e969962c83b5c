"""One site of the lab: a host of its own, with libvirtd, storage pools, a network and VMs."""

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt

from drover.errors import HostError, InputError, PlatformError
from drover.lab import storage, vm
from drover.lab.daemon import SOCKET_PATH_BYTES, Daemon
from drover.lab.guest import CHECK_KEY
from drover.lab.namespace import Namespace

_STATES = {
    libvirt.VIR_DOMAIN_RUNNING: "running",
    libvirt.VIR_DOMAIN_BLOCKED: "blocked",
    libvirt.VIR_DOMAIN_PAUSED: "paused",
    libvirt.VIR_DOMAIN_SHUTDOWN: "shutting down",
    libvirt.VIR_DOMAIN_SHUTOFF: "off",
    libvirt.VIR_DOMAIN_CRASHED: "crashed",
    libvirt.VIR_DOMAIN_PMSUSPENDED: "asleep",
}


@dataclass(frozen=True)
class VmStatus:
    """A VM as seen at one site; `witness` is the last line that its witness said there."""

    name: str
    state: str
    witness: str | None


class Site:
    """A site. `address` is its address on the link; `uri` is its libvirt URI, reachable from the whole machine."""

    def __init__(self, name: str, folder: Path, shared: Path, address: str) -> None:
        self.name = name
        self.folder = folder
        self.address = address
        self.network = f"{name}-net"
        self.namespace = Namespace(name, folder, shared)
        self._daemon = Daemon(self.namespace)
        self.uri = self._daemon.uri
        longest = len(str(self._daemon.socket).encode())
        if longest > SOCKET_PATH_BYTES:
            raise InputError(
                f"the lab's folder {folder.parent} is too deep: {self._daemon.socket} has {longest} bytes, "
                f"and the path of a unix socket {SOCKET_PATH_BYTES} at most",
                remedy="choose a shorter one, as in DROVER_LAB=/srv/lab",
            )

    @property
    def pid(self) -> int:
        """The process that keeps the site's namespaces (/proc/<pid>/ns/net). Raises HostError when the site is down."""
        keeper = self.namespace.keeper()
        if keeper is None:
            raise HostError(f"the site {self.name} is not up", remedy="start it with `drover lab up`")
        return keeper

    @property
    def libvirtd_pid(self) -> int | None:
        """The process id of the site's libvirtd, or None."""
        return self._daemon.pid()

    def enter(self, *command: str) -> list[str]:
        """The command line that runs `command` as if logged in to the site. Raises HostError when it is down."""
        return self.namespace.enter(*command)

    @contextlib.contextmanager
    def connection(self) -> Iterator[Any]:
        """A libvirt connection, closed at the end of the block; libvirt's errors become PlatformError."""
        with self._daemon.connection() as connection:
            try:
                yield connection
            except libvirt.libvirtError as error:
                raise PlatformError(f"libvirt at the site {self.name}: {error}") from error

    def up(self) -> Iterator[str]:
        """Brings the site up as far as it is not; yields a line for each thing that it did."""
        yield from filter(None, [self.namespace.ensure(), self._daemon.ensure()])
        with self.connection() as connection:
            # libvirt asks QEMU what it can do once, for seconds: now, and not when the first VM arrives.
            connection.getDomainCapabilities(None, "x86_64", vm.MACHINE, "qemu")
            for name in storage.POOLS:
                yield from filter(None, [storage.ensure_pool(connection, name, self.pool(name))])
            for image in sorted((self.folder / "pools").glob("*.ext4")):
                storage.small_pool(self.namespace, connection, image.stem, image.stat().st_size)
            yield from filter(None, [storage.ensure_network(connection, self.network)])

    def down(self) -> int:
        """Cuts the power: VMs, libvirtd and whatever else runs at the site. Returns how many processes there were."""
        return self.namespace.end()

    def pool(self, name: str) -> Path:
        """The folder of the storage pool `name`."""
        return self.folder / "pools" / name

    def small_pool(self, name: str, size: int) -> Path:
        """Makes the storage pool `name` with a file system of only `size` bytes. Returns its folder."""
        with self.connection() as connection:
            return storage.small_pool(self.namespace, connection, name, size)

    def vms(self) -> list[VmStatus]:
        """Every VM that libvirt knows at this site, by name."""
        with self.connection() as connection:
            domains = sorted(connection.listAllDomains(), key=lambda domain: str(domain.name()))
            return [
                VmStatus(domain.name(), _STATES.get(domain.state()[0], "unknown"), self.witness(domain.name()))
                for domain in domains
            ]

    def state(self, name: str) -> str | None:
        """The state of the VM `name` here, as in `running` or `off`; None when it is not here."""
        return next((status.state for status in self.vms() if status.name == name), None)

    def start(self, name: str) -> None:
        """Starts a VM. Raises PlatformError when libvirt refuses."""
        with self.connection() as connection:
            domain = vm.find(connection, name)
            if domain is None:
                raise InputError(f"the site {self.name} has no VM {name}", remedy="see `drover lab status`")
            domain.create()

    def ask_check(self, name: str) -> None:
        """Has the witness of the running VM check all its records; its verdict comes on the console."""
        with self.connection() as connection:
            connection.lookupByName(name).sendKey(libvirt.VIR_KEYCODE_SET_LINUX, 50, [CHECK_KEY], 1, 0)

    def remove(self, name: str) -> None:
        """Powers the VM off and deletes it with its VDISKs and its console. Raises InputError if it is not here."""
        with self.connection() as connection:
            vm.remove(connection, name)
        self.console_path(name).unlink(missing_ok=True)

    def console_path(self, name: str) -> Path:
        """The file with everything that the VM said on its serial console at this site."""
        return self.folder / "console" / f"{name}.log"

    def console(self, name: str) -> str:
        """What the VM said on its serial console at this site, since it was made; empty if it never ran here."""
        try:
            return self.console_path(name).read_text(errors="replace").replace("\r\n", "\n")
        except FileNotFoundError:
            return ""

    def witness(self, name: str) -> str | None:
        """The last line that the VM's witness said at this site."""
        said = re.findall(r"^WITNESS .+$", self.console(name), re.MULTILINE)
        return said[-1].strip() if said else None

    def wait_console(self, name: str, pattern: str, timeout: float = 60, *, after: int = 0) -> re.Match[str]:
        """Waits until the console, from its character `after` on, matches the regular expression `pattern`.

        Raises HostError with the console's end after `timeout` seconds.
        """
        expression = re.compile(pattern, re.MULTILINE)
        deadline = time.monotonic() + timeout
        while True:
            said = self.console(name)
            match = expression.search(said, after)
            if match is not None:
                return match
            if time.monotonic() > deadline:
                raise HostError(
                    f"waiting {timeout:g} s for {pattern!r} on the console of {name} at {self.name}; "
                    f"it ended with: {said[-600:].strip() or 'nothing'}",
                    remedy=f"see all of it with `drover lab console {name} --site {self.name}`",
                )
            time.sleep(0.1)
