"""A private certificate authority: one for a run, a training station or a small province.

All keys are ECDSA P-256, which Mosquitto, OpenSSL and requests take without further settings; the certificates also
pass OpenSSL's strict X.509 checks (Python 3.13's default). The name in a client certificate (CN) is who it is to the
broker: a device id, `watcher` or `publisher`.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

CLIENTS = ("watcher", "publisher")
SERVERS = ("broker", "content")
LOCAL_NAMES = ("localhost", "127.0.0.1")
RESERVED = frozenset({"ca", "enrol", *CLIENTS, *SERVERS})
_SLACK = timedelta(minutes=5)
_LEAF = timedelta(days=397)
_CA = timedelta(days=5 * 365)


class Identity(Struct, frozen=True):
    """The PEM files of one certificate and its private key (mode 0600)."""

    cert: Path
    key: Path


class Pki:
    """A folder with an authority (`ca.crt`, `ca.key`) and what it issued (`<name>.crt`, `<name>.key`)."""

    def __init__(self, folder: Path) -> None:
        """Open an existing authority; FileNotFoundError when the folder holds none."""
        self.dir = folder
        self.ca = folder / "ca.crt"
        self._cert = x509.load_pem_x509_certificate(self.ca.read_bytes())
        key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{folder / 'ca.key'} is not an ECDSA key")
        self._key = key

    @classmethod
    def create(cls, folder: Path, name: str = "Trạm") -> Pki:
        """Make a new authority in `folder` (made if missing), replacing one that is there."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} CA")])
        now = datetime.now(UTC)
        cert = (
            _builder(subject, subject, key.public_key(), now - _SLACK, now + _CA)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(authority=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        _write(folder / "ca.crt", cert.public_bytes(serialization.Encoding.PEM), 0o644)
        _write(folder / "ca.key", _pem(key), 0o600)
        made = cls(folder)
        made.write_crl([], now)
        return made

    def identity(self, name: str) -> Identity:
        """Where the files of `name` are (or would be)."""
        return Identity(self.dir / f"{name}.crt", self.dir / f"{name}.key")

    def client(self, name: str, *, starts: datetime | None = None, ends: datetime | None = None) -> Identity:
        """Issue a client certificate with CN `name`, valid from five minutes ago for 397 days unless told otherwise."""
        return self._issue(name, ExtendedKeyUsageOID.CLIENT_AUTH, (), starts, ends)

    def server(
        self,
        name: str,
        hosts: Sequence[str] = LOCAL_NAMES,
        *,
        starts: datetime | None = None,
        ends: datetime | None = None,
    ) -> Identity:
        """Issue a server certificate for exactly `hosts` (DNS names or IP addresses)."""
        return self._issue(name, ExtendedKeyUsageOID.SERVER_AUTH, hosts, starts, ends)

    def _issue(
        self,
        name: str,
        purpose: x509.ObjectIdentifier,
        hosts: Sequence[str],
        starts: datetime | None,
        ends: datetime | None,
    ) -> Identity:
        key = ec.generate_private_key(ec.SECP256R1())
        cert = self._certificate(name, key.public_key(), purpose, hosts, starts, ends)
        identity = self.identity(name)
        _write(identity.cert, cert.public_bytes(serialization.Encoding.PEM), 0o644)
        _write(identity.key, _pem(key), 0o600)
        return identity

    def _certificate(
        self,
        name: str,
        key: ec.EllipticCurvePublicKey,
        purpose: x509.ObjectIdentifier,
        hosts: Sequence[str],
        starts: datetime | None,
        ends: datetime | None,
    ) -> x509.Certificate:
        if not re.fullmatch(r"[a-z0-9-]{1,64}", name) or name == "ca":
            raise ValueError(f"no certificate for the name {name!r}")
        now = datetime.now(UTC)
        issuer_key_id = self._cert.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        builder = (
            _builder(
                x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
                self._cert.subject,
                key,
                starts or now - _SLACK,
                ends or now + _LEAF,
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key_id), critical=False
            )
        )
        if hosts:
            names = [_general_name(h) for h in dict.fromkeys(hosts)]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def sign_client(self, name: str, key: ec.EllipticCurvePublicKey, *, now: datetime) -> x509.Certificate:
        """A client certificate with CN `name` for somebody else's key, valid for 397 days. Kept nowhere."""
        return self._certificate(name, key, ExtendedKeyUsageOID.CLIENT_AUTH, (), now - _SLACK, now + _LEAF)

    @property
    def crl(self) -> Path:
        """The revocation list; there is always one."""
        return self.dir / "crl.pem"

    def write_crl(self, revoked: Iterable[tuple[int, datetime]], now: datetime) -> None:
        """Replace the revocation list by one of these serial numbers.

        It is valid as long as the authority: a broker refuses everybody when its list has run out.
        """
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._cert.subject)
            .last_update(min(now, datetime.now(UTC)) - _SLACK)
            .next_update(self._cert.not_valid_after_utc)
        )
        for serial, at in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at)
            builder = builder.add_revoked_certificate(entry.build())
        signed = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        fresh = self.dir / ".crl.pem.new"
        _write(fresh, signed, 0o644)
        fresh.replace(self.crl)


def make(folder: Path, devices: Iterable[str] = (), hosts: Sequence[str] = ()) -> Pki:
    """A complete authority: servers (localhost, 127.0.0.1 and `hosts`), watcher, publisher and the devices.

    ValueError for a device id that is one of the names with a meaning of their own.
    """
    pki = Pki.create(folder)
    for server in SERVERS:
        pki.server(server, (*LOCAL_NAMES, *hosts))
    for client in CLIENTS:
        pki.client(client)
    for device in devices:
        if device in RESERVED:
            raise ValueError(f"{device!r} cannot be a device id: the broker knows it as something else")
        pki.client(device)
    return pki


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, starts: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(starts)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, data: bytes, mode: int) -> None:
    """Replace a file; it never exists with wider rights than `mode`."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
