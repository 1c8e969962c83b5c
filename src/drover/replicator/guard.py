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


class Errand(TypedDict):
    """What to do for which VM: limits of its VDISKs to restore, and whether to let it run on."""

    uri: str
    vm: str
    limits: dict[str, dict[str, int]]
    resume: bool


class Guard:
    """Drover's end of the guard."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def arm(self, errand: Errand) -> None:
        """From now on this happens if this process dies."""
        if self._process is None:
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
    for vdisk, limits in errand["limits"].items():
        power.set_io_tune(domain, vdisk, limits)
    if errand["resume"]:
        power.resume(domain)


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
