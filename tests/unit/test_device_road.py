"""What goes by road and what by network, in every situation; whoever does as he is told gets all of it over."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from drover.model.device import Use
from drover.replicator.road import Decision, Device, Mode, Vdisk, Waiting, decide

DEVICES = [
    Device(use=use, opened=opened, here=here, bytes=size)
    for use, opened, here, size in product(Use, (None, "running", "full", "failed"), (False, True), (0, 7))
]
VDISKS = [
    Vdisk(mode=mode, state=state)
    for mode, state in product((None, "copy", "compare", "load"), ("idle", "running", "loaded", "done"))
]
FLAGS = list(product((False, True), (False, True)))


def situations() -> Iterator[tuple[dict[str, Vdisk], dict[str, Device], bool, bool]]:
    for (compare, rest), device, one, other in product(FLAGS, DEVICES, VDISKS, VDISKS):
        yield {"vda": one, "vdb": other}, {"a": device}, compare, rest
    for (compare, rest), device, second, state in product(FLAGS, DEVICES, DEVICES, ("running", "loaded", "done")):
        yield {"vda": Vdisk(mode="load", state=state)}, {"a": device, "b": second}, compare, rest


def wrong(
    vdisks: dict[str, Vdisk], devices: dict[str, Device], compare: bool, rest: bool, decision: Decision
) -> str | None:
    """Which of the rules a decision breaks."""
    states = {vdisk.state for vdisk in vdisks.values()}
    settled, left = states <= {"loaded", "done"}, bool(states & {"idle", "running"})
    may_load = [name for name, device in devices.items() if device.may_load]
    for name, vdisk in vdisks.items():
        if (name in decision.switch) != (
            vdisk.state in ("idle", "running") and vdisk.mode != decision.mode and not compare
        ):
            return "a background under way goes as the others do, unless hashes are compared"
    for name, device in devices.items():
        if name in decision.open and (not device.here or not device.may_load or device.opened == "running" or settled):
            return "opened without need"
        if name in decision.close and device.may_load and not settled:
            return "closed while more can be loaded"
        wanted = device.use in (Use.PLANNED, Use.LOADING)
        if name in decision.close and wanted and device.opened == "full" and not settled and may_load:
            return "closed while another is being loaded"
        if device.use.ended and device.opened and name not in decision.close:
            return "a device that is given up stays open"
        if (name in decision.forget) != (device.use.ended and device.bytes > 0):
            return "given up is what ended and still counts, and nothing else"
        if settled and device.opened and name not in decision.close:
            return "nothing is left to load and a device stays open"
    if compare and (decision.mode != "compare" or decision.open or decision.waiting):
        return "a comparison is no time for devices"
    if not compare and not may_load and any(d.opened and n not in decision.close for n, d in devices.items()):
        return "a device that takes no more cannot be carried away"
    if not compare and decision.mode == "load" and left and not may_load and decision.waiting is not Waiting.NO_ROOM:
        return "it waits for room and does not say so"
    if not compare and all(device.use.ended for device in devices.values()) and decision.mode != "copy":
        return "no device is to come and it is not copied"
    if not compare and may_load and decision.mode != "load":
        return "a device could take it and it goes over the network"
    if not compare and rest and not may_load and decision.mode != "copy":
        return "the rest may go over the network and does not"
    if not compare and not may_load and any(d.use.ended for d in devices.values()) and decision.mode != "copy":
        return "what was given up goes over the network and is held up by another device"
    if not compare and settled and "loaded" in states and decision.waiting is not Waiting.CARRY:
        return "all is on devices and nobody is told to carry them"
    if states == {"done"} and decision.waiting is not None:
        return "it waits though all has arrived"
    return None


def test_no_situation_breaks_a_rule() -> None:
    for vdisks, devices, compare, rest in situations():
        decision = decide(vdisks, devices, compare=compare, rest_by_network=rest)
        assert wrong(vdisks, devices, compare, rest, decision) is None, (vdisks, devices, compare, rest, decision)


def test_without_devices_all_is_as_ever() -> None:
    for state in ("idle", "running", "done"):
        vdisks = {"vda": Vdisk(mode="copy", state=state)}
        assert decide(vdisks, {}, compare=False, rest_by_network=False) == Decision(mode="copy")
    assert decide({"vda": Vdisk(mode=None, state="idle")}, {}, compare=True, rest_by_network=False).mode == "compare"


@dataclass
class World:
    """A VDISK of some chunks, an engine, and devices that are plugged in, pulled, carried, lost and damaged."""

    pending: int
    room: list[int]
    rest: bool
    here: list[bool] = field(default_factory=list)
    use: list[Use] = field(default_factory=list)
    opened: list[Any] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    mode: Mode | None = None
    done: int = 0

    def __post_init__(self) -> None:
        count = len(self.room)
        self.here, self.use, self.held = [True] * count, [Use.PLANNED] * count, [0] * count
        self.opened = [None] * count

    def look(self) -> Decision:
        state = "running" if self.pending else "loaded" if any(self.held) else "done"
        devices = {
            str(i): Device(use=self.use[i], opened=self.opened[i], here=self.here[i], bytes=self.held[i])
            for i in range(len(self.room))
        }
        decision = decide(
            {"vda": Vdisk(mode=self.mode, state=state)}, devices, compare=False, rest_by_network=self.rest
        )
        for i in map(int, decision.close):
            self.opened[i] = None
            if not self.use[i].ended:
                self.use[i] = Use.LOADED if self.held[i] else Use.UNLOADED
        for i in map(int, decision.forget):
            self.pending, self.held[i] = self.pending + self.held[i], 0
        for i in map(int, decision.open):
            self.opened[i], self.use[i] = "running", Use.LOADING
        if decision.switch or self.mode is None:
            self.mode = decision.mode
        return decision

    def work(self) -> None:
        """One chunk at a time."""
        if self.mode == "copy" and self.pending:
            self.done, self.pending = self.done + 1, self.pending - 1
        for i, opened in enumerate(self.opened):
            if self.mode == "load" and opened == "running" and self.pending:
                moved = min(1, self.pending, self.room[i])
                self.pending, self.room[i], self.held[i] = (
                    self.pending - moved,
                    self.room[i] - moved,
                    self.held[i] + moved,
                )
                if not self.room[i]:
                    self.opened[i] = "full"

    def happens(self, what: str, i: int) -> None:
        if what == "pulled":
            self.here[i] = False
            self.opened[i] = self.opened[i] and "failed"
        elif what == "plugged":
            self.here[i] = True
        elif what == "engine died":
            self.opened, self.mode = [None] * len(self.room), None
        elif what == "lost" and not self.use[i].ended:
            self.here[i], self.use[i] = False, Use.LOST
            self.opened[i] = self.opened[i] and "failed"
        elif what == "unloaded" and self.use[i] is Use.LOADED:
            self.unload(i, damaged=False)
        elif what == "unloaded unsaid" and self.use[i] is Use.LOADED:
            self.done, self.held[i] = self.done + self.held[i], 0
        elif what == "damaged" and self.use[i] is Use.LOADED:
            self.unload(i, damaged=True)
        elif what == "given again":
            self.here[i], self.room[i] = True, self.room[i] + 2
            self.use[i] = Use.LOADING if self.use[i] in (Use.LOADING, Use.LOADED) else Use.PLANNED

    def unload(self, i: int, *, damaged: bool) -> None:
        lost = self.held[i] // 2 if damaged else 0
        self.done, self.pending = self.done + self.held[i] - lost, self.pending + lost
        self.held[i], self.use[i] = 0, Use.UNLOADED

    def help(self, waiting: Waiting | None) -> None:
        """What the words on the screen ask for."""
        if waiting is Waiting.CARRY:
            self.happens("unloaded", next(i for i, held in enumerate(self.held) if held))
        elif waiting is Waiting.PLUG_IN:
            self.here = [True] * len(self.room)
        elif waiting is Waiting.NO_ROOM:
            self.rest = True


EVENTS = st.sampled_from(
    ["nothing", "pulled", "plugged", "engine died", "lost", "unloaded", "unloaded unsaid", "damaged", "given again"]
)


@given(
    st.integers(0, 9),
    st.lists(st.integers(0, 5), min_size=1, max_size=3),
    st.booleans(),
    st.lists(st.tuples(EVENTS, st.integers(0, 2)), max_size=30),
)
def test_whatever_happens_it_ends_for_who_does_as_he_is_told(
    chunks: int, room: list[int], rest: bool, events: list[tuple[str, int]]
) -> None:
    world = World(chunks, room, rest)
    for what, device in events:
        world.happens(what, device % len(room))
        world.look()
        world.work()
        assert world.pending + world.done + sum(world.held) == chunks
    for _ in range(60):
        decision = world.look()
        world.work()
        world.help(decision.waiting)
    assert world.done == chunks, world
    assert world.look() == Decision(mode=world.look().mode)
    assert all(use.ended or use is Use.PLANNED for use in world.use)
