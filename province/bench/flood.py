"""A load for the agent: valid orders with big bodies, as fast as it takes them. `python -m province.bench.flood DIR`.

DIR is a training station's folder. The commune's key signs bulletins of nearly 16 KiB for tomorrow, which supersede
each other in turn, and every `SCHEDULE_EVERY` orders a schedule of nearly 256 KiB with 300 rules. At most `WINDOW`
orders are under way, so that the agent is never idle and yet no queue grows in front of it. Ends when stdin does, and
then says `{"orders": n, "bytes": n}`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from agent.link import topics
from agent.trust.signer import Signer
from province.demo.stage import DEVICE
from province.publish import Access, Connection
from province.record import Message
from province.store import Province

WINDOW = 8
BULLETINS = 40
SCHEDULE_EVERY = 50
ISSUER = "commune"
STALLED_S = 10.0


def bulletin(k: int, start: str) -> dict[str, Any]:
    """A priority bulletin for tomorrow of some 11 KB: with base64 of a JWS, nearly 16 KiB."""
    relay = {"relay": "dai-tinh", "duration_s": 60, "fallback": [{"chime": "gong"}, {"local": "moi-hop"}]}
    return {
        "id": f"flood-{k % BULLETINS}",
        "title": f"Bản tin số {k}",
        "class": "priority",
        "start": start,
        "zones": ["*"],
        "items": [relay] * 98,
        "replaces": [f"khong-co-{i:04d}-{'x' * 40}" for i in range(40)],
        "resume": "drop",
    }


def schedule(version: int, start: str) -> dict[str, Any]:
    """300 entries with rules, some 190 KB."""
    entries = [
        {
            "id": f"muc-{i}",
            "title": "Chương trình phát thanh " + "x" * 120,
            "class": "normal",
            "dtstart": start,
            "rrule": f"FREQ=MONTHLY;INTERVAL={1 + i % 4};BYDAY=MO,WE,FR;BYSETPOS=1",
            "duration_s": 600,
            "zones": ["*"],
            "items": [{"chime": "gong"}, {"relay": "dai-tinh", "duration_s": 500}, {"local": "moi-hop"}] * 2,
            "resume": "continue",
            "on_late": "skip",
        }
        for i in range(300)
    ]
    return {"scope": DEVICE, "version": version, "entries": entries}


class Flood:
    """Keeps at most WINDOW orders on their way."""

    def __init__(self, folder: Path) -> None:
        self._province = Province(folder)
        self._signer = Signer(self._province.key(ISSUER), ISSUER)
        self._under_way: dict[str, float] = {}
        self._changed = threading.Condition()
        self._connection = Connection(
            Access.publisher(self._province),
            "bench-flood",
            subscribe=[topics.up(DEVICE, "ack")],
            on_messages=self._acknowledged,
        )
        self.orders = 0
        self.acknowledged = 0
        self.bytes = 0

    def run(self, ended: threading.Event) -> None:
        """Until `ended`."""
        start = (datetime.now(UTC) + timedelta(days=1)).isoformat(timespec="seconds")
        self._connection.open()
        try:
            for k in itertools.count(1):
                if ended.is_set():
                    return
                if k % SCHEDULE_EVERY:
                    self._send("broadcast", bulletin(k, start), ctr=k, ttl=3600)
                else:
                    self._send("schedule", schedule(k, start))
        finally:
            self._connection.close()

    def _send(self, op: str, args: dict[str, Any], *, ctr: int | None = None, ttl: float | None = None) -> None:
        jti = f"flood-{self.orders}"
        jws = self._signer.order(op, args, [DEVICE], now=time.time(), ctr=ctr, ttl=ttl, jti=jti)
        topic = topics.order(DEVICE) if op == "broadcast" else topics.desired(DEVICE, op, ISSUER)
        with self._changed:
            self._changed.wait_for(lambda: len(self._under_way) < WINDOW, STALLED_S)
            for old in [j for j, at in self._under_way.items() if at < time.monotonic() - STALLED_S]:
                del self._under_way[old]
            self._under_way[jti] = time.monotonic()
        self._connection.publish(topic, jws.encode(), retain=op == "schedule", expiry_s=3600 if ttl else None)
        self.orders += 1
        self.bytes += len(jws)

    def _acknowledged(self, arrived: list[Message]) -> None:
        with self._changed:
            for message in arrived:
                with contextlib.suppress(msgspec.DecodeError):
                    body = msgspec.json.decode(message.payload, type=dict[str, Any])
                    if self._under_way.pop(str(body.get("jti")), None) is not None:
                        self.acknowledged += 1
            self._changed.notify_all()


def main() -> None:
    """Flood until stdin ends."""
    ended = threading.Event()

    def watch() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=watch, daemon=True).start()
    flood = Flood(Path(sys.argv[1]))
    flood.run(ended)
    json.dump({"orders": flood.orders, "acknowledged": flood.acknowledged, "bytes": flood.bytes}, sys.stdout)


if __name__ == "__main__":
    main()
