"""A site's namespaces (mounts, network, host name) and the small process that keeps them alive."""

import hashlib
import os
import subprocess
import time
from pathlib import Path

from drover.errors import HostError
from drover.lab import processes

KEEPER = "drover-lab-keeper"
_SCRIPT = Path(__file__).with_name("keeper.sh")
# What keeper.sh covers: within a site, the machine's own files there cannot be seen.
HIDDEN = ("/run", "/sys", "/etc/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt")
# The folders of a site; each lies over one of the machine's within the site, see keeper.sh.
_FOLDERS = ("run", "etc", "lib", "lib/boot", "log", "log/console", "console", "pools")
_COMMAND_SECONDS = 60


class Namespace:
    """The inside of one site. Commands run in it see the site's files under the machine's usual paths."""

    def __init__(self, name: str, folder: Path, shared: Path) -> None:
        self.name = name
        self.folder = folder
        self.shared = shared
        digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
        self.mark = f"drover-lab-{digest}"
        self.belongs = processes.has_mount(self.mark)

    def keeper(self) -> int | None:
        """The process id of the keeper, or None when the site is down."""
        return self.pid_of(KEEPER)

    def pid_of(self, name: str) -> int | None:
        """The lowest id of the site's processes that are called `name`, or None."""
        found = processes.find(processes.called(name, self.belongs))
        return found[0].pid if found else None

    def ensure(self) -> str | None:
        """Brings the namespaces up; says what was done, or None when they were there.

        If only the keeper was killed, a new one joins what the site's other processes still hold.
        """
        if self.keeper() is not None:
            return None
        survivors = processes.find(self.belongs)
        if survivors:
            command = f"exec /run/{KEEPER} infinity </dev/null >/dev/null 2>&1"
            entered = [*_entering(survivors[0].pid), "setsid", "--fork", "sh", "-c", command]
            self._run(entered, "putting a new keeper into the namespaces")
            self._await_keeper()
            return "a new keeper joined the namespaces"
        self._create()
        return "namespaces made"

    def enter(self, *command: str) -> list[str]:
        """The command line that runs `command` within the site. Raises HostError when the site is down."""
        keeper = self.keeper()
        if keeper is None:
            raise HostError(f"entering the site {self.name}: it is not up", remedy="start it with `drover lab up`")
        return [*_entering(keeper), *command]

    def run(self, *command: str, doing: str) -> str:
        """Runs `command` within the site and returns its output. Raises HostError, saying what `doing` is."""
        return self._run(self.enter(*command), doing)

    def end(self) -> int:
        """Ends every process in the namespaces, and with them the namespaces. Returns how many there were."""
        return processes.end(self.belongs, what=f"the processes of the site {self.name}")

    def _create(self) -> None:
        for name in _FOLDERS:
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for name in ("boot", "cache"):
            (self.shared / name).mkdir(parents=True, exist_ok=True)
        self._empty_run()
        variables = {"SITE": self.name, "MARK": self.mark, "FOLDER": str(self.folder), "SHARED": str(self.shared)}
        unshare = ["unshare", "--mount", "--net", "--uts", "--propagation", "private"]
        said = self._run(
            ["setsid", "--fork", *unshare, "sh", str(_SCRIPT)],
            "making the namespaces",
            environment=os.environ | variables,
        )
        if "ready" not in said:
            processes.end(self.belongs, what=f"the half-made site {self.name}")
            raise HostError(f"making the namespaces of the site {self.name}: {said.strip()}")
        self._await_keeper()

    def _await_keeper(self) -> None:
        deadline = time.monotonic() + 5
        while self.keeper() is None:
            if time.monotonic() > deadline:
                raise HostError(f"making the namespaces of the site {self.name}: the keeper did not stay")
            time.sleep(0.01)

    def _empty_run(self) -> None:
        # As after the boot of a host: what ran is gone, and libvirtd must not believe its old notes.
        for path in sorted((self.folder / "run").rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink()

    def _run(self, command: list[str], doing: str, environment: dict[str, str] | None = None) -> str:
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=_COMMAND_SECONDS,
                env=environment,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise HostError(f"{doing} of the site {self.name}: {error}") from error
        if done.returncode != 0:
            raise HostError(f"{doing} of the site {self.name}: {done.stdout.strip() or 'it failed without a word'}")
        return done.stdout


def _entering(pid: int) -> list[str]:
    return ["nsenter", f"--target={pid}", "--mount", "--net", "--uts", "--"]
