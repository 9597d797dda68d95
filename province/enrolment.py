"""The province's register of devices: one-time codes, certificates issued and revoked, stations' own keys.

`enrolment.sqlite` in the province's folder. What it says is committed (synchronous=FULL) before a certificate leaves
the house; the revocation list `pki/crl.pem` is made from it and made again at each start of the server. Codes are kept
as hashes: they have 100 bits of chance, so a plain hash cannot be searched through.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from msgspec import Struct

from agent.trust.keys import BadKeyError, load_public
from province.pki import Pki

ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
"""Without I, O, 0 and 1, which people confuse."""
GROUPS, GROUP = 4, 5
CODE_DAYS = 14.0

SCHEMA = """
CREATE TABLE IF NOT EXISTS codes (
    digest TEXT PRIMARY KEY, device TEXT NOT NULL, made REAL NOT NULL, expires REAL NOT NULL, used REAL, key TEXT);
CREATE TABLE IF NOT EXISTS certificates (
    serial TEXT PRIMARY KEY, device TEXT NOT NULL, key TEXT NOT NULL, pem TEXT NOT NULL,
    issued REAL NOT NULL, ends REAL NOT NULL, revoked REAL, why TEXT);
CREATE TABLE IF NOT EXISTS stations (device TEXT NOT NULL, jwk TEXT NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (device, jwk));
"""


class RefusedError(Exception):
    """The register says no: `reason` is a word of `agent.enrolment.states.REASONS`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Known(Struct, frozen=True):
    """What the register knows of a device. Times are epoch seconds; `code`: open, used, expired or none."""

    device: str
    code: str
    until: float | None
    station_key: dict[str, str] | None


