"""Measures the link between two hosts with the engines themselves, encrypted: bulk over more and more connections, then
epochs of small blocks. Nothing is read from a VM and nothing is stored. Nothing stays on either host: not after an
error, and after a kill a guard removes it."""

import contextlib
import secrets
from collections.abc import Callable, Iterator, Sequence

from drover.engine.join import addresses, join
from drover.engine.launcher import EngineHome
from drover.errors import HostError, InputError
from drover.estimator.prober import Prober
from drover.estimator.tuning import SYSCTLS, Buffers
from drover.guard import EngineErrand, Watch
from drover.model.observation import LinkObservation
from drover.model.units import format_size
from drover.platforms.libvirt.host import Host, address_of, host_of

BUDGET = 256 << 20
"""Bytes that a probe sends at most, if nothing else is asked for."""
LEAST_BUDGET = 16 << 20
SHARE = 0.5
CONNECTIONS = (1, 2, 4, 8, 16)

Progress = Callable[[float, str], None]
"""Told how much is done, 0 to 1, and what is being done, in words for people."""


def probe(
    source_uri: str,
    destination_uri: str,
    *,
    budget: int = BUDGET,
    share: float = SHARE,
    bandwidth_limit: int | None = None,
    destination_address: str | None = None,
    connections: Sequence[int] = CONNECTIONS,
    on_progress: Progress | None = None,
) -> LinkObservation:
    """Probes the link between the hosts of two libvirt URIs.

    At most `budget` bytes are sent. Runs are as fast as the link, since nothing else tells what it gives, but pauses
    between them keep the mean to `share` (0 to 1) of that; `bandwidth_limit` (bytes/s) holds the runs back, too, and
    then hides what the link could do. Raises InputError, HostError or EngineError; whatever happens, Ctrl-C and a kill
    included, the engines and their folders are removed from both hosts.
    """
    _check(budget, share, bandwidth_limit, connections)
    name = f"probe-{secrets.token_hex(4)}"
    with contextlib.ExitStack() as stack:
        homes = stack.enter_context(_homes(name, source_uri, destination_uri))
        source, destination = (stack.enter_context(contextlib.closing(home.start())) for home in homes)
        candidates = _candidates(homes[1].host, destination_uri, destination_address)
        join(source, destination, candidates, migration=name, token=1, connections=1, compression="none")
        prober = Prober(
            (homes[0].host, source),
            (homes[1].host, destination),
            budget=budget,
            share=share,
            limit=bandwidth_limit,
            on_progress=on_progress or (lambda _share, _words: None),
        )
        buffers = (socket_buffers(homes[0].host), socket_buffers(homes[1].host))
        return prober.run((source_uri, destination_uri), sorted(set(connections)), buffers)


@contextlib.contextmanager
def _homes(name: str, source_uri: str, destination_uri: str) -> Iterator[tuple[EngineHome, EngineHome]]:
    """Folders for the engines of both ends, removed in the end however far their start got."""
    guard = Watch()
    with contextlib.ExitStack() as stack:
        hosts = [stack.enter_context(contextlib.closing(host_of(uri))) for uri in (source_uri, destination_uri)]
        source, destination = EngineHome(hosts[0], name, "source"), EngineHome(hosts[1], name, "destination")
        # Before anything is there. After an error in removing it, the guard, still armed, tries once more when we are
        # gone.
        guard.set([
            EngineErrand(uri=source_uri, engine=name, role=source.role),
            EngineErrand(uri=destination_uri, engine=name, role=destination.role),
        ])  # fmt: skip
        try:
            yield source, destination
        finally:
            with contextlib.ExitStack() as ends:
                ends.callback(source.remove)
                ends.callback(destination.remove)
            guard.set([])


def socket_buffers(host: Host) -> Buffers | None:
    """What the kernel of a host allows the buffers of a connection; None if it does not say."""
    try:
        told = host.run("sysctl", *SYSCTLS, check=False)
    except HostError:
        return None
    return Buffers.parse(told.stdout.decode(errors="replace"))


def _candidates(host: Host, uri: str, given: str | None) -> list[str]:
    """The addresses by which the source may reach the host. Raises HostError if there are none."""
    if given is not None:
        candidates = [given]
    else:
        named, own = address_of(uri), addresses(host)
        candidates = own if named is None or named in own else [named, *own]
    # Twice the same one: a single candidate would be taken on trust.
    return candidates if len(candidates) > 1 else candidates * 2


def _check(budget: int, share: float, limit: int | None, connections: Sequence[int]) -> None:
    if budget < LEAST_BUDGET:
        raise InputError(
            f"probing a link with {format_size(budget)} would show nothing",
            remedy=f"give the probe {format_size(LEAST_BUDGET)} or more",
        )
    if not 0 < share <= 1:
        raise InputError(f"a probe cannot take {share:g} of a link", remedy="give more than 0 and at most 1")
    if limit is not None and limit < 1:
        raise InputError("a probe cannot do with no bandwidth at all", remedy="give it some, or leave the limit out")
    if not connections or not all(1 <= number <= 64 for number in connections):
        raise InputError("a probe needs numbers of connections to try", remedy="give some from 1 to 64")
