"""What the VDISKs of a VM hold, from a random sample of chunks, read politely on the VM's own host.

The engine is put on the host for the time of it, as for a migration, and reads as a migration does: raw VDISKs past
QEMU, others through QEMU's read-only export. It reads, tries compression, and answers with figures and hashes, never
with content. Nothing of it stays: not after an error, and after a kill a guard removes it.
"""

import functools
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import libvirt

from drover.engine.client import Endpoint, EngineClient
from drover.engine.launcher import EngineHome
from drover.engine.status import SampleStatus
from drover.engine.volume import live_volumes, open_volume
from drover.errors import EngineError
from drover.estimator.content import CHUNK, chunks_needed, contents, divide
from drover.estimator.observe import refuse_migrating
from drover.guard import EngineErrand, Errand, Watch
from drover.model.observation import Chunk, Content, VdiskSample
from drover.model.vm import Vdisk, Vm
from drover.platforms.libvirt.capture import Capture, export_socket
from drover.platforms.libvirt.connection import open_uri
from drover.platforms.libvirt.host import host_of
from drover.platforms.libvirt.inventory import describe, find_domain
from drover.store import ObservationStore

POLITE = 50_000_000
"""Bytes/s that are read unless something else is said: a fifth of what a modest disk gives."""
_POLL = 0.2
_MOST = 16384
"""Chunks that an engine takes as one sample."""


def sample(
    store: ObservationStore,
    uri: str,
    observation: str,
    *,
    precision: float = 0.02,
    rate: int = POLITE,
    on_progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> list[Content]:
    """Samples the VDISKs of the VM of an observation, which is kept with it: shares to ±`precision` over the VM.

    Reads at most `rate` bytes/s; `on_progress` gets bytes read and bytes to read. Raises InputError if the VM migrates,
    DroverError if something refuses.
    """
    seen = store.get(observation)
    with ExitStack() as stack:
        connection = open_uri(uri)
        stack.callback(connection.close)
        domain = find_domain(connection, seen.uuid)
        refuse_migrating(store, {seen.uuid: domain})
        vm = describe(domain)
        vdisks = [vdisk for vdisk in vm.vdisks if vdisk.replicable]
        client, endpoints = stack.enter_context(_reading(uri, domain, vm, vdisks, seen.id))
        samples = _samples(client, vdisks, endpoints, precision, rate, on_progress)
        found = contents(samples)
        store.add([(seen.id, one) for one in samples])
        store.add([(seen.id, one) for one in found])
        return found


def _samples(
    client: EngineClient,
    vdisks: list[Vdisk],
    endpoints: dict[str, Endpoint],
    precision: float,
    rate: int,
    on_progress: Callable[[int, int], None],
) -> list[VdiskSample]:
    """One VDISK after the other: two at a time would read twice as fast."""
    counts = _counts(vdisks, precision)
    samples: list[VdiskSample] = []
    whole = sum(counts.values()) * CHUNK
    for vdisk in vdisks:
        if counts[vdisk.name]:
            report = functools.partial(_report, on_progress, sum(sample.read_bytes for sample in samples), whole)
            number = client.start_sample(
                endpoints[vdisk.name], size=vdisk.size, chunks=counts[vdisk.name], seed=secrets.randbits(53), rate=rate
            )
            samples.append(_sample(vdisk, _await(client, number, vdisk.name, report)))
    return samples


def _counts(vdisks: list[Vdisk], precision: float) -> dict[str, int]:
    """Chunks to read of each; no more than are allocated will be."""
    populations = {vdisk.name: -(-(vdisk.allocated or vdisk.size) // CHUNK) for vdisk in vdisks}
    parts = divide(chunks_needed(precision, sum(populations.values())), populations)
    # Bytes may be scattered over more chunks than could hold them: where all are wanted, all are asked for.
    wanted = {
        vdisk.name: -(-vdisk.size // CHUNK) if parts[vdisk.name] == populations[vdisk.name] else parts[vdisk.name]
        for vdisk in vdisks
    }
    return {name: min(_MOST, count) for name, count in wanted.items()}


def _report(on_progress: Callable[[int, int], None], before: int, whole: int, read: int) -> None:
    on_progress(before + read, whole)


@contextmanager
def _reading(
    uri: str, domain: libvirt.virDomain, vm: Vm, vdisks: list[Vdisk], key: str
) -> Iterator[tuple[EngineClient, dict[str, Endpoint]]]:
    """An engine on the VM's host, and where it finds the VDISKs."""
    names = [vdisk.name for vdisk in vdisks]
    host, guard = host_of(uri), Watch()
    home = EngineHome(host, key, "sample")
    capture = Capture(domain, names, export_socket(host, domain.ID()), owner=key)
    # The exports first: a client may hold them.
    guard.set([
        Errand(uri=uri, vm=vm.uuid, vdisks=names, sampling=key),
        EngineErrand(uri=uri, engine=key, role=home.role),
    ])  # fmt: skip
    try:
        client = home.start()
        try:
            yield client, live_volumes(home, capture, names) if vm.running else _stopped_volumes(home, vdisks)
        finally:
            client.close()
    finally:
        # After an error here the guard, still armed, tries once more when we are gone.
        if domain.isActive():
            capture.close()
        home.remove()
        host.close()
        guard.set([])


def _stopped_volumes(home: EngineHome, vdisks: list[Vdisk]) -> dict[str, Endpoint]:
    return {one.name: open_volume(home, one.name, path=one.path, format=one.format, writable=False) for one in vdisks}


def _await(client: EngineClient, number: int, vdisk: str, on_read: Callable[[int], None]) -> SampleStatus:
    try:
        while True:
            status = client.sample(number)
            on_read(status.read_bytes)
            if status.state == "done":
                return status
            if status.state == "failed":
                raise EngineError(
                    f"sampling the content of {vdisk} failed: {status.error or 'without a word'}",
                    remedy="see whether its host can read it, then ask again",
                )
            time.sleep(_POLL)
    finally:
        # An engine that is gone has forgotten it anyway.
        with suppress(EngineError):
            client.remove_sample(number)


def _sample(vdisk: Vdisk, status: SampleStatus) -> VdiskSample:
    return VdiskSample(
        vdisk=vdisk.name,
        at=time.time(),
        size=vdisk.size,
        allocated=status.allocated_bytes,
        allocated_chunks=status.allocated_chunks,
        read_bytes=status.read_bytes,
        read_seconds=status.read_seconds,
        speeds=status.speeds,
        chunks=[
            Chunk(
                offset=chunk.offset,
                length=chunk.bytes,
                zero_bytes=chunk.zero_bytes,
                lz4_bytes=chunk.lz4_bytes,
                zstd_bytes=chunk.zstd_bytes,
                hash=chunk.hash,
            )
            for chunk in status.chunks
        ],
    )
