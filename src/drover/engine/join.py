"""Joining two engines: the destination's listens, the source's tries the addresses by which it may reach it."""

import time

from drover.engine.certificates import DESTINATION, issue
from drover.engine.client import EngineClient
from drover.errors import EngineError, HostError
from drover.platforms.libvirt.host import Host

_PATIENCE = 6.0
"""Seconds given to one address."""


def join(
    source: EngineClient,
    destination: EngineClient,
    candidates: list[str],
    *,
    migration: str,
    token: int,
    connections: int,
    compression: str,
) -> str:
    """Gives both engines new certificates and a fencing token, and joins them; the address that worked.

    A single candidate is taken without waiting for it. Raises EngineError if none of several works.
    """
    credentials = issue(migration)
    port = destination.listen("0.0.0.0:0", credentials[1], token=token).rpartition(":")[2]
    reason = None
    for address in candidates:
        host = f"[{address}]" if ":" in address else address
        source.connect(
            f"{host}:{port}",
            credentials[0],
            server=DESTINATION,
            token=token,
            connections=connections,
            compression=compression,
        )
        if len(candidates) == 1:
            return address
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            link = source.status().link
            if link.state == "up":
                return address
            reason = link.reason or reason
            time.sleep(0.05)
    raise EngineError(
        f"the source's engine does not reach the destination's at {' or '.join(candidates)}: {reason or 'no answer'}",
        remedy="open the way between the hosts (TCP, ports above 1023), or name an address: --destination-address",
    )


def addresses(host: Host) -> list[str]:
    """The host's own addresses that another host could reach, IPv4 first. Raises HostError."""
    words = host.run("ip", "-o", "address", "show", "scope", "global", "up").stdout.decode().split("\n")
    found = [line.split()[3].partition("/")[0] for line in words if len(line.split()) > 3]
    if not found:
        raise HostError(f"{host.name} has no network address", remedy="name one with --destination-address")
    return sorted(found, key=lambda address: ":" in address)
