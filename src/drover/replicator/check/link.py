"""Whether the engines can run on both hosts and reach each other: both are started for a moment, and joined."""

import secrets

from drover.engine.join import addresses, join
from drover.engine.launcher import EngineHome
from drover.model.migration import Spec
from drover.platforms.libvirt.host import Host, address_of
from drover.replicator.check.report import Report


def check(report: Report, spec: Spec, hosts: tuple[Host, Host]) -> None:
    """Leaves nothing on either host."""
    trial = f"check-{secrets.token_hex(4)}"
    homes = [EngineHome(host, trial, role) for host, role in zip(hosts, ("source", "destination"), strict=True)]
    try:
        _join(report, spec, *homes)
    finally:
        for home in homes:
            home.remove()


def _join(report: Report, spec: Spec, source: EngineHome, destination: EngineHome) -> None:
    named = spec.destination_address or address_of(spec.destination)
    candidates = [spec.destination_address] if spec.destination_address else addresses(destination.host)
    if named is not None and named not in candidates:
        candidates = [named, *candidates]
    with_source, with_destination = source.start(), destination.start()
    # Twice the same one: a single candidate would be taken on trust.
    address = join(
        with_source,
        with_destination,
        candidates if len(candidates) > 1 else candidates * 2,
        migration="check",
        token=1,
        connections=1,
        compression="auto",
    )
    report.good("engines", f"the source's engine reaches the destination's at {address}")
