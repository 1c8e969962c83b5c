"""The link between the sites: an emulated long-distance line, and the commands to it."""

import contextlib
import json
import socket
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

from drover.errors import HostError, InputError
from drover.lab import processes
from drover.lab.namespace import Namespace
from drover.lab.programs import lab_program
from drover.model.units import format_duration, format_rate

PROGRAM = "drover-lab-link"
ALPHA_ADDRESS = "10.77.0.1"
BETA_ADDRESS = "10.77.0.2"
_PREFIX_BITS = 30
# The program's words for the two directions, and the lab's.
_DIRECTIONS = ("left_to_right", "right_to_left")
_WAYS = ("alpha_to_beta", "beta_to_alpha")
_ANSWER_SECONDS = 5
_START_SECONDS = 10


@dataclass(frozen=True)
class LinkSettings:
    """How the link behaves. `rate` is bytes per second each way (None: no limit), `delay` (each way) and `jitter` are
    seconds, `loss` is the share of packets that are lost (0 to 1)."""

    rate: float | None = None
    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    cut: bool = False

    def sentence(self) -> str:
        """The settings for people."""
        if self.cut:
            return "cut"
        rate = "no limit of rate" if self.rate is None else f"{format_rate(self.rate)} ({self.rate * 8 / 1e6:g} Mbit/s)"
        delay = f"{format_duration(self.delay)} delay ± {format_duration(self.jitter)}"
        return f"{rate}, {delay}, {self.loss:.3%} loss"


class LinkChanges(TypedDict, total=False):
    """What of the settings is to change, in their units."""

    rate: float | None
    delay: float
    jitter: float
    loss: float
    cut: bool


class Link:
    """The line between two sites: a process that carries packets between a TUN device in each of them."""

    def __init__(self, folder: Path, left: Namespace, right: Namespace) -> None:
        self._folder = folder
        self._ends = (left, right)
        self._control = folder / "control.sock"
        self.belongs = processes.has_arguments(PROGRAM, "--control", str(self._control))

    def get(self) -> LinkSettings:
        """The settings in force. Raises HostError when the link does not run."""
        return _settings(self._ask({"get": {}}))

    def set(self, **changes: Unpack[LinkChanges]) -> LinkSettings:
        """Changes the settings at once and returns them all. Raises InputError or HostError."""
        wanted: dict[str, Any] = dict(changes)
        if wanted.get("rate") is not None:
            wanted["rate"] *= 8
        return _settings(self._ask({"set": wanted}))

    def cut(self) -> None:
        """Nothing passes any more, in either direction."""
        self.set(cut=True)

    def heal(self) -> None:
        """Packets pass again, with the settings from before."""
        self.set(cut=False)

    def describe(self) -> dict[str, Any]:
        """The state as JSON types; `sentence` is for people."""
        try:
            answer = self._ask({"get": {}})
        except HostError as error:
            return {"state": "down", "sentence": f"down: {error.message}"}
        settings = _settings(answer)
        counters = {name: answer[direction]["counters"] for name, direction in zip(_WAYS, _DIRECTIONS, strict=True)}
        return {"state": "up", "sentence": settings.sentence(), **asdict(settings), "counters": counters}

    def ensure(self) -> str | None:
        """Starts the link between the sites as they are now; says what was done. Raises HostError."""
        command = self._command()
        # One that was made for namespaces that are gone would connect nothing.
        if processes.find(processes.has_arguments(PROGRAM, *command[1:])):
            with contextlib.suppress(HostError):
                self.get()
                return None
        self.end()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._control.unlink(missing_ok=True)
        log = self._folder / "link.log"
        with log.open("ab") as output:
            subprocess.run(
                ["setsid", "--fork", *command], stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=True
            )
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(HostError):
                return f"link: started, {self.get().sentence()}"
            time.sleep(0.05)
        said = log.read_text(errors="replace")[-600:].strip()
        raise HostError(f"starting the link between the sites: {said or 'it does not answer'}")

    def end(self) -> str | None:
        """Ends the link; says so if there was one."""
        count = processes.end(self.belongs, what="the link between the sites")
        self._control.unlink(missing_ok=True)
        return "link: ended" if count else None

    def _command(self) -> list[str]:
        left, right = (f"/proc/{namespace.keeper()}/ns/net" for namespace in self._ends)
        addresses = [f"{address}/{_PREFIX_BITS}" for address in (ALPHA_ADDRESS, BETA_ADDRESS)]
        return [
            *(str(lab_program(PROGRAM)), "--left", left, "--right", right),
            *("--left-address", addresses[0], "--right-address", addresses[1], "--control", str(self._control)),
        ]

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(_ANSWER_SECONDS)
                connection.connect(str(self._control))
                connection.sendall(json.dumps(request).encode() + b"\n")
                line = connection.makefile("rb").readline()
            answer: dict[str, Any] = json.loads(line)
        except (OSError, ValueError) as error:
            raise HostError(
                f"asking the link between the sites: {error}", remedy="start it with `drover lab up`"
            ) from error
        if "error" in answer:
            raise InputError(f"setting the link between the sites: {answer['error']}")
        return answer


def _settings(answer: dict[str, Any]) -> LinkSettings:
    """The settings of an answer. Those of the other direction are the same: the lab sets both at once."""
    settings = answer[_DIRECTIONS[0]]["settings"]
    rate = settings["rate"]
    return LinkSettings(
        rate=None if rate is None else rate / 8,
        delay=settings["delay"],
        jitter=settings["jitter"],
        loss=settings["loss"],
        cut=settings["cut"],
    )
