"""Keys that never leave the device, the request for a certificate, and whether an answer is one for it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.trust.keys import BadKeyError, generate, load_private

PEM = serialization.Encoding.PEM


class BadCertificateError(ValueError):
    """An answer is not a certificate of this device's key and name by the configured authority."""


def new_key() -> bytes:
    """A new private key for the link (ECDSA P-256) as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def new_station_key() -> bytes:
    """A new private key (Ed25519, JWK) that signs what the station's own officers start."""
    return json.dumps(generate().to_jwk()).encode() + b"\n"


def public_jwk(private: bytes) -> dict[str, str] | None:
    """The public half of a station key; None when the file holds none."""
    try:
        return dict(load_private(private).public.jwk)
    except BadKeyError:
        return None


def request(key: bytes, device: str) -> str:
    """A signing request (PEM) with CN = device id. ValueError: `key` is not a key that `new_key` made."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device)])
    made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(_private(key), hashes.SHA256())
    return made.public_bytes(PEM).decode()


def check(pem: bytes, key: bytes, device: str, authority: bytes) -> None:
    """BadCertificateError unless `pem` is one certificate for this key and name, signed by the authority.

    Dates are not looked at: the clock may be wrong.
    """
    try:
        cert = x509.load_pem_x509_certificate(pem)
        names = [a.value for a in cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        if names != [device]:
            raise BadCertificateError(f"it is for {names}")
        if cert.public_key() != _private(key).public_key():
            raise BadCertificateError("it is for another key")
        for issuer in x509.load_pem_x509_certificates(authority):
            try:
                cert.verify_directly_issued_by(issuer)
            except (ValueError, TypeError, InvalidSignature):
                continue
            return
    except ValueError as error:
        raise BadCertificateError(str(error)) from error
    raise BadCertificateError("it is not signed by the configured authority")


def valid_until(pem: bytes) -> datetime:
    """When a certificate ends. ValueError."""
    return x509.load_pem_x509_certificate(pem).not_valid_after_utc


def is_due(pem: bytes, now: datetime) -> bool:
    """Whether two thirds of a certificate's life are over. ValueError: not a certificate."""
    cert = x509.load_pem_x509_certificate(pem)
    life: timedelta = cert.not_valid_after_utc - cert.not_valid_before_utc
    return now >= cert.not_valid_after_utc - life / 3


def has_ended(pem: bytes, now: datetime) -> bool:
    """Whether it is too late to renew it. ValueError."""
    return now.astimezone(UTC) >= valid_until(pem)


def _private(key: bytes) -> ec.EllipticCurvePrivateKey:
    loaded = serialization.load_pem_private_key(key, None)
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise ValueError("not an ECDSA key")  # noqa: TRY004 - for callers both are a key that cannot be used
    return loaded
