"""The guard: what must happen to VMs and hosts should Drover die while it holds, slows, watches or probes them.

A VM must never stay paused, slowed or measured because the program that did it is gone, nor a host keep an engine that
only measures. So before Drover does it, it starts this as a process of its own, whose stdin closes when Drover ends,
however it ends. Started as `python -m drover.guard`; each line on stdin is the list of errands from now on.
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NotRequired, TypedDict, final

import libvirt

from drover.engine.launcher import EngineHome
from drover.errors import DroverError
from drover.hardening import harden, without_secrets
from drover.model.credentials import Credentials
from drover.platforms.libvirt import credentials, power
from drover.platforms.libvirt.capture import Capture
from drover.platforms.libvirt.connection import open_uri
from drover.platforms.libvirt.host import host_of
from drover.platforms.libvirt.inventory import find_domain
from drover.platforms.libvirt.latency import LatencyHistograms
from drover.platforms.libvirt.observation import remove_bitmaps
from drover.store import claims


@final
class Errand(TypedDict):
    """What to do for which VM: limits of its VDISKs to restore, histograms to remove, and whether to let it run on."""

    uri: str
    vm: str
    vdisks: list[str]
    limits: NotRequired[dict[str, dict[str, int]]]
    histograms: NotRequired[bool]
    resume: NotRequired[bool]
    observation: NotRequired[str]
    """Whose bitmaps to remove."""
    sampling: NotRequired[str]
    """Whose exports to remove."""
    claims: NotRequired[list[tuple[str, str, int]]]
    """Data folder, name and token of what the dead process may have lost before: then another looks after the VM."""


@final
class EngineErrand(TypedDict):
    """Which engine to remove from the host of which libvirt URI, with all that runs from its folder."""

    uri: str
    engine: str
    """The observation or probe that it is for."""
    role: str


class Watch:
    """Drover's end of a guard process, which runs as long as there are errands."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def set(self, errands: Sequence[Errand | EngineErrand]) -> None:
        """From now on this happens, and nothing else, if this process dies."""
        if not errands:
            self._end()
            return
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "drover.guard"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env=without_secrets(),
            )
        self._tell(self._process, errands)

    def _end(self) -> None:
        """Returns when nothing will happen any more."""
        if self._process is None:
            return
        with contextlib.suppress(BrokenPipeError):
            self._tell(self._process, [])
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._process = None

    @staticmethod
    def _tell(process: subprocess.Popen[bytes], errands: Sequence[Errand | EngineErrand]) -> None:
        assert process.stdin is not None
        process.stdin.write(json.dumps(errands).encode() + b"\n")
        process.stdin.flush()


class Guard:
    """The guard of one VM that migrates."""

    def __init__(self, uri: str, vm: str, vdisks: list[str]) -> None:
        self._watch = Watch()
        self._idle = Errand(uri=uri, vm=vm, vdisks=vdisks, limits={}, histograms=False, resume=False)
        self._errand = self._idle.copy()

    def arm(
        self,
        *,
        limits: dict[str, dict[str, int]] | None = None,
        histograms: bool | None = None,
        resume: bool | None = None,
    ) -> None:
        """From now on this happens if this process dies; what is None stays as it was. Nothing to do ends the guard."""
        errand = self._errand
        errand["limits"] = errand["limits"] if limits is None else limits
        errand["histograms"] = errand["histograms"] if histograms is None else histograms
        errand["resume"] = errand["resume"] if resume is None else resume
        errand["claims"] = claims.held()
        self._watch.set([errand] if errand["limits"] or errand["histograms"] or errand["resume"] else [])

    def disarm(self) -> None:
        """Returns when nothing will happen any more."""
        self._errand = self._idle.copy()
        self._watch.set([])


def _do(errand: Errand | EngineErrand) -> None:
    if "engine" in errand:
        with contextlib.closing(host_of(errand["uri"])) as host:
            EngineHome(host, errand["engine"], errand["role"]).remove()
        return
    if not all(claims.stands(Path(folder), name, token) for folder, name, token in errand.get("claims", [])):
        return
    domain = find_domain(open_uri(errand["uri"]), errand["vm"])
    if domain.isActive():
        _free(domain, errand)


def _free(domain: libvirt.virDomain, errand: Errand) -> None:
    # A VM that stands still is worst, one that is slowed next.
    if errand.get("resume"):
        power.resume(domain)
    for vdisk, limits in errand.get("limits", {}).items():
        power.set_io_tune(domain, vdisk, limits)
    if errand.get("histograms"):
        LatencyHistograms(domain, errand["vdisks"]).stop()
    if observation := errand.get("observation"):
        remove_bitmaps(domain, observation)
    if sampling := errand.get("sampling"):
        Capture(domain, errand["vdisks"], "", owner=sampling).close()


def _stored(uri: str) -> Credentials | None:
    # Here, since a guard that has nothing to do is to be small and quick.
    from drover.store import CredentialStore

    return CredentialStore().of(uri)


def main() -> int:
    harden()
    credentials.ask(_stored)
    errands: list[Errand | EngineErrand] = []
    for line in sys.stdin:
        errands = json.loads(line)
    failed = 0
    for errand in errands:
        try:
            _do(errand)
        except DroverError:
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