class Register:
    """The register in `folder`; several processes may use it at once."""

    def __init__(self, folder: Path, pki: Pki) -> None:
        self._pki = pki
        self._db = sqlite3.connect(folder / "enrolment.sqlite", isolation_level=None, timeout=10.0)
        (folder / "enrolment.sqlite").chmod(0o600)
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def new_code(self, device: str, now: float, days: float = CODE_DAYS) -> str:
        """A code for a device, valid for so many days; earlier ones of the device that are not used are void."""
        letters = "".join(secrets.choice(ALPHABET) for _ in range(GROUPS * GROUP))
        with self._changing():
            self._db.execute("DELETE FROM codes WHERE device = ? AND used IS NULL", (device,))
            self._db.execute(
                "INSERT INTO codes (digest, device, made, expires) VALUES (?, ?, ?, ?)",
                (_digest(letters), device, now, now + days * 86400),
            )
        return "-".join(letters[n : n + GROUP] for n in range(0, len(letters), GROUP))

    def enrol(self, device: str, code: str, csr: str, station_key: Any, now: float) -> str:
        """The certificate (PEM) for a code and a signing request, or RefusedError.

        Earlier certificates of the device are revoked: its board was replaced. The same request again, because its
        answer was lost, gets the same certificate.
        """
        key = _requested(csr, device)
        spki = _spki(key)
        jwk = _station(station_key)
        digest = _digest(code)
        with self._changing():
            row = self._db.execute(
                "SELECT digest, device, expires, used, key FROM codes WHERE digest = ?", (digest,)
            ).fetchone()
            if row is None or not hmac.compare_digest(row[0], digest) or row[1] != device:
                raise RefusedError("wrong-code")
            _, _, expires, used, used_by = row
            if used is not None:
                if used_by != spki:
                    raise RefusedError("used-code")
                return self._issued(device, spki)
            if now > expires:
                raise RefusedError("expired-code")
            self._adopt(device, now)
            self._db.execute(
                "UPDATE certificates SET revoked = ?, why = 'superseded' WHERE device = ? AND revoked IS NULL",
                (now, device),
            )
            pem = self._issue(device, key, now)
            self._db.execute("UPDATE codes SET used = ?, key = ? WHERE digest = ?", (now, spki, digest))
            if jwk is not None:
                self._db.execute("INSERT OR REPLACE INTO stations VALUES (?, ?, ?)", (device, json.dumps(jwk), now))
        self.write_crl(now)
        return pem

    def renew(self, present: bytes, device: str, csr: str, now: float) -> str:
        """The next certificate for the holder of the present one (DER, verified by TLS), or RefusedError.

        The present one stays valid to its end: the answer may be lost.
        """
        cert = x509.load_der_x509_certificate(present)
        if [a.value for a in cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] != [device]:
            raise RefusedError("wrong-name")
        key = _requested(csr, device)
        with self._changing():
            row = self._db.execute(
                "SELECT revoked FROM certificates WHERE serial = ?", (_hex(cert.serial_number),)
            ).fetchone()
            if row is not None and row[0] is not None:
                raise RefusedError("revoked")
            known = self._db.execute(
                "SELECT 1 FROM certificates WHERE device = ? AND key = ?", (device, _spki(key))
            ).fetchone()
            return self._issued(device, _spki(key)) if known else self._issue(device, key, now)

    def revoke(self, device: str, now: float) -> int:
        """Withdraw every certificate of a device, and its open codes; how many certificates that were."""
        with self._changing():
            self._adopt(device, now)
            self._db.execute("DELETE FROM codes WHERE device = ? AND used IS NULL", (device,))
            count = self._db.execute(
                "UPDATE certificates SET revoked = ?, why = 'withdrawn' WHERE device = ? AND revoked IS NULL",
                (now, device),
            ).rowcount
        self.write_crl(now)
        return count

    def write_crl(self, now: float) -> None:
        """Make the revocation list anew."""
        rows = self._db.execute("SELECT serial, revoked FROM certificates WHERE revoked IS NOT NULL")
        self._pki.write_crl([(int(serial, 16), datetime.fromtimestamp(at, UTC)) for serial, at in rows], _time(now))

    def known(self, now: float) -> list[Known]:
        """Every device, by its id."""
        found: dict[str, Known] = {}
        devices = self._db.execute(
            "SELECT device FROM codes UNION SELECT device FROM certificates ORDER BY 1"
        ).fetchall()
        for (device,) in devices:
            until = self._db.execute(
                "SELECT max(ends) FROM certificates WHERE device = ? AND revoked IS NULL", (device,)
            ).fetchone()[0]
            code = self._db.execute(
                "SELECT used, expires FROM codes WHERE device = ? ORDER BY made DESC, rowid DESC LIMIT 1", (device,)
            ).fetchone()
            state = (
                "none" if code is None else "used" if code[0] is not None else "open" if now <= code[1] else "expired"
            )
            keys = self.station_keys(device)
            found[device] = Known(device, state, until, keys[-1] if keys else None)
        return list(found.values())

    def station_keys(self, device: str) -> list[dict[str, str]]:
        """The public keys with which a station has signed, as it told at its enrolments; the last is in force."""
        rows = self._db.execute("SELECT jwk FROM stations WHERE device = ? ORDER BY at, rowid", (device,))
        return [json.loads(jwk) for (jwk,) in rows]

    def _issued(self, device: str, spki: str) -> str:
        row = self._db.execute(
            "SELECT pem, revoked FROM certificates WHERE device = ? AND key = ? ORDER BY issued DESC", (device, spki)
        ).fetchone()
        if row is None or row[1] is not None:
            raise RefusedError("revoked")
        return str(row[0])

    def _issue(self, device: str, key: ec.EllipticCurvePublicKey, now: float) -> str:
        cert = self._pki.sign_client(device, key, now=_time(now))
        self._insert(cert, device, now)
        return cert.public_bytes(serialization.Encoding.PEM).decode()

    def _adopt(self, device: str, now: float) -> None:
        """Take a certificate in that `tram province init` had issued, so that it can be revoked."""
        try:
            cert = x509.load_pem_x509_certificate(self._pki.identity(device).cert.read_bytes())
        except (OSError, ValueError):
            return
        self._insert(cert, device, now)

    def _insert(self, cert: x509.Certificate, device: str, now: float) -> None:
        pem = cert.public_bytes(serialization.Encoding.PEM).decode()
        self._db.execute(
            "INSERT OR IGNORE INTO certificates (serial, device, key, pem, issued, ends) VALUES (?, ?, ?, ?, ?, ?)",
            (
                _hex(cert.serial_number),
                device,
                _spki(cert.public_key()),
                pem,
                now,
                cert.not_valid_after_utc.timestamp(),
            ),
        )

    @contextmanager
    def _changing(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def _requested(csr: str, device: str) -> ec.EllipticCurvePublicKey:
    """The key of a signing request for exactly this name."""
    try:
        request = x509.load_pem_x509_csr(csr.encode())
        key = request.public_key()
        valid = request.is_signature_valid
    except (ValueError, TypeError, UnicodeEncodeError) as error:
        raise RefusedError("bad-request") from error
    if not valid or not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise RefusedError("bad-request")
    if [a.value for a in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] != [device]:
        raise RefusedError("wrong-name")
    return key


def _station(jwk: Any) -> dict[str, str] | None:
    if jwk is None:
        return None
    if not isinstance(jwk, dict):
        raise RefusedError("bad-request")
    try:
        return dict(load_public(jwk).jwk)
    except BadKeyError as error:
        raise RefusedError("bad-request") from error


def _digest(code: str) -> str:
    """SHA-256 of a code as people may write it: small letters, spaces and dashes do not count."""
    return hashlib.sha256("".join(c for c in code.upper() if c.isalnum()).encode()).hexdigest()


def _spki(key: Any) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(serialization.Encoding.DER, form)).hexdigest()


def _hex(serial: int) -> str:
    return f"{serial:x}"


def _time(now: float) -> datetime:
    return datetime.fromtimestamp(now, UTC)
