"""The guard: what must happen to the source VM should Drover die while it holds or slows the VM.

A VM must never stay paused or slowed because the program that did it is gone. So before Drover pauses a VM or limits
its writes, it starts this as a process of its own, whose stdin closes when Drover ends, however it ends. Started as
`python -m drover.replicator.guard`; each line on stdin is the errand from now on, `null` for none any more.
"""

import contextlib
import json
import subprocess
import sys
from typing import TypedDict

from drover.errors import DroverError
from drover.platforms.libvirt import power
from drover.platforms.libvirt.connection import open_uri
from drover.platforms.libvirt.inventory import find_domain
from drover.platforms.libvirt.latency import LatencyHistograms


class Errand(TypedDict):
    """What to do for which VM: limits of its VDISKs to restore, histograms to remove, and whether to let it run on."""

    uri: str
    vm: str
    vdisks: list[str]
    limits: dict[str, dict[str, int]]
    histograms: bool
    resume: bool


class Guard:
    """Drover's end of the guard of one VM."""

    def __init__(self, uri: str, vm: str, vdisks: list[str]) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._errand = Errand(uri=uri, vm=vm, vdisks=vdisks, limits={}, histograms=False, resume=False)

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
        if not (errand["limits"] or errand["histograms"] or errand["resume"]):
            self.disarm()
            return
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "drover.replicator.guard"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._tell(self._process, errand)

    def disarm(self) -> None:
        """Returns when nothing will happen any more."""
        self._errand |= {"limits": {}, "histograms": False, "resume": False}
        if self._process is None:
            return
        with contextlib.suppress(BrokenPipeError):
            self._tell(self._process, None)
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._process = None

    @staticmethod
    def _tell(process: subprocess.Popen[bytes], errand: Errand | None) -> None:
        assert process.stdin is not None
        process.stdin.write(json.dumps(errand).encode() + b"\n")
        process.stdin.flush()


def _do(errand: Errand) -> None:
    domain = find_domain(open_uri(errand["uri"]), errand["vm"])
    if not domain.isActive():
        return
    # A VM that stands still is worst, one that is slowed next.
    if errand["resume"]:
        power.resume(domain)
    for vdisk, limits in errand["limits"].items():
        power.set_io_tune(domain, vdisk, limits)
    if errand["histograms"]:
        LatencyHistograms(domain, errand["vdisks"]).stop()


def main() -> int:
    errand: Errand | None = None
    for line in sys.stdin:
        errand = json.loads(line)
    try:
        if errand is not None:
            _do(errand)
    except DroverError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
