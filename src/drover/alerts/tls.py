"""TLS to receivers: 1.2 or later, certificates checked against the system's authorities or given ones."""

import ssl
from pathlib import Path

from drover.alerts.message import DeliveryError


def context(ca_file: Path | None) -> ssl.SSLContext:
    """Raises DeliveryError if the authorities cannot be read."""
    try:
        made = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise DeliveryError(
            f"cannot read the authorities in {ca_file}: {error.strerror or error.args[-1]}",
            remedy="name a file with certificates in PEM as ca_file",
        ) from None
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    return made


def cause(error: BaseException) -> BaseException:
    """The error of TLS or of the network beneath a library's own."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return error


def refused(where: str, error: ssl.SSLError) -> DeliveryError:
    """A handshake that failed, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return DeliveryError(
            f"the certificate of {where} is not trusted: {error.verify_message}",
            remedy="name the authority that signed it as ca_file, and the host as the certificate does",
        )
    return DeliveryError(
        f"TLS with {where} failed: {error.reason or error.strerror or 'the other side ended it'}",
        remedy="check port and security: starttls is usually on port 587, tls on 465; TLS 1.2 is the least",
    )
