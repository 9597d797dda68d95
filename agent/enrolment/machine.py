"""Carries an enrolment through its states (agent.enrolment.states), from whatever state the disk holds."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import msgspec

from agent.enrolment import identity
from agent.enrolment.files import Files
from agent.enrolment.office import Denied, Office
from agent.enrolment.states import How, Record, State, Step, read
from agent.model.config import Station

CODE_BYTES = 128


class Enrolment:
    """One device's enrolment; its files are in the folder `identity` of the configuration's `data_dir`.

    ```
    enrolment.json   the state
    code             the one-time code, until it is used up
    pending.key      a private key that has no certificate yet; pending.crt: its certificate, not in place yet
    ```
    and, where the configuration says, `mqtt.key`, `mqtt.cert` and `trust.station_key`.
    """

    def __init__(self, config: Station, office: Office, files: Files | None = None) -> None:
        if config.mqtt is None:
            raise ValueError("the configuration has no mqtt section")
        self._mqtt, self._trust = config.mqtt, config.trust
        self._device = config.device.id
        self._office = office
        self._files = files or Files()
        self.folder = Path(config.data_dir) / "identity"
        self.record = self._read()

    def _read(self) -> Record:
        try:
            return read((self.folder / "enrolment.json").read_bytes())
        except FileNotFoundError:
            return Record()

    @property
    def code(self) -> str | None:
        """The code that waits to be used."""
        try:
            with (self.folder / "code").open("rb") as file:
                return file.read(CODE_BYTES).decode("ascii", "replace").strip() or None
        except FileNotFoundError:
            return None

    def take_code(self, code: str) -> None:
        """Keep a code on the disk. The next `run` uses it, whatever became of an earlier one."""
        self._files.put(self.folder / "code", code.strip().encode()[:CODE_BYTES] + b"\n")

    def make_station_key(self) -> None:
        """The key with which the station signs, if the configuration names one and it is not there yet."""
        if self._trust.station_key is not None and not Path(self._trust.station_key).exists():
            self._files.put(Path(self._trust.station_key), identity.new_station_key())

    def run(self, *, renew: bool = False) -> Record:
        """Go on until it is enrolled or refused; returns the last record.

        AwayError: the province cannot be asked now; nothing is lost, call it again later. Without a code and without
        `renew` only what had begun is finished.
        """
        self.make_station_key()
        if self.record.state not in {State.KEYED, State.ISSUED, State.INSTALLED}:
            if self.code is not None:
                self._begin(How.CODE)
            elif renew:
                self._begin(How.RENEWAL)
        elif self.record.state is State.KEYED and self.record.how is How.RENEWAL and self.code is not None:
            self._keep(
                Record(State.KEYED, How.CODE)
            )  # a code in hand is worth more than a certificate that may be lost
        if self.record.state is State.KEYED:
            self._ask()
        if self.record.state is State.ISSUED:
            self._place()
        if self.record.state is State.INSTALLED:
            self._tidy()
        return self.record

    def _begin(self, how: How) -> None:
        self._files.remove(self.folder / "pending.crt")
        self._pending_key()
        self._keep(self.record.after(Step.BEGIN, how=how))

    def _pending_key(self) -> bytes:
        """The key that waits for its certificate. One that is there is used: a request for it may be known already."""
        path = self.folder / "pending.key"
        with contextlib.suppress(FileNotFoundError, ValueError):
            key = path.read_bytes()
            identity.request(key, self._device)
            return key
        key = identity.new_key()
        self._files.put(path, key)
        return key

    def _ask(self) -> None:
        key = self._pending_key()
        body: dict[str, Any] = {"device": self._device, "csr": identity.request(key, self._device)}
        station = self._station_jwk()
        if station is not None:
            body["station_key"] = station
        try:
            if self.record.how is How.RENEWAL:
                pem = self._office.renew(body, self._mqtt.cert, self._mqtt.key)
            else:
                code = self.code
                if code is None:
                    raise Denied("no-code")  # noqa: TRY301 - one place deals with every no
                pem = self._office.enrol(body | {"code": code})
            identity.check(pem, key, self._device, Path(self._mqtt.ca).read_bytes())
        except identity.BadCertificateError:
            self._refused("bad-certificate")
        except Denied as denied:
            self._refused(denied.reason)
        else:
            self._files.put(self.folder / "pending.crt", pem)
            self._keep(self.record.after(Step.GRANTED))

    def _refused(self, reason: str) -> None:
        self._keep(self.record.after(Step.DENIED, reason=reason))
        if self.record.how is How.CODE:
            self._files.remove(self.folder / "code")

    def _place(self) -> None:
        for name, target in (("pending.key", self._mqtt.key), ("pending.crt", self._mqtt.cert)):
            self._files.put(Path(target), (self.folder / name).read_bytes())
        self._keep(self.record.after(Step.PLACED))

    def _tidy(self) -> None:
        if self.record.how is How.CODE:
            self._files.remove(self.folder / "code")
        for name in ("pending.key", "pending.crt"):
            self._files.remove(self.folder / name)
        self._keep(self.record.after(Step.TIDIED))

    def _keep(self, record: Record) -> None:
        self._files.put(self.folder / "enrolment.json", msgspec.json.encode(record))
        self.record = record

    def _station_jwk(self) -> dict[str, str] | None:
        if self._trust.station_key is None:
            return None
        with contextlib.suppress(OSError):
            return identity.public_jwk(Path(self._trust.station_key).read_bytes())
        return None
