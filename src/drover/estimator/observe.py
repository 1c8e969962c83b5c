"""Observation mode: running VMs are watched, not touched. Their hypervisors count anyway; this reads the counts.

Each second: the I/O totals of each VDISK and the counts of its dirty bitmaps (`windows.py` says which). What was seen
is in the database every few seconds, so that a Drover that dies loses no more than that; a guard then removes the
bitmaps.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field

import libvirt

from drover.errors import DroverError, InputError, PlatformError
from drover.estimator.windows import FOREVER, Window, interval, windows
from drover.guard import Errand, Watch
from drover.model.observation import DirtySample, IoSample, VmObservation
from drover.model.vm import Vm
from drover.platforms.libvirt.connection import open_uri
from drover.platforms.libvirt.inventory import describe, find_domain, io_statistics, is_running
from drover.platforms.libvirt.observation import ObservationBitmaps, remove_bitmaps
from drover.store import MigrationStore, ObservationStore

INTERRUPTED = "it was interrupted"
_OFF = "the VM is switched off"
_SAVE_EVERY = 5.0
"""Seconds of samples that are lost if Drover is killed. Each saving costs the disk a flush."""
_AT_ONCE = 16
"""VMs that are asked at the same moment: over a long line an answer takes its time."""


@dataclass(frozen=True)
class VmProgress:
    """What was seen of one VM so far, in bytes."""

    vm: str
    written: int
    distinct: int
    """Of the bytes written, in blocks of 64 KiB: what is written twice counts once."""
    ended_because: str


@dataclass(frozen=True)
class Progress:
    """How far an observation is. `seconds` of `of`."""

    seconds: float
    of: float
    vms: list[VmProgress]


def observe(
    store: ObservationStore,
    uri: str,
    vms: list[str],
    seconds: float,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> list[VmObservation]:
    """Watches these VMs of a site, by name or UUID, all at once, and returns what it saw of each, in their order.

    A VM that stops or is started anew is seen until then (`ended_because`); one that is switched off writes nothing.
    Ctrl-C ends it early and keeps what was seen. Raises InputError if a VM is not there, migrates, or is being observed
    already, PlatformError if bitmaps of ours could not be removed.
    """
    connection = open_uri(uri)
    with ExitStack() as stack:
        stack.callback(connection.close)
        domains = {domain.UUIDString(): domain for domain in (find_domain(connection, vm) for vm in vms)}
        refuse_migrating(store, domains)
        for uuid, domain in domains.items():
            for orphan in stack.enter_context(store.observing(uuid)):
                _free(domain, orphan)
        subjects = [_begin(store, uri, domain, seconds) for domain in domains.values()]
        _watch(store, uri, subjects, seconds, on_progress)
        return [store.get(subject.id) for subject in subjects]


def refuse_migrating(store: ObservationStore, domains: dict[str, libvirt.virDomain]) -> None:
    """Nothing would break, but what a VM does while it is copied and slowed says little about what it does alone."""
    for migration in MigrationStore(store.folder).all(include_ended=False):
        if domain := domains.get(str(migration.facts.uuid)):
            raise InputError(
                f"{domain.name()} is migrating as {migration.id} ({migration.state}) and cannot be observed",
                remedy=f"see `drover status {migration.id}`",
            )


def _begin(store: ObservationStore, uri: str, domain: libvirt.virDomain, seconds: float) -> "_Subject":
    vm = describe(domain)
    subject = _Subject(store.begin(vm, uri), domain, vm, windows(seconds))
    if not vm.running:
        subject.ended_because = _OFF
    elif not subject.vdisks:
        subject.ended_because = "none of its VDISKs can be replicated"
    return subject


@dataclass
class _Subject:
    """One VM that is observed."""

    id: str
    domain: libvirt.virDomain
    vm: Vm
    lengths: tuple[float, ...]
    ended_because: str = ""
    samples: list[IoSample | DirtySample] = field(default_factory=list)
    """Not saved yet."""
    windows: list[Window] = field(default_factory=list)
    first: int | None = None
    """Bytes that the VM had written when it was seen first."""
    written: int = 0
    distinct: int = 0

    def __post_init__(self) -> None:
        self.vdisks = [vdisk.name for vdisk in self.vm.vdisks if vdisk.replicable]
        self.bitmaps = ObservationBitmaps(self.domain, self.vdisks, self.id, self.lengths)
        # Two clocks: windows are measured by one that does not jump.
        self.epoch = time.time() - time.monotonic()

    def begin(self) -> None:
        with self._ending():
            before = time.monotonic()
            self.bitmaps.start()
            now = (before + time.monotonic()) / 2
            self.windows = [Window(length, now) for length in self.lengths]
            self._read_io()

    def look(self, every: float) -> None:
        """One sample; `every` is how many seconds there are between two."""
        with self._ending():
            before = time.monotonic()
            counts = self.bitmaps.read()
            now = (before + time.monotonic()) / 2
            if counts is None:
                self.ended_because = "the VM was started anew, or a snapshot of it was taken or ended"
                return
            self._record(counts, now, every)
            over = [window for window in self.windows if window.is_over(now, every)]
            if over:
                before = time.monotonic()
                self.bitmaps.clear([window.length for window in over])
                for window in over:
                    window.clear((before + time.monotonic()) / 2)
            self._read_io()

    def _record(self, counts: dict[str, dict[float, int]], now: float, every: float) -> None:
        at = self.epoch + now
        self.distinct = sum(count[FOREVER] for count in counts.values())
        for window in self.windows:
            if not window.is_due(now, every):
                continue
            age = round(window.record(now), 3)
            self.samples += [
                DirtySample(vdisk=vdisk, at=at, window=age, bytes=count[window.length])
                for vdisk, count in counts.items()
            ]

    def _read_io(self) -> None:
        total = 0
        for vdisk in self.vdisks:
            io = io_statistics(self.domain, vdisk)
            self.samples.append(IoSample(vdisk=vdisk, at=self.epoch + time.monotonic(), **vars(io)))
            total += io.write_bytes
        self.first = total if self.first is None else self.first
        self.written = total - self.first

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """What QEMU or libvirt refuses ends the observation of this VM, and of no other."""
        try:
            yield
        except PlatformError as error:
            self.ended_because = error.message
            with suppress(PlatformError):
                if not is_running(self.domain):
                    self.ended_because = _OFF


def _watch(
    store: ObservationStore,
    uri: str,
    subjects: list[_Subject],
    seconds: float,
    on_progress: Callable[[Progress], None],
) -> None:
    """Looks at the VMs until the time is over, and leaves nothing in them, however it ends."""
    guard = Watch()
    seen = [subject for subject in subjects if not subject.ended_because]
    try:
        guard.set([Errand(uri=uri, vm=one.vm.uuid, vdisks=one.vdisks, observation=one.id) for one in seen])
        with ThreadPoolExecutor(max(1, min(_AT_ONCE, len(seen)))) as pool:
            list(pool.map(_Subject.begin, seen))
            _look(store, pool, subjects, seconds, on_progress)
    except KeyboardInterrupt:
        for subject in _going(subjects):
            subject.ended_because = INTERRUPTED
    finally:
        try:
            _remove(uri, seen)
            # Not after an error: the guard tries once more when we are gone.
            guard.set([])
        finally:
            _save(store, subjects)
            for subject in subjects:
                store.end(subject.id, because=subject.ended_because)


def _look(
    store: ObservationStore,
    pool: ThreadPoolExecutor,
    subjects: list[_Subject],
    seconds: float,
    on_progress: Callable[[Progress], None],
) -> None:
    began = saved = then = time.monotonic()
    while _going(subjects) and then - began < seconds:
        every = interval(then - began)
        then = max(min(then + every, began + seconds), time.monotonic())
        time.sleep(max(0.0, then - time.monotonic()))
        list(pool.map(lambda subject, every=every: subject.look(every), _going(subjects)))
        if time.monotonic() - saved >= _SAVE_EVERY:
            _save(store, subjects)
            saved = time.monotonic()
        progress = [VmProgress(one.vm.name, one.written, one.distinct, one.ended_because) for one in subjects]
        on_progress(Progress(then - began, seconds, progress))


def _going(subjects: Sequence[_Subject]) -> list[_Subject]:
    return [subject for subject in subjects if not subject.ended_because]


def _save(store: ObservationStore, subjects: Sequence[_Subject]) -> None:
    store.add([(subject.id, sample) for subject in subjects for sample in subject.samples])
    for subject in subjects:
        subject.samples.clear()


def _remove(uri: str, subjects: Sequence[_Subject]) -> None:
    failed = []
    for subject in subjects:
        try:
            try:
                _free(subject.domain, subject.id)
            except PlatformError:
                # A libvirt daemon that was restarted answers on a new connection only.
                with closing(open_uri(uri)) as connection:
                    _free(find_domain(connection, subject.vm.uuid), subject.id)
        except DroverError as error:
            failed.append(f"{subject.vm.name}: {error.message}")
    if failed:
        raise PlatformError(
            f"bitmaps of an observation could not be removed: {'; '.join(failed)}",
            remedy="`drover clean VM --from URI` removes them; so does a restart of the VM",
        )


def _free(domain: libvirt.virDomain, observation: str) -> None:
    if is_running(domain):
        remove_bitmaps(domain, observation)
