"""One run of one migration by this process: its two sides, the VM, the capture of its writes."""

import time
from types import TracebackType
from typing import Self

import libvirt

from drover.engine.client import Endpoint
from drover.engine.join import addresses, join
from drover.engine.status import EngineStatus
from drover.engine.volume import close_volume, live_volumes, open_volume
from drover.errors import MigrationError
from drover.guard import Guard
from drover.model.migration import Facts, Migration, ReplicaVdisk, State
from drover.model.units import format_rate
from drover.platforms.libvirt.capture import Capture, export_socket
from drover.platforms.libvirt.host import address_of
from drover.platforms.libvirt.inventory import find_domain
from drover.replicator.barrier import Barrier
from drover.replicator.events import Message, Observer
from drover.replicator.side import Side
from drover.replicator.tally import Tally
from drover.store import MigrationStore


class Run:
    """Everything that the steps of a migration share. Opening raises InputError if a site cannot be reached."""

    def __init__(self, store: MigrationStore, migration: Migration, observe: Observer) -> None:
        self.store = store
        self.migration = migration
        self.observe = observe
        self.source = Side("source", migration.spec.source, migration.id)
        self.destination = Side("destination", migration.spec.destination, migration.id)
        self.domain: libvirt.virDomain = find_domain(self.source.connection, migration.facts.uuid)
        self._paced: tuple[int | None, int | None] = (None, None)
        """What the source's engine was told: of the background, of all."""
        self.barrier = Barrier(migration, store.folder)
        self.tally = Tally(migration.facts.totals)
        self.guard = Guard(self.source.uri, migration.facts.uuid, self.vdisk_names)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.guard.disarm()
        self.source.close()
        self.destination.close()

    @property
    def facts(self) -> Facts:
        return self.migration.facts

    @property
    def vdisks(self) -> list[ReplicaVdisk]:
        return self.migration.facts.vdisks

    @property
    def vdisk_names(self) -> list[str]:
        return [vdisk.name for vdisk in self.vdisks]

    def save(self) -> None:
        """Makes the facts durable."""
        self.store.save(self.migration)

    def enter(self, state: State, reason: str | None = None, remedy: str | None = None) -> None:
        """Changes state, durably, and says so."""
        changed = self.migration.state != state
        self.store.enter(self.migration, state, reason=reason, remedy=remedy)
        if changed or reason:
            self.observe(Message(migration=self.migration.id, text=reason or str(state), state=state))

    def say(self, text: str) -> None:
        """Tells the administrator, and remembers it."""
        self.store.note(self.migration, text)
        self.observe(Message(migration=self.migration.id, text=text, state=self.migration.state))

    @property
    def process(self) -> int:
        """Number of the VM's hypervisor process among those of its host, as it is now; -1 if it has none.

        A libvirt domain object keeps the number that it was looked up with.
        """
        return int(find_domain(self.source.connection, self.facts.uuid).ID())

    def capture(self) -> Capture:
        """The capture of the VM as it runs now."""
        return Capture(self.domain, self.vdisk_names, export_socket(self.source.host, self.process))

    def connect_engines(self) -> None:
        """Starts both engines if need be and joins them, under a new fencing token and new certificates.

        Raises EngineError if the source's engine reaches none of the destination's addresses.
        """
        spec, facts = self.migration.spec, self.facts
        facts.token += 1
        self.save()
        for side in (self.source, self.destination):
            side.drop_engine()
        known = spec.destination_address or facts.address
        named = address_of(spec.destination)
        facts.address = join(
            self.source.engine,
            self.destination.engine,
            [known] if known else [*([named] if named else []), *addresses(self.destination.host)],
            migration=self.migration.id,
            token=facts.token,
            connections=spec.connections,
            compression=spec.compression,
        )
        self.pace(background=None)
        self.save()

    @property
    def bandwidth(self) -> int | None:
        """Bytes/s of the link that the administrator lets this migration use now; None for no limit."""
        return self.migration.spec.bandwidth_at(time.time())

    def pace(self, *, background: int | None) -> None:
        """Limits the source's engine: the background as given, bytes/s, all of it as the administrator says."""
        self._paced = background, self.bandwidth
        self.source.engine.pace(background=background, link=self._paced[1])

    def follow_the_clock(self) -> tuple[int | None, int | None] | None:
        """Changes the engine's limit if it is another one by now: those before and after, bytes/s; else None."""
        background, before = self._paced
        now = self.bandwidth
        if now == before:
            return None
        self.pace(background=background)
        self.say(f"by its schedule it may use {'all' if now is None else format_rate(now)} of the link from now on")
        return before, now

    def put_destination(self) -> None:
        """Tells the destination's engine where each VDISK goes."""
        known = self.destination.engine.status().vdisks
        for vdisk in self.vdisks:
            assert vdisk.path is not None
            if vdisk.name not in known:
                # An NBD server that outlived its engine may still be at a write, which must not land on a newer one.
                close_volume(self.destination.home, vdisk.name)
            endpoint = open_volume(
                self.destination.home, vdisk.name, path=vdisk.path, format=vdisk.format, writable=True
            )
            self.destination.engine.put_vdisk(vdisk.name, size=vdisk.size, endpoint=endpoint)

    def put_source(self, endpoints: dict[str, Endpoint]) -> None:
        """Tells the source's engine where to read each VDISK."""
        label = self.migration.id if self.migration.spec.devices else None
        for vdisk in self.vdisks:
            self.source.engine.put_vdisk(
                vdisk.name,
                size=vdisk.size,
                endpoint=endpoints[vdisk.name],
                on_read_error=self.migration.spec.on_read_error,
                label=label,
            )

    def live_endpoints(self, capture: Capture) -> dict[str, Endpoint]:
        """Where to read the VDISKs of the running VM."""
        return live_volumes(self.source.home, capture, self.vdisk_names)

    def stopped_endpoints(self) -> dict[str, Endpoint]:
        """The VDISKs of a VM that has no hypervisor process, opened read-only on its host."""
        return {
            vdisk.name: open_volume(
                self.source.home, vdisk.name, path=vdisk.source_path, format=vdisk.source_format, writable=False
            )
            for vdisk in self.vdisks
        }

    def wait_for_link(self, timeout: float) -> EngineStatus:
        """The source engine's status once its link is up. Raises MigrationError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            status = self.source.engine.status()
            if status.link.state == "up":
                return status
            if time.monotonic() > deadline:
                raise MigrationError(
                    f"the link between the sites is {status.link.state}: {status.link.reason or 'no answer'}",
                    remedy=f"repair the network, then `drover resume {self.migration.id}`",
                )
            time.sleep(0.1)
