"""The course of a probe over two engines that are joined already: idle round trip, bulk, a gentle run, epochs."""

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator

from drover.engine.client import EngineClient, discard, pattern
from drover.engine.status import EngineStatus, LinkStatus, TcpTotals
from drover.errors import EngineError, HostError
from drover.estimator.path import Watch, between
from drover.estimator.rates import Reading, is_known, mean, steady, width_for, windows
from drover.estimator.tuning import Buffers, HeldUp, buffer_advice
from drover.model.observation import Interval, LinkObservation, Probe, Workload
from drover.model.units import format_count
from drover.platforms.libvirt.host import Host

_BLOCK = 64 << 10
_CHUNK = 512 << 10
_EPOCHS = 256
"""Blocks of the largest epoch; smaller ones have a sixteenth of it, and one."""
_RUN_SECONDS = 8.0
"""A run of bulk that is not precise by then will not become so by a little more."""
_IDLE_SECONDS = 2.0
_LONGEST_REST = 20.0
_LOOK = 0.025
_QUICK_LOOK = 0.005
"""While a run has not lasted long: on a fast link it may be over soon."""
_PATIENCE = 30.0
_GENTLE = 0.6
"""Share of the rate at which no queue builds up: what is lost then is lost by the path, not by the probe itself."""
_GENTLE_SECONDS = 10.0


