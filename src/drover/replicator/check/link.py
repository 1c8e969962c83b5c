"""Whether the engines can run on both hosts and reach each other: both are started for a moment, and joined."""

import secrets
import time

from drover.engine.certificates import DESTINATION, issue
from drover.engine.launcher import EngineHome, addresses
from drover.model.migration import Spec
from drover.platforms.libvirt.host import Host, address_of
from drover.replicator.check.report import Report

_PATIENCE = 5.0
"""Seconds given to one address of the destination."""


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
    credentials = issue(source.path)
    with_source, with_destination = source.start(), destination.start()
    port = with_destination.listen("0.0.0.0:0", credentials[1], token=1).rpartition(":")[2]
    given = spec.destination_address or address_of(spec.destination)
    reason = None
    tried = [given] if given else addresses(destination.host)
    for address in tried:
        with_source.connect(
            f"{address}:{port}", credentials[0], server=DESTINATION, token=1, connections=1, compression="auto"
        )
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            link = with_source.status().link
            if link.state == "up":
                report.good("engines", f"the source's engine reaches the destination's at {address}")
                return
            reason = link.reason or reason
            time.sleep(0.05)
    report.bad(
        "engines",
        f"the source's engine does not reach the destination's at {' or '.join(tried)}: {reason or 'no answer'}",
        "open the way between the hosts (TCP, any port above 1023), or name an address with --destination-address",
    )
