"""A device and its province in one folder: real keys, register and disk; the network and the power are ours to cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from cryptography import x509

from agent.enrolment.files import Files
from agent.enrolment.machine import Enrolment
from agent.enrolment.office import AwayError, Denied
from agent.model.config import Station
from agent.model.orders import Class
from agent.trust.authorities import AuthorityEntry
from province.enrolment import RefusedError, Register
from province.pki import Pki
from province.store import Province, Settings

NOW = 1_800_000_000.0
DAY = 86_400.0


class PowerCut(BaseException):
    """The power is gone: nothing after it runs."""


class Cut(Files):
    """A disk whose power fails at one of its operations: before it, halfway, or just after it."""

    def __init__(self, at: int = -1, how: str = "before") -> None:
        self.at, self.how, self.count = at, how, 0

    def write(self, path: Path, data: bytes, mode: int) -> Path:
        if self._now() and self.how == "torn":
            path.with_name(f".{path.name}.new").write_bytes(data[: len(data) // 2])
            raise PowerCut
        return super().write(path, data, mode)

    def replace(self, fresh: Path, path: Path) -> None:
        self.count += 1
        if self.count - 1 == self.at and self.how == "before":
            raise PowerCut
        super().replace(fresh, path)
        if self.count - 1 == self.at and self.how == "after":
            raise PowerCut

    def remove(self, path: Path) -> None:
        self.count += 1
        if self.count - 1 == self.at and self.how != "after":
            raise PowerCut
        super().remove(path)
        if self.count - 1 == self.at:
            raise PowerCut

    def _now(self) -> bool:
        return self.count == self.at


class Desk:
    """The province's register, called directly. `lose` answers get lost on the way; `away` nobody answers."""

    def __init__(self, register: Register) -> None:
        self.register = register
        self.now = NOW
        self.away = False
        self.lose = 0
        self.asked: list[dict[str, Any]] = []

    def enrol(self, body: dict[str, Any]) -> bytes:
        return self._ask(
            body,
            lambda: self.register.enrol(body["device"], body["code"], body["csr"], body.get("station_key"), self.now),
        )

    def renew(self, body: dict[str, Any], cert: str, key: str) -> bytes:
        present = x509.load_pem_x509_certificate(Path(cert).read_bytes())
        from cryptography.hazmat.primitives.serialization import Encoding

        der = present.public_bytes(Encoding.DER)
        return self._ask(body, lambda: self.register.renew(der, body["device"], body["csr"], self.now))

    def _ask(self, body: dict[str, Any], answer: Any) -> bytes:
        if self.away:
            raise AwayError("no route to host")
        self.asked.append(body)
        try:
            pem = answer()
        except RefusedError as error:
            raise Denied(error.reason) from error
        if self.lose:
            self.lose -= 1
            raise AwayError("the connection was reset")
        return str(pem).encode()


class World:
    """`device` is made anew from the disk by `boot`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dir = folder / "province"
        Province.create(
            self.dir,
            [AuthorityEntry("tinh", "province", 50, [], "*", Class.EMERGENCY, ["84"], "*")],
            settings=Settings(name="Tỉnh"),
        )
        self.pki = Pki.create(self.dir / "pki")
        self.register = Register(self.dir, self.pki)
        self.desk = Desk(self.register)
        self.config = self.station("xa-mau", folder / "device")

    def station(self, device: str, data: Path) -> Station:
        identity = data / "identity"
        identity.mkdir(parents=True)
        return msgspec.convert(
            {
                "device": {"id": device, "name": "Đài", "unit": "84/86/xa-mau"},
                "mqtt": {
                    "host": "h",
                    "ca": str(self.pki.ca),
                    "cert": str(identity / "device.crt"),
                    "key": str(identity / "device.key"),
                },
                "enrolment": {"url": "https://h"},
                "trust": {
                    "root_keys": "r",
                    "authorities": "a",
                    "station_key": str(identity / "station.jwk"),
                    "station_authority": "xa-mau",
                },
                "data_dir": str(data),
                "zones": [{"id": "z", "kind": "sound", "output": {"driver": "wav", "path": "x.wav"}}],
            },
            Station,
        )

    def boot(self, files: Files | None = None, config: Station | None = None) -> Enrolment:
        return Enrolment(config or self.config, self.desk, files)

    @property
    def cert(self) -> x509.Certificate:
        assert self.config.mqtt is not None
        return x509.load_pem_x509_certificate(Path(self.config.mqtt.cert).read_bytes())

    def revoked(self) -> set[int]:
        crl = x509.load_pem_x509_crl(self.pki.crl.read_bytes())
        return {entry.serial_number for entry in crl}