class Prober:
    """One probe; each end is the host and the client of its engine."""

    def __init__(
        self,
        source: tuple[Host, EngineClient],
        destination: tuple[Host, EngineClient],
        *,
        budget: int,
        share: float,
        limit: int | None,
        on_progress: Callable[[float, str], None],
    ) -> None:
        self._ends = (source, destination)
        self._source, self._destination = source[1], destination[1]
        self._pids = [(host, client.info().pid) for host, client in self._ends]
        self._budget = self._left = budget
        self._share = share
        self._limit = limit
        self._on_progress = on_progress
        self._watch = Watch()
        self._vdisks = 0

    def run(
        self, uris: tuple[str, str], connections: list[int], buffers: tuple[Buffers | None, Buffers | None]
    ) -> LinkObservation:
        """All of it. Raises EngineError if the link breaks meanwhile."""
        self._source.pace(background=None, link=self._limit)
        self._tell("waiting for the round trip of the idle link")
        self._look_idle()
        bulk: list[tuple[Probe, TcpTotals]] = []
        for number in connections:
            rates = [probe.rate.value for probe, _ in bulk]
            # Two doublings that bring less than 5 %.
            if len(rates) > 2 and max(rates[-2:]) < 1.05 * max(rates[:-2]):
                break
            self._tell(f"bulk over {format_count(number, 'connection')}")
            runs_left = len(connections) - len(bulk)
            bulk.append(self._bulk(number, max(self._left - self._budget * 2 // 5, 0) // runs_left))
        found = LinkObservation(
            source=uris[0],
            destination=uris[1],
            at=time.time(),
            state=self._watch.state(),
            probes=[probe for probe, _ in bulk],
        )
        self._connect(found.knee)
        epochs = self._epochs(found.knee, found.bulk[found.knee].rate.value)
        self._on_progress(1.0, "done")
        advice = self._advice(found, bulk, buffers)
        after = {"state": self._watch.state(), "probes": [*found.probes, *epochs], "advice": advice}
        return found.model_copy(update=after)

    def _advice(
        self,
        found: LinkObservation,
        bulk: list[tuple[Probe, TcpTotals]],
        buffers: tuple[Buffers | None, Buffers | None],
    ) -> list[str]:
        knee = found.bulk[found.knee]
        tcp = next(tcp for probe, tcp in bulk if probe is knee)
        busy = max(tcp.busy_seconds, 1e-9)
        return buffer_advice(
            rate=knee.rate.value,
            round_trip=found.state.round_trip.value,
            connections=found.knee,
            held_up=HeldUp(tcp.receiver_limited_seconds / busy, tcp.sender_limited_seconds / busy),
            sender=buffers[0],
            receiver=buffers[1],
        )

    def _tell(self, words: str) -> None:
        self._on_progress(min(max(1 - self._left / self._budget, 0.0), 1.0), words)

    def _look(self, *, idle: bool = False, busy: bool = False) -> EngineStatus:
        """The source's engine now. Raises EngineError if its session is not the first any more."""
        status = self._source.status()
        if status.link.state != "up" or status.link.reconnects:
            raise EngineError(
                f"the link between the hosts broke while it was probed: {status.link.reason or 'it was made anew'}",
                remedy="probe again when it holds",
            )
        self._watch.see(status.link, idle=idle, busy=busy)
        return status

    def _look_idle(self) -> None:
        begun = time.monotonic()
        while time.monotonic() < begun + _IDLE_SECONDS or not self._watch.is_known:
            self._look(idle=True)
            if time.monotonic() > begun + _PATIENCE:
                raise EngineError(
                    f"the link between the hosts has shown no round trip for {_PATIENCE:.0f} s",
                    remedy="see whether its kernel tells TCP_INFO, and probe again",
                )
            time.sleep(_LOOK)

    def _connect(self, connections: int) -> None:
        self._source.set_connections(connections)
        deadline = time.monotonic() + _PATIENCE
        while (up := self._look().link.connections) != connections:
            if time.monotonic() > deadline:
                raise EngineError(
                    f"of {format_count(connections, 'connection')} to be probed {up} came up in {_PATIENCE:.0f} s",
                    remedy="see whether something between the hosts limits their number",
                )
            time.sleep(_LOOK)

    @contextlib.contextmanager
    def _pattern(self, size: int) -> Iterator[str]:
        """A VDISK of a pattern that is being copied; what was not sent when the block ends is not sent."""
        self._vdisks += 1
        name = f"probe-{self._vdisks}"
        self._destination.put_vdisk(name, size=size, endpoint=discard())
        self._source.put_vdisk(name, size=size, endpoint=pattern(secrets.randbits(32)))
        self._source.background(name, "copy")
        yield name
        self._source.remove_vdisk(name)

    def _bulk(self, connections: int, most: int) -> tuple[Probe, TcpTotals]:
        """Sends at most so many bytes, until the rate is known; also what TCP did for it."""
        self._connect(connections)
        size = max(most // _CHUNK, 1) * _CHUNK
        cpu, begun = self._cpu_seconds(), time.time()
        before = self._look().link
        readings, fed = [_reading(before)], 0
        with self._pattern(size) as name:
            while True:
                # Not before something arrived: until then no queue can have built up.
                status = self._look(busy=readings[-1].bytes > readings[0].bytes)
                readings.append(_reading(status.link))
                vdisk = status.vdisks[name]
                _raise_held(vdisk.error.message if vdisk.error else None)
                if vdisk.sent.raw_bytes < size:
                    fed = len(readings)
                rates = self._rates(readings[:fed], connections)
                seconds = readings[-1].at - readings[0].at
                # What is through within a look may have arrived before the kernel tells so.
                done = vdisk.background.state == "done" and readings[-1].bytes > readings[0].bytes
                if done or seconds > _RUN_SECONDS or is_known(rates):
                    break
                time.sleep(_LOOK if seconds > 40 * _LOOK else _QUICK_LOOK)
        # Connections that run dry one by one at the end would make it look slower.
        used = max(fed, _up_to(readings, 0.9))
        rates = self._rates(readings[:used], connections) or windows([readings[0], readings[-1]], 1e-3)
        tcp = between(before.tcp, self._drain().tcp)
        self._left -= tcp.sent_wire_bytes
        after = self._cpu_seconds()
        seconds = readings[-1].at - readings[0].at
        if not any(rates):
            raise EngineError(
                f"probing the link: nothing arrived over {format_count(connections, 'connection')} in {seconds:.0f} s",
                remedy="see what the link does with large packets (path MTU), and probe again",
            )
        probe = Probe(
            at=begun,
            workload=Workload.BULK,
            connections=connections,
            congestion=self._watch.congestion,
            bytes=tcp.sent_wire_bytes,
            seconds=seconds,
            rate=mean(rates),
            windows=rates,
            cpu_seconds=None if cpu is None or after is None else after - cpu,
        )
        self._rest(seconds)
        return probe, tcp

    def _rates(self, readings: list[Reading], connections: int) -> list[float]:
        round_trip = self._watch.round_trip
        used = steady(readings, round_trip=round_trip, connections=connections, mss=self._watch.mss)
        return windows(used, width_for(used, round_trip))

    def _drain(self) -> LinkStatus:
        """Waits until what was handed to the connections has arrived."""
        quiet = max(0.1, 2 * self._watch.round_trip)
        deadline = time.monotonic() + _PATIENCE
        before = self._look().link
        while time.monotonic() < deadline:
            time.sleep(quiet)
            link = self._look().link
            arrived = link.tcp.delivered_bytes - before.tcp.delivered_bytes
            # Heartbeats go on.
            if arrived < 4096 * max(link.connections, 1):
                return link
            before = link
        return before

    def _rest(self, seconds: float) -> None:
        """Leaves the link to others, so that the mean is no more than the share."""
        time.sleep(min(seconds * (1 / self._share - 1), _LONGEST_REST))

    def _epochs(self, connections: int, rate: float) -> list[Probe]:
        """Copies a VDISK gently, and then sends epochs of it that grow."""
        largest = int(min(_EPOCHS, self._budget >> 20, rate * _GENTLE_SECONDS / (4 * _BLOCK)))
        counts = sorted({1, max(largest // 16, 1), max(largest, 1)})
        size = int(max(2 * largest * _BLOCK, min(self._budget // 4, rate * _GENTLE * _GENTLE_SECONDS)))
        size = max(size // _CHUNK, 1) * _CHUNK
        self._tell("bulk held back, to see what is lost without a queue")
        before = self._drain()
        self._source.pace(background=max(int(rate * _GENTLE), 1), link=self._limit)
        probes: list[Probe] = []
        with self._pattern(size) as name:
            self._wait_copied(name, size / (rate * _GENTLE))
            self._watch.see_gentle(between(before.tcp, self._drain().tcp))
            for blocks, times in zip(counts, (5, 3, 2)[-len(counts) :], strict=True):
                self._tell(f"epochs of {blocks} blocks over {format_count(connections, 'connection')}")
                for _ in range(times):
                    probes.append(self._epoch(name, len(probes), blocks, connections))
                    self._rest(probes[-1].seconds)
        self._left -= between(before.tcp, self._look().link.tcp).sent_wire_bytes
        return probes

    def _wait_copied(self, name: str, expected: float) -> None:
        deadline = time.monotonic() + 3 * expected + _PATIENCE
        while (vdisk := self._look().vdisks[name]).state != "clean" or vdisk.background.state != "done":
            _raise_held(vdisk.error.message if vdisk.error else None)
            if time.monotonic() > deadline:
                raise EngineError(
                    f"probing the link: {vdisk.background.left_bytes} bytes did not arrive in the time that was "
                    "measured for them",
                    remedy="the link has become much slower; probe again",
                )
            time.sleep(_LOOK)

    def _epoch(self, name: str, number: int, blocks: int, connections: int) -> Probe:
        """Every other block, so that each travels by itself as in a VM that writes here and there."""
        begun = time.time()
        self._source.extents(name, number, [(2 * block * _BLOCK, _BLOCK) for block in range(blocks)])
        while True:
            vdisk = self._look().vdisks[name]
            _raise_held(vdisk.error.message if vdisk.error else None)
            epoch = vdisk.epoch
            if epoch is not None and epoch.number == number and epoch.state == "acknowledged":
                break
            time.sleep(_LOOK)
        carried = blocks * _BLOCK
        return Probe(
            at=begun,
            workload=Workload.EPOCH,
            connections=connections,
            congestion=self._watch.congestion,
            bytes=carried,
            seconds=epoch.seconds,
            rate=Interval.exactly(carried / max(epoch.seconds, 1e-6)),
            blocks=blocks,
        )

    def _cpu_seconds(self) -> float | None:
        """Processor time of both engines so far; None where a host does not tell."""
        ticks = 0
        for host, pid in self._pids:
            try:
                told = host.run("cat", f"/proc/{pid}/stat", check=False).stdout.decode(errors="replace")
            except HostError:
                return None
            fields = told.rpartition(")")[2].split()
            if len(fields) < 13:
                return None
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def _reading(link: LinkStatus) -> Reading:
    # The engine's own clock: an answer may be long on its way here.
    return Reading(link.since_seconds, link.tcp.delivered_bytes)


def _up_to(readings: list[Reading], share: float) -> int:
    """How many readings it took until so much of everything had arrived."""
    begin, end = readings[0].bytes, readings[-1].bytes
    return sum(reading.bytes <= begin + share * (end - begin) for reading in readings)


def _raise_held(why: str | None) -> None:
    if why is not None:
        raise EngineError(f"an engine stopped the probe of the link: {why}", remedy="see its reason, and probe again")
