"""The webhook's certificate, where no cert-manager makes one, and until when any is good.

An authority is made for this one certificate, signs it, and its key is thrown away: nobody can
sign another one with it, and renewing is to make both anew. `cryptography` does it, which is
what everybody uses; nothing else of the project needs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from incumbent.errors import MissingExtra

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ModuleNotFoundError as missing:
    raise MissingExtra(
        "certificates are made with the package 'cryptography', which is not installed: "
        "pip install 'incumbent[cli,webhook]', or use --cert-manager"
    ) from missing

__all__ = ["Pair", "Validity", "made", "validity_of"]

_EARLIER = timedelta(minutes=5)
"""Clocks differ; it counts from a little before it was made."""
_SOON, _SOON_SHARE = timedelta(days=30), 4
"""When its end is near: 30 days before, or a quarter of its time if that is less. cert-manager
renews after two thirds, so one that it keeps is never near its end.
"""
_LONGEST_COMMON_NAME = 64


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with its key, and the authority that it is trusted by, each as PEM."""

    authority: bytes
    certificate: bytes
    key: bytes
    ends: datetime


@dataclass(frozen=True, slots=True)
class Validity:
    """From when to when a chain is good: as long as each of its certificates is."""

    begins: datetime
    ends: datetime

    def is_near_its_end(self, now: datetime) -> bool:
        """Tell whether it is time to renew it, or too late."""
        return self.ends - now < min(_SOON, (self.ends - self.begins) / _SOON_SHARE)


def validity_of(chain: bytes) -> Validity:
    """Return until when a chain, as PEM, is good.

    Raises:
        ValueError: it is none.
    """
    found = x509.load_pem_x509_certificates(chain)
    return Validity(
        max(one.not_valid_before_utc for one in found),
        min(one.not_valid_after_utc for one in found),
    )


def made(names: tuple[str, ...], days: int, now: datetime) -> Pair:
    """Return a certificate for a server of these names, which is good for so many days."""
    ends = now + timedelta(days=days)
    signer, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = _name("incumbent consent webhook")
    authority = (
        _builder(issuer, issuer, signer, now, ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .sign(signer, hashes.SHA256())
    )
    certificate = (
        _builder(_name(names[0]), issuer, key, now, ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
        )
        .sign(signer, hashes.SHA256())
    )
    return Pair(
        authority.public_bytes(serialization.Encoding.PEM),
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        ends,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:_LONGEST_COMMON_NAME])])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime,
    ends: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(ends)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
