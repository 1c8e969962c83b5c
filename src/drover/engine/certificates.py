"""Certificates made for one migration: an authority that signs two engines and is then forgotten.

TLS 1.3 between the engines accepts nobody else. The authority's key is never written anywhere.
"""

import datetime
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SOURCE = "source.drover"
DESTINATION = "destination.drover"
_SLACK = datetime.timedelta(days=1)
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
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Drover {migration}")])
    builder = _builder(name, name, key.public_key())
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    authority = builder.add_extension(usage, critical=True).sign(key, hashes.SHA256())
    return _sign(authority, key, SOURCE), _sign(authority, key, DESTINATION)


def _sign(authority: x509.Certificate, authority_key: ec.EllipticCurvePrivateKey, role: str) -> Credentials:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, role)])
    certificate = (
        _builder(subject, authority.subject, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(role)]), critical=False)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
        .sign(authority_key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Credentials(certificate=_pem(certificate), key=private.decode(), authority=_pem(authority))


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SLACK)
        .not_valid_after(now + _LIFETIME)
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
