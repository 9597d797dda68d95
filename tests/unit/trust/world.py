"""A small world for tests of trust and intake: roots, a province, a district, a commune, one station, one moment."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from agent.core import recurrence
from agent.core.intake import Admitted, Intake, Verdict
from agent.model.config import Station
from agent.model.records import Snapshot
from agent.model.time import Instant
from agent.trust import keys
from agent.trust.authorities import Trusted
from agent.trust.replay import ReplayMemory
from agent.trust.signer import Signer, sign_authorities

NOW = 1_800_000_000.0
DEVICE = "xa-mau-01"
ALIAS = "tvh-0841"
ORDER = f"tram/1/dev/{DEVICE}/order"
GROUP_ORDER = "tram/1/group/all/order"
ROOTS = [keys.PrivateKey(bytes([n]) * 32) for n in (1, 2, 3)]
STRANGER = keys.PrivateKey(bytes([99]) * 32)
KEYS = {
    name: keys.PrivateKey(bytes([n]) * 32)
    for n, name in enumerate(("vinh-long", "bao-tinh", "xa-mau", "khac", "anh-huong"), start=10)
}

STATION = msgspec.convert(
    {
        "device": {
            "id": DEVICE,
            "name": "Đài truyền thanh xã Mẫu",
            "unit": "86/xa-mau",
            "aliases": [ALIAS],
            "groups": ["ven-bien"],
        },
        "trust": {"root_keys": "roots.json", "authorities": "authorities.json"},
        "zones": [
            {"id": "ap-1", "kind": "sound", "output": {"driver": "wav", "path": "s.wav"}, "tags": ["loa"]},
            {"id": "ap-2", "kind": "sound", "output": {"driver": "wav", "path": "s.wav"}, "tags": ["loa", "ven-song"]},
            {"id": "bang", "kind": "screen", "output": {"driver": "png", "dir": "board"}},
        ],
    },
    Station,
)


def at(offset: float = 0.0, *, trusted: bool = True) -> Instant:
    """The moment `offset` seconds from NOW."""
    return Instant(round((1000 + offset) * 1e9), NOW + offset, trusted)


def authority(name: str, **changes: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": name,
        "level": "province",
        "rank": 80,
        "keys": [KEYS[name].public.jwk],
        "ops": "*",
        "max_class": "emergency",
        "units": ["86"],
        "zones": "*",
    }
    return {**entry, **changes}


AUTHORITIES = [
    authority("vinh-long"),
    authority("bao-tinh", level="service", rank=40, ops=["broadcast", "silence", "cancel"]),
    authority("xa-mau", level="commune", rank=20, units=["86/xa-mau"], max_class="priority", zones=["kind:sound"]),
    authority("khac", level="commune", rank=20, units=["86/xa-khac", "86/xa-ma"]),
    authority("anh-huong", level="province", rank=90, zones=["ap-9"]),
]


def payload(version: int = 1, roots: list[keys.PrivateKey] | None = None, **changes: Any) -> dict[str, Any]:
    """An authorities payload of the world's roots, threshold 2."""
    body: dict[str, Any] = {
        "version": version,
        "iat": int(NOW) - 86_400 + version,
        "roots": [root.public.jwk for root in (ROOTS if roots is None else roots)],
        "threshold": 2,
        "authorities": AUTHORITIES,
    }
    return {k: v for k, v in {**body, **changes}.items() if v is not None}


def document(version: int = 1, signers: list[keys.PrivateKey] | None = None, **changes: Any) -> dict[str, Any]:
    """A signed authorities document."""
    return sign_authorities(payload(version, **changes), ROOTS[:2] if signers is None else signers)


def root_keys(threshold: int = 2) -> str:
    """The local file of root keys."""
    return json.dumps({"threshold": threshold, "roots": [root.public.jwk for root in ROOTS]})


def trusted() -> Trusted:
    """What the station believes at first."""
    return Trusted.first(root_keys(), json.dumps(document()))


def intake(**changes: Any) -> Intake:
    """The station's intake, with an empty memory that begins at 0."""
    parts: dict[str, Any] = {
        "station": STATION,
        "trusted": trusted(),
        "replay": ReplayMemory.load(Snapshot(empty=False), 0.0),
        "check_rrule": recurrence.check,
        "remote": {"zones.ap-1.gain_db"}.__contains__,
    }
    return Intake(**{**parts, **changes})


def signer(iss: str = "vinh-long", key: str | None = None) -> Signer:
    return Signer(KEYS[key or iss].to_jwk(), iss)


def broadcast(**changes: Any) -> dict[str, Any]:
    args: dict[str, Any] = {
        "id": "bt-1",
        "title": "Tin bão",
        "class": "priority",
        "start": "now",
        "zones": ["*"],
        "items": [{"chime": "gong"}],
        "resume": "drop",
    }
    return {k: v for k, v in {**args, **changes}.items() if v is not None}


def entry(**changes: Any) -> dict[str, Any]:
    args: dict[str, Any] = {
        "id": "sang",
        "title": "Buổi phát sáng",
        "class": "normal",
        "dtstart": "2026-11-03T05:00:00+07:00",
        "rrule": "FREQ=WEEKLY;BYDAY=MO,TU",
        "zones": ["kind:sound"],
        "items": [{"relay": "voh", "duration_s": 600}],
        "resume": "continue",
        "on_late": "join",
    }
    return {k: v for k, v in {**args, **changes}.items() if v is not None}


def claims(**changes: Any) -> dict[str, Any]:
    """The claims of a good command; None removes one."""
    body: dict[str, Any] = {
        "iss": "vinh-long",
        "aud": [DEVICE],
        "jti": "j-1",
        "iat": int(NOW),
        "exp": int(NOW) + 3600,
        "ctr": 1,
        "op": "broadcast",
        "args": broadcast(),
    }
    return {k: v for k, v in {**body, **changes}.items() if v is not None}


def state(op: str, args: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The claims of a good state order for the device."""
    full = {"scope": DEVICE, "version": 1, **args}
    return claims(**{"op": op, "args": full, "ctr": None, "exp": None, "jti": f"s-{op}", **changes})


def desired(op: str, iss: str = "vinh-long", target: str = f"dev/{DEVICE}") -> str:
    return f"tram/1/{target}/desired/{op}/{iss}"


def dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def sign(body: dict[str, Any] | bytes, key: str = "vinh-long") -> bytes:
    """An order over these claims, or over these very bytes."""
    return Signer(KEYS[key].to_jwk(), key).sign(body if isinstance(body, bytes) else dump(body)).encode()


def word(verdict: Verdict) -> str:
    """A verdict in one word: the reason behind the kind, as in "rejected expired"."""
    kind = type(verdict).__name__.lower()
    reason = getattr(verdict, "reason", None)
    return kind if reason is None else f"{kind} {reason}"


def admit(door: Intake, topic: str, order: bytes, now: Instant | None = None, ack: bytes = b"{}") -> Verdict:
    """Check and, where it is admitted or rejected for good, remember."""
    verdict = door.check(topic, order, False, now or at())
    if isinstance(verdict, Admitted) or getattr(verdict, "consumes", False):
        door.consume(verdict, ack)  # type: ignore[arg-type]
    return verdict
