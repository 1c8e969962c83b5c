"""The lab: two sites on one machine, the link between them, and guests that notice a lost write."""

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from drover.errors import CheckError, InputError
from drover.lab import guest, programs, vm
from drover.lab.link import ALPHA_ADDRESS, BETA_ADDRESS, Link
from drover.lab.namespace import HIDDEN
from drover.lab.site import Site

SOURCE = "alpha"
DESTINATION = "beta"
FOLDER_VARIABLE = "DROVER_LAB"
# Everything a lab puts into its folder; `reset` deletes these and nothing else.
_CONTENTS = (SOURCE, DESTINATION, "shared", "link", "scratch", "lock")


class Lab:
    """The lab in one folder. Everything it makes lies in the folder or ends with its processes."""

    def __init__(self, path: Path | str | None = None) -> None:
        self.folder = Path(path or os.environ.get(FOLDER_VARIABLE) or ".lab").resolve()
        hidden = next((place for place in HIDDEN if self.folder.is_relative_to(place)), None)
        if hidden is not None:
            raise InputError(
                f"the lab cannot lie in {self.folder}: each site has a {hidden} of its own",
                remedy="choose another folder, as in DROVER_LAB=/srv/lab",
            )
        shared = self.folder / "shared"
        self._sites = {
            SOURCE: Site(SOURCE, self.folder / SOURCE, shared, ALPHA_ADDRESS),
            DESTINATION: Site(DESTINATION, self.folder / DESTINATION, shared, BETA_ADDRESS),
        }
        self.link = Link(self.folder / "link", self._sites[SOURCE].namespace, self._sites[DESTINATION].namespace)

    @property
    def sites(self) -> tuple[Site, ...]:
        """The source site and the destination site, in this order."""
        return tuple(self._sites.values())

    def site(self, name: str) -> Site:
        """The site called `name`. Raises InputError when there is none."""
        if name not in self._sites:
            raise InputError(f"the lab has no site {name!r}", remedy=f"take one of {', '.join(self._sites)}")
        return self._sites[name]

    def up(self) -> list[str]:
        """Brings up whatever is not up; returns a line for each thing that was done."""
        return list(self.coming_up())

    def coming_up(self) -> Iterator[str]:
        """As `up`, but yields each line when the thing is done. Raises HostError or PlatformError."""
        programs.require_machine()
        with self._locked():
            yield from filter(None, [guest.ensure(self.folder / "shared" / "boot")])
            for site in self.sites:
                for done in site.up():
                    yield f"{site.name}: {done}"
            yield from filter(None, [self.link.ensure()])

    def add_vm(
        self,
        name: str,
        *,
        site: str = SOURCE,
        formats: Sequence[str] = ("raw", "qcow2"),
        size: int = 512 << 20,
        pattern: str = "append",
        rate: float = 50.0,
        start: bool = True,
    ) -> None:
        """Makes a VM with two filled VDISKs of together `size` bytes at `site`, and starts it.

        `pattern` and `rate` (writes per second) say what its witness writes; with the pattern `load` it writes as fast
        as it can, says each second how fast (`LOAD iops=…`), and proves nothing. Raises InputError or PlatformError.
        """
        spec = vm.VmSpec(name=name, formats=tuple(formats), size=size, pattern=pattern, rate=rate)
        chosen = self.site(site)
        for other in self.sites:
            if other.state(name) is not None:
                raise InputError(f"the site {other.name} has a VM {name} already", remedy="choose another name")
        with self._locked(), chosen.connection() as connection:
            vm.make(connection, spec, network=chosen.network, scratch=self.folder / "scratch" / site)
        if start:
            chosen.start(name)

    def console(self, site: str, name: str) -> str:
        """What the VM `name` said on its serial console at `site`."""
        return self.site(site).console(name)

    def wait_console(self, site: str, name: str, pattern: str, timeout: float = 60, *, after: int = 0) -> re.Match[str]:
        """Waits up to `timeout` seconds for `pattern` on the VM's console at `site`, from its character `after` on.

        Raises HostError with the end of the console when the pattern does not come.
        """
        return self.site(site).wait_console(name, pattern, timeout, after=after)

    def check_vm(self, name: str, *, timeout: float = 60) -> str:
        """Has the witness of the VM check all its records where it runs, for `timeout` seconds; returns its verdict.

        Raises CheckError when the witness says, or said before at any site, that a write is lost; HostError when it
        says nothing in time.
        """
        running = [site for site in self.sites if site.state(name) == "running"]
        if not running:
            raise CheckError(f"checking {name}: it runs at no site", remedy="see `drover lab status`")
        lost = r"^WITNESS (?:LOST|FAILED|ERROR).*$"
        for site in self.sites:
            found = re.search(lost, site.console(name), re.MULTILINE)
            if found:
                raise CheckError(f"checking {name}: its witness said at {site.name}: {found.group().strip()}")
        site = running[0]
        said = len(site.console(name))
        site.ask_check(name)
        match = site.wait_console(name, rf"{lost}|^WITNESS OK \d+", timeout, after=said)
        if "OK" not in match.group():
            raise CheckError(f"checking {name}: its witness said at {site.name}: {match.group().strip()}")
        return f"{site.name}: {name}: {match.group()}: every write that was acknowledged is there"

    def small_pool(self, site: str, name: str, size: int) -> Path:
        """Makes a storage pool at `site` with a file system of only `size` bytes; returns its folder.

        The file system is seen only within the site (see `Site.enter`).
        """
        return self.site(site).small_pool(name, size)

    def down(self) -> list[str]:
        """Cuts the power of both sites and ends the link; the VDISKs stay. Returns a line for each thing done.

        Works whatever is left of the lab. Raises HostError if a process cannot be ended.
        """
        programs.require_root()
        with self._locked() if self.folder.exists() else contextlib.nullcontext():
            done = [self.link.end()]
            for site in self.sites:
                count = site.down()
                done.append(f"{site.name}: {count} processes ended" if count else None)
            return [line for line in done if line is not None]

    def reset(self) -> list[str]:
        """Takes the lab down and deletes everything that it made, VDISKs included."""
        done = self.down()
        for name in _CONTENTS:
            path = self.folder / name
            if path.is_dir():
                shutil.rmtree(path)
                done.append(f"{path} deleted")
            else:
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            # A folder that holds something of somebody else stays.
            self.folder.rmdir()
        return done

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One command at a time changes a lab; others wait."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
