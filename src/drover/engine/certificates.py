"""Certificates made for one migration: an authority that signs two engines and is then forgotten.

TLS 1.3 between the engines accepts nobody else. The authority's key is never written anywhere.
"""

import datetime
from dataclasses import dataclass

from drover.authority import Authority

SOURCE = "source.drover"
DESTINATION = "destination.drover"
_LIFETIME = datetime.timedelta(days=60)


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """What one engine needs, as PEM. The key stays in memory: engines get it over their control socket."""

    certificate: str
    key: str
    authority: str

    def __repr__(self) -> str:
        return "Credentials(…)"


def issue(migration: str) -> tuple[Credentials, Credentials]:
    """Credentials for the source's and the destination's engine of one migration, P-256, valid a day too early."""
    authority = Authority.new(f"Drover {migration}", _LIFETIME)
    return _sign(authority, SOURCE), _sign(authority, DESTINATION)


def _sign(authority: Authority, role: str) -> Credentials:
    certificate, key = authority.issue(role, [role], _LIFETIME)
    return Credentials(certificate=certificate, key=key, authority=authority.certificate)
