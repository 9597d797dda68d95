"""A certificate for loopback, a content server and a fetcher driven by hand."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agent.model.orders import Media


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for localhost, 127.0.0.1 and media.test; returns (certificate, key)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "content server of a test")])
    now = datetime.datetime.now(datetime.UTC)
    names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.DNSName("media.test")]
    names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "server.crt", folder / "server.key"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_file, key_file


def content(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def media_of(raw: bytes, url: str) -> Media:
    return Media(sha256=hashlib.sha256(raw).hexdigest(), size=len(raw), url=url, type="audio/mpeg")


class Child:
    """A fetcher process and its JSON lines."""

    def __init__(
        self, allowed: list[str], ca: Path | None, run: tuple[str, str] = ("-m", "agent.store.fetcher"), **settings: Any
    ) -> None:
        self.process = subprocess.Popen([sys.executable, *run], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        defaults = {"idle_s": 20.0, "connect_timeout_s": 5.0, "read_timeout_s": 5.0, "window_s": 30.0}
        self.send({"allowed_hosts": allowed, "ca": None if ca is None else str(ca), **(defaults | settings)})
        self._jobs = 0

    def send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def start(self, media: Media, path: Path) -> int:
        self._jobs += 1
        self.send({"job": self._jobs, "sha256": media.sha256, "size": media.size, "url": media.url, "path": str(path)})
        return self._jobs

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        told: dict[str, Any] = json.loads(self.process.stdout.readline())
        return told

    def fetch(self, media: Media, path: Path) -> dict[str, Any]:
        self.start(media, path)
        return self.answer()

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()
