"""What stands around a board in a test: province, broker, content server and clock, all on this machine.

Nothing on the board knows that it is a test: it gets a configuration and keys as a province would hand them out.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import numpy as np
import yaml
from board import RATE, Board, BoardError, answered, put, wait

from agent.model.orders import Class
from agent.trust.authorities import AuthorityEntry
from province.broker import Broker
from province.content_server import ContentServer
from province.demo.listening import Signal
from province.pki import make
from province.publish import Access, Publisher
from province.record import Fleet, Record
from province.store import Endpoint, Province, Settings, Signed
from province.watch import Watcher

DEVICE = "xa-mau"
UNIT = "84/86/xa-mau"
EXAMPLE = Path(__file__).resolve().parents[1] / "config" / "commune-station.yaml"
NTP_PORT = 11123
NTP_EPOCH = 2_208_988_800
SIREN_LINE, MEETING_LINE, STOP_LINE = 5, 6, 13


class Clock:
    """Answers NTP on localhost with this machine's time, unless it is `silent`."""

    def __init__(self) -> None:
        self.silent = False
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.bind(("127.0.0.1", NTP_PORT))
        threading.Thread(target=self._serve, name="ntp", daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                asked, who = self._socket.recvfrom(512)
                if len(asked) >= 48 and not self.silent:
                    now = self._stamp()
                    head = struct.pack("!BBbb3I", 0x24, 2, 4, -20, 0, 0, 0x7F7F0101)
                    self._socket.sendto(head + now + asked[40:48] + now + self._stamp(), who)

    def _stamp(self) -> bytes:
        now = time.time() + NTP_EPOCH
        return struct.pack("!II", int(now), int(now % 1 * 2**32))

    def close(self) -> None:
        """Answer no more."""
        self._socket.close()


class Surroundings:
    """Use as a context manager. `host`: how the board reaches this machine."""

    def __init__(self, folder: Path, host: str) -> None:
        self.folder = folder
        self.host = host
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Surroundings:
        folder = self.folder
        pki = make(folder / "pki", [DEVICE], [self.host])
        self.pki = pki
        self.clock = Clock()
        self._stack.callback(self.clock.close)
        (folder / "media").mkdir()
        server = pki.identity("content")
        self.content = ContentServer(folder / "media", server.cert, server.key)
        self.content.start()
        self._stack.callback(self.content.stop)
        self.broker = Broker(folder / "broker", pki, {DEVICE: ["tinh-mau"]})
        self.broker.start()
        self._stack.callback(self.broker.stop)
        url = self.content.url.replace("127.0.0.1", self.host).replace("localhost", self.host)
        ranks = {"province": (100, "84/86"), "station": (10, UNIT)}
        self.province = Province.create(
            folder,
            [
                AuthorityEntry(
                    id=name,
                    level=name,
                    rank=rank,
                    keys=[],
                    ops=["*"],
                    max_class=Class.EMERGENCY,
                    units=[unit],
                    zones=["*"],
                )
                for name, (rank, unit) in ranks.items()
            ],
            settings=Settings(
                name="Tỉnh Mẫu",
                broker=Endpoint("127.0.0.1", self.broker.port),
                media_url=url,
                devices=[DEVICE],
            ),
            roots=3,
            threshold=2,
        )
        self.record = Record(known=[DEVICE])
        self.watcher = Watcher(Access.watcher(self.province), self.record)
        self.watcher.start()
        self._stack.callback(self.watcher.stop)
        self.publisher = Publisher(Access.publisher(self.province))
        self.publisher.open()
        self._stack.callback(self.publisher.close)
        self._content_host = urlsplit(url).netloc
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def ports(self) -> list[int]:
        """What the board connects to on this machine, beside the clock."""
        return [self.broker.port, int(self._content_host.rpartition(":")[2])]

    # -- the station -------------------------------------------------------------------------------------------------

    def configuration(self, sound_device: str) -> dict[str, Any]:
        """config/commune-station.yaml with this machine's addresses, the board's card, and no quiet hours."""
        station: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text("utf-8"))
        station["device"] |= {"id": DEVICE, "unit": UNIT}
        station["mqtt"] |= {"host": self.host, "port": self.broker.port, "reconnect_max_s": 5}
        names = {"province": "Ủy ban nhân dân tỉnh Mẫu", "station": "Ủy ban nhân dân xã Mẫu"}
        station["trust"]["names"] = [{"id": name, "name": said} for name, said in names.items()]
        station["trust"]["station_authority"] = "station"
        station["content"] = {"allowed_hosts": [self._content_host], "ca": "pki/ca.crt"}
        for zone in station["zones"]:
            if zone["kind"] == "sound":
                zone["output"] = {"driver": "alsa", "device": sound_device, "buffer_ms": 150}
                zone["rules"] = {}
        return station

    def commission(self, board: Board) -> None:
        """Give the board its configuration and its keys, and have it begin. It must be on."""
        wait(
            "its data partition is mounted",
            lambda: board.run("mountpoint -q /etc/tram").code == 0,
            180 * board.patience,
        )
        identity = self.pki.identity(DEVICE)
        secret = {
            "pki/xa-mau.key": identity.key.read_bytes(),
            "trust/xa-mau.jwk": (self.folder / "keys" / "station.jwk").read_bytes(),
        }
        public = {
            "pki/ca.crt": (self.folder / "pki" / "ca.crt").read_bytes(),
            "pki/xa-mau.crt": identity.cert.read_bytes(),
            "trust/roots.json": (self.folder / "root_keys.json").read_bytes(),
            "trust/authorities.json": (self.folder / "authorities.json").read_bytes(),
        }
        put(board, {f"/etc/tram/{name}": content for name, content in public.items()})
        put(board, {f"/etc/tram/{name}": content for name, content in secret.items()}, 0o600)
        answered(board, "chown tram:tram /etc/tram/pki/xa-mau.key /etc/tram/trust/xa-mau.jwk")
        text = yaml.safe_dump(self.configuration(board.sound_device), allow_unicode=True, sort_keys=False)
        put(board, {"/etc/tram/station.yaml": text.encode()})
        ran = board.run("tram check", timeout_s=60)
        if ran.code:
            raise BoardError(f"the station's configuration is refused:\n{ran.out}{ran.err}")

    # -- the province ------------------------------------------------------------------------------------------------

    def media(self, name: str, sound: Signal) -> dict[str, Any]:
        """Put a sound on the content server; the item of an order that names it."""
        import wave

        path = self.folder / "media" / f"{name}.wav"
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
        return {"media": msgspec.to_builtins(self.province.media(path))}

    def order(self, op: str, args: dict[str, Any], ttl_s: float | None = 3600) -> Signed:
        """Sign an order of the province for the device, and send it."""
        order = self.province.sign("province", op, args, [DEVICE], ttl_s=ttl_s)
        self.publisher.send(order)
        return order

    def until(self, order: Signed, *states: str, within_s: float) -> None:
        """Wait until the device's last ack of an order is one of `states`. AssertionError with what it was instead."""
        receipt = self.publisher.wait(
            order, lambda r: DEVICE in r.devices and r.devices[DEVICE].state in states, within_s
        )
        device = receipt.devices.get(DEVICE)
        assert device is not None, f"no ack within {within_s:.0f} s"
        assert device.state in states, f"after {within_s:.0f} s: {device}"

    def fleet(self, tells: Callable[[Fleet], Any]) -> Any:
        """What `tells` makes of what is known of the device; None before it was heard."""
        with self.watcher.changed:
            device = self.record.fleet.get(DEVICE)
            return None if device is None else tells(device)

    def wait_online(self, board: Board, within_s: float = 90.0) -> None:
        """Until the province sees the device on line, by its state."""
        wait("the device is on line", lambda: self.fleet(lambda d: d.online), within_s * board.patience)


def noise(seconds: float, seed: int, level: float = 0.2) -> Signal:
    """A hiss that resembles nothing else, so that any half second of it is found again at its place."""
    grain = np.random.default_rng(seed).normal(0, level / 3, round(seconds * RATE))
    return np.clip(grain, -level, level)


def in_s(seconds: float) -> str:
    """That time from now, as orders write it."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="seconds")
