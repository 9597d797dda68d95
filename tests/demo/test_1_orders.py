"""CONTRACT section 4: what is refused, for which reason, in which order of checks."""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.demo.customer import Authority, Bulletin, Key, Training, b64, compact, epoch, general, number, rfc3339

pytestmark = [pytest.mark.demo, pytest.mark.xdist_group("station-programmes")]

CHIME = [{"chime": "gong"}]
COMMAND_LIMIT = 16 * 1024
STATE_LIMIT = 256 * 1024


def barrier(station: Training) -> None:
    """Everything published before this has been judged when it returns."""
    station.order(station.commune, "cancel", {"ids": ["nothing-of-that-name"]}).done()


def broadcast_args(**changes: Any) -> dict[str, Any]:
    args = {
        "id": f"r{time.monotonic_ns()}",
        "title": "Không được phát",
        "class": "priority",
        "start": "now",
        "zones": ["*"],
        "items": CHIME,
        "resume": "drop",
    } | changes
    return {k: v for k, v in args.items() if v is not None}


def dumps(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


# before step 4 has passed: never an ack, a metered event


def _claims(station: Training, **changes: Any) -> dict[str, Any]:
    args = changes.pop("args", None) or broadcast_args()
    return station.province.claims("broadcast", args, **changes)


def _signed(change: Callable[[dict[str, Any]], Any]) -> Callable[[Training], bytes]:
    """An order whose claims were changed before it was signed."""

    def make(station: Training) -> bytes:
        claims = _claims(station)
        changed = change(claims)
        return station.province.sign(claims if changed is None else changed)

    return make


def _without(claim: str) -> Callable[[dict[str, Any]], Any]:
    return lambda claims: {k: v for k, v in claims.items() if k != claim}


def _header(**changes: Any) -> Callable[[Training], bytes]:
    def make(station: Training) -> bytes:
        head = {k: v for k, v in station.province.header(**changes).items() if v is not None}
        return compact(station.province.key, head, dumps(_claims(station)))

    return make


def _raw_header(head: Callable[[Training], bytes]) -> Callable[[Training], bytes]:
    return lambda station: compact(station.province.key, head(station), dumps(_claims(station)))


def _bytes(change: Callable[[bytes], bytes]) -> Callable[[Training], bytes]:
    """An order whose bytes were changed after it was signed."""
    return lambda station: change(station.province.sign(_claims(station)))


def _part(index: int, change: Callable[[bytes], bytes]) -> Callable[[Training], bytes]:
    def make(raw: bytes) -> bytes:
        parts = raw.split(b".")
        parts[index] = change(parts[index])
        return b".".join(parts)

    return _bytes(make)


def _stray_bits(part: bytes) -> bytes:
    """The same bytes in another spelling: the unused low bits of the last character set."""
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert len(part) % 4 == 2
    return part[:-1] + alphabet[alphabet.index(part[-1:]) + 1 : alphabet.index(part[-1:]) + 2]


def _depth(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def _text_claims(change: Callable[[str], str]) -> Callable[[Training], bytes]:
    """An order whose claims' JSON text was changed before it was signed."""

    def make(station: Training) -> bytes:
        return station.province.sign(change(json.dumps(_claims(station))).encode("utf-8", "surrogatepass"))

    return make


def _forged(station: Training) -> bytes:
    return station.province.sign(_claims(station), key=Key())


def _stranger(station: Training, **changes: Any) -> bytes:
    key = Key()
    return station.province.sign(_claims(station, **changes), key=key, kid=key.kid)


MALFORMED_JWS: dict[str, Callable[[Training], bytes]] = {
    "not a JWS": lambda _: b"hello",
    "nothing at all": lambda _: b"",
    "not text": lambda _: bytes(range(256)),
    "two parts": _bytes(lambda raw: raw.rsplit(b".", 1)[0]),
    "four parts": _bytes(lambda raw: raw + b".AAAA"),
    "a line end behind it": _bytes(lambda raw: raw + b"\n"),
    "a blank before it": _bytes(lambda raw: b" " + raw),
    "padding": _part(2, lambda part: part + b"=="),
    "stray bits in the signature": _part(2, _stray_bits),
    "the other base64 alphabet": _part(1, lambda part: part[:-4] + b"+/+/"),
    "General JSON where compact is wanted": lambda s: dumps(general(_claims(s), [s.province.key], "tram-order+jws")),
    "alg none": _header(alg="none"),
    "alg HS256": _header(alg="HS256"),
    "alg Ed448": _header(alg="Ed448"),
    "alg in lower case": _header(alg="ed25519"),
    "alg missing": _header(alg=None),
    "typ JWT": _header(typ="JWT"),
    "typ missing": _header(typ=None),
    "typ of an authorities document": _header(typ="tram-authorities+jws"),
    "kid missing": _header(kid=None),
    "kid a number": _header(kid=7),
    "a key in the header": lambda s: _header(jwk=s.province.key.jwk)(s),
    "crit": _header(crit=["b64"]),
    "b64 false": _header(b64=False),
    "header no object": _raw_header(lambda _: b"[]"),
    "header with a repeated name": _raw_header(
        lambda s: b'{"alg":"Ed25519","alg":"Ed25519","kid":"%s","typ":"tram-order+jws"}' % s.province.key.kid.encode()
    ),
    "header with a BOM": _raw_header(lambda s: b"\xef\xbb\xbf" + dumps(s.province.header())),
}

MALFORMED_CLAIMS: dict[str, Callable[[Training], bytes]] = {
    "claims no object": lambda s: s.province.sign(b"[]"),
    "claims not JSON": lambda s: s.province.sign(b"{"),
    "claims not UTF-8": lambda s: s.province.sign(b'{"iss":"\xff"}'),
    "a repeated claim": _text_claims(lambda t: t.replace('"op":', '"op": "cancel", "op":')),
    "a repeated name deep inside": _text_claims(lambda t: t.replace('"chime":', '"chime": "x", "chime":')),
    "a BOM": _text_claims(lambda t: "\ufeff" + t),
    "NaN": _text_claims(lambda t: t.replace('"iat":', '"nbf": NaN, "iat":')),
    "Infinity": _text_claims(lambda t: t.replace('"resume":', '"volume_db": Infinity, "resume":')),
    "1e999": _text_claims(lambda t: t.replace('"resume":', '"volume_db": 1e999, "resume":')),
    "a lone surrogate": _text_claims(lambda t: t.replace('"resume":', '"approved_by": "\\ud800", "resume":')),
    "an integer of 2^53": _text_claims(lambda t: t.replace('"resume":', '"volume_db": 9007199254740992, "resume":')),
    "ctr of 2^53": _signed(lambda c: c.update(ctr=2**53)),
    "ctr of 0": _signed(lambda c: c.update(ctr=0)),
    "ctr a fraction": _signed(lambda c: c.update(ctr=1.5)),
    "ctr text": _signed(lambda c: c.update(ctr="7")),
    "33 levels": _text_claims(lambda t: t.replace('"resume":', f'"x": {_depth(32).decode()}, "resume":')),
    "a thousand levels": _text_claims(lambda t: t.replace('"resume":', f'"x": {_depth(1000).decode()}, "resume":')),
    "an unknown claim": _signed(lambda c: c.update(sub="x")),
    "no iss": _signed(_without("iss")),
    "no aud": _signed(_without("aud")),
    "aud a text": _signed(lambda c: c.update(aud="xa-mau")),
    "aud empty": _signed(lambda c: c.update(aud=[])),
    "no jti": _signed(_without("jti")),
    "jti with a blank": _signed(lambda c: c.update(jti="a b")),
    "jti of 65 characters": _signed(lambda c: c.update(jti="j" * 65)),
    "no iat": _signed(_without("iat")),
    "iat text": _signed(lambda c: c.update(iat="now")),
    "no exp on a command": _signed(_without("exp")),
    "no ctr on a command": _signed(_without("ctr")),
    "no op": _signed(_without("op")),
    "no args": _signed(_without("args")),
    "args a list": _signed(lambda c: c.update(args=[])),
    "exp at iat": _signed(lambda c: c.update(exp=c["iat"])),
    "exp before iat": _signed(lambda c: c.update(exp=c["iat"] - 1)),
    "an emergency for more than a day": _signed(
        lambda c: c.update(args=broadcast_args(**{"class": "emergency"}), exp=c["iat"] + 86_401)
    ),
    "a command for more than 30 days": _signed(lambda c: c.update(exp=c["iat"] + 30 * 86_400 + 1)),
}

SILENT: dict[str, dict[str, Callable[[Training], bytes]]] = {
    "malformed": MALFORMED_JWS
    | MALFORMED_CLAIMS
    | {
        "typ wrong, and nobody knows the key (2 before 3)": lambda s: compact(
            (k := Key()), {"alg": "Ed25519", "kid": k.kid, "typ": "JWT"}, dumps(_claims(s))
        ),
        "an unknown claim, and the issuer another (4: malformed first)": lambda s: s.commune.sign(
            _claims(s) | {"sub": "x"}
        ),
        "an unknown claim in an order for others (4 before 5)": _signed(lambda c: c.update(sub="x", aud=["xa-khac"])),
        "exp before iat in an expired order (4 before 7)": _signed(lambda c: c.update(iat=5000, exp=4000)),
    },
    "too-large": {
        "17 KiB of nothing (1 before 2)": lambda _: b"x" * (COMMAND_LIMIT + 1),
        "one byte too many": lambda s: _padded(s, s.province, COMMAND_LIMIT + 1),
        "by a stranger (1 before 3)": lambda s: _stranger(s, args=broadcast_args(title="x" * 14_000)),
        "an emergency over 4 KiB": lambda s: _padded(s, s.province, 4 * 1024 + 1, class_="emergency"),
        "an emergency over 4 KiB to others (4 before 5)": lambda s: _padded(
            s, s.province, 4 * 1024 + 40, class_="emergency", aud=["xa-khac"]
        ),
    },
    "unknown-authority": {
        "a stranger's key": _stranger,
        "a stranger's key, claims malformed (3 before 4)": lambda s: _stranger(s, sub="x"),
        "a stranger's key, expired (3 before 7)": lambda s: _stranger(s, iat=1000, exp=2000),
        "an authority's key for another's iss": lambda s: s.commune.sign(_claims(s)),
        "another's iss, and for others (4 before 5)": lambda s: s.commune.sign(_claims(s, aud=["xa-khac"])),
        "an iss that there is not": lambda s: s.commune.sign(_claims(s, iss="nobody")),
    },
    "bad-signature": {
        "signed by another key": _forged,
        "a signature of zeros": _part(2, lambda _: b64(bytes(64)).encode()),
        "a short signature": _part(2, lambda _: b64(bytes(63)).encode()),
        "an empty signature": _part(2, lambda _: b""),
        "altered claims": _part(1, lambda p: b64(dumps({"iss": "province"})).encode()),
        "claims malformed and forged (3 before 4)": lambda s: s.province.sign(_claims(s, sub="x"), key=Key()),
        "claims not JSON and forged": lambda s: s.province.sign(b"{", key=Key()),
        "expired and forged (3 before 7)": lambda s: s.province.sign(_claims(s, iat=1000, exp=2000), key=Key()),
    },
}


def _padded(station: Training, authority: Authority, size: int, class_: str = "priority", **claims: Any) -> bytes:
    """An order of exactly this many bytes: texts of an item make it longer."""
    args = broadcast_args(items=[{"text": "a", "lang": "vi"}], **{"class": class_})
    made = authority.claims("broadcast", args, **claims)
    bare = len(authority.sign(made))
    for extra in range(max(0, (size - bare) * 3 // 4 - 8), size):
        args["items"][0]["text"] = "a" * (1 + extra)
        raw = authority.sign(made)
        if len(raw) >= size:
            return raw
    raise AssertionError("no such size")


@pytest.mark.parametrize("reason", SILENT)
def test_what_fails_before_step_4_has_passed_gets_no_ack_and_one_event_a_minute(
    station: Training, refusals: Counter[str], reason: str
) -> None:
    since = len(station.watcher.messages)
    jtis = []
    for make in SILENT[reason].values():
        raw = make(station)
        station.publish(raw)
        refusals[reason] += 1
        jtis.append(raw)
    barrier(station)
    known = {a["jti"] for a in (m.body for m in station.watcher.all("ack", since))}
    assert len(known) == 1, f"acks beside the barrier's: {[m.body for m in station.watcher.all('ack', since)]}"
    events = [m.body for m in station.watcher.all("event", since) if m.body["kind"] == "refused"]
    mine = [epoch(e["at"]) for e in events if e["reason"] == reason]
    assert all(later - earlier > 59 for earlier, later in itertools.pairwise(mine)), f"once a minute: {mine}"
    # What an earlier test provoked is told when its own minute is over.
    assert {e["reason"] for e in events} <= {r for r, n in refusals.items() if n}, f"another reason: {events}"
    assert not station.log(since)


def test_state_orders_may_be_256_kib_and_not_a_byte_more(station: Training, refusals: Counter[str]) -> None:
    station.unschedule()
    topic = f"{station.base}/desired/schedule/province"
    since = station.publish(b"x" * (STATE_LIMIT + 1), topic)
    refusals["too-large"] += 1
    station.publish(b"x" * STATE_LIMIT, topic)
    refusals["malformed"] += 1
    entries = [
        {
            "id": f"e{n}",
            "title": "x" * 190,
            "class": "normal",
            "dtstart": "2090-01-01T05:00:00+07:00",
            "zones": ["*"],
            "items": [{"text": "y" * 250, "lang": "vi"}],
            "resume": "drop",
            "on_late": "skip",
        }
        for n in range(300)
    ]
    full = station.state(station.emergency, "schedule", {"version": number(), "entries": entries})
    assert len(full.raw) > 200 * 1024
    full.done()
    station.unschedule()
    assert not [m for m in station.watcher.all("ack", since) if m.body.get("reason")]


def test_an_empty_retained_message_and_a_retained_command_are_no_orders(
    station: Training, refusals: Counter[str]
) -> None:
    silence = f"{station.base}/desired/silence/province"
    since = station.publish(b"", silence, retain=True)
    station.publish(b"", f"{station.base}/order", retain=True)
    barrier(station)
    assert not [e for e in station.events("refused", since) if e["topic"] == silence]
    claims = station.province.claims("broadcast", broadcast_args(zones=[station.screen_zone], items=TEXT))
    station.publish(station.province.sign(claims), retain=True)
    station.publish(b"", f"{station.base}/order", retain=True)
    refusals["malformed"] += 1
    barrier(station)
    assert not [a for a in station.acks(claims["jti"]) if a["state"] != "rejected"], "a retained command played"


TEXT = [{"text": "Thử", "lang": "vi"}]


# from step 5 on: acked


def rejected(station: Training, reason: str, op: str, args: Any, authority: str = "province", **claims: Any) -> None:
    """The order is rejected for that reason, and nothing comes of it."""
    sent = station.order(getattr(station, authority), op, args, **claims)
    ack = sent.ended()
    assert (ack["state"], ack["reason"]) == ("rejected", reason), ack
    assert (ack["iss"], ack["seq"]) == (authority, 1)


LATER: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "another device": ("not-for-this-device", {}, {"aud": ["xa-khac"]}),
    "a group of others": ("not-for-this-device", {}, {"aud": ["group:tinh-khac"]}),
    "a group's name without its prefix": ("not-for-this-device", {}, {"aud": ["tinh-mau"]}),
    "another device, expired (5 before 7)": ("not-for-this-device", {}, {"aud": ["x"], "iat": 1000, "exp": 2000}),
    "expired": ("expired", {}, {"iat": -4000, "exp": -400}),
    "expired, args bad (7 before 8)": ("expired", {"class": "loud"}, {"iat": -4000, "exp": -400}),
    "issued in the future": ("not-yet-valid", {}, {"iat": 600, "exp": 1200}),
    "not before later": ("not-yet-valid", {}, {"nbf": 600}),
    "not before later, args bad (7 before 8)": ("not-yet-valid", {"zones": []}, {"nbf": 600}),
    "a class that there is not": ("bad-args", {"class": "loud"}, {}),
    "an unknown member": ("bad-args", {"colour": "red"}, {}),
    "an unknown member of an item": ("bad-args", {"items": [{"chime": "gong", "loud": 1}]}, {}),
    "no items": ("bad-args", {"items": []}, {}),
    "an item of two kinds": ("bad-args", {"items": [{"chime": "gong", "local": "moi-hop"}]}, {}),
    "an item of no kind": ("bad-args", {"items": [{}]}, {}),
    "no zones": ("bad-args", {"zones": []}, {}),
    "no title": ("bad-args", {"title": None}, {}),
    "no resume": ("bad-args", {"resume": None}, {}),
    "a bulletin id with a slash": ("bad-args", {"id": "a/b"}, {}),
    "a bulletin id of 65 characters": ("bad-args", {"id": "i" * 65}, {}),
    "a start that is no time": ("bad-args", {"start": "soon"}, {}),
    "a start without offset": ("bad-args", {"start": "2026-01-01T05:00:00"}, {}),
    "a start on 30 February": ("bad-args", {"start": "2026-02-30T05:00:00+07:00"}, {}),
    "until before start": (
        "bad-args",
        {"start": "2090-01-01T05:00:00+07:00", "until": "2090-01-01T04:00:00+07:00"},
        {},
    ),
    "12.1 dB": ("bad-args", {"volume_db": 12.1}, {}),
    "−61 dB": ("bad-args", {"volume_db": -61}, {}),
    "a volume in words": ("bad-args", {"volume_db": "loud"}, {}),
    "no repeats": ("bad-args", {"repeat": {"count": 0}}, {}),
    "10,001 repeats": ("bad-args", {"repeat": {"count": 10_001}}, {}),
    "1.5 repeats": ("bad-args", {"repeat": {"count": 1.5}}, {}),
    "a negative interval": ("bad-args", {"repeat": {"count": 2, "interval_s": -1}}, {}),
    "a hash in capitals": (
        "bad-args",
        {"items": [{"media": {"sha256": "A" * 64, "size": 1, "url": "https://x/", "type": "audio/wav"}}]},
        {},
    ),
    "a size of 0": (
        "bad-args",
        {"items": [{"media": {"sha256": "a" * 64, "size": 0, "url": "https://x/", "type": "audio/wav"}}]},
        {},
    ),
    "a relay without an end": ("bad-args", {"items": [{"relay": "dai-tinh"}]}, {}),
    "a stream without a lease": ("bad-args", {"items": [{"stream": "https://x/"}]}, {}),
    "text without a language": ("bad-args", {"items": [{"text": "x"}]}, {}),
    "a class above one's right": ("not-authorised", {"class": "emergency"}, {"authority": "commune"}),
    "a class above one's right in no zone (step 8 first)": (
        "not-authorised",
        {"class": "emergency", "zones": ["nowhere"]},
        {"authority": "commune"},
    ),
    "bad args beyond one's right (bad-args first)": (
        "bad-args",
        {"class": "emergency", "volume_db": 99},
        {"authority": "commune"},
    ),
    "no such zone": ("no-such-zone", {"zones": ["nowhere", "tag:nothing"]}, {}),
    "an unknown chime": ("content-unavailable", {"items": [{"chime": "trumpet"}]}, {}),
    "an unknown stored message": ("content-unavailable", {"items": [{"local": "nobody"}]}, {}),
    "an unknown relay": ("content-unavailable", {"items": [{"relay": "bbc", "duration_s": 5}]}, {}),
    "media of a host that is not allowed": (
        "content-unavailable",
        {"items": [{"media": {"sha256": "a" * 64, "size": 1, "url": "https://evil.example/a", "type": "audio/wav"}}]},
        {},
    ),
    "media over plain HTTP": (
        "content-unavailable",
        {"items": [{"media": {"sha256": "a" * 64, "size": 1, "url": "http://127.0.0.1/a", "type": "audio/wav"}}]},
        {},
    ),
    "a stream of a host that is not allowed": (
        "content-unavailable",
        {"items": [{"stream": "https://evil.example/live", "lease_s": 5}]},
        {},
    ),
    "a file of this machine": (
        "content-unavailable",
        {"items": [{"media": {"sha256": "a" * 64, "size": 1, "url": "file:///etc/passwd", "type": "audio/wav"}}]},
        {},
    ),
}


@pytest.mark.parametrize("case", LATER)
def test_a_rejected_broadcast_says_why(station: Training, case: str) -> None:
    reason, changes, claims = LATER[case]
    claims = dict(claims)
    now = int(time.time())
    for member in ("iat", "exp", "nbf"):
        if member in claims and abs(claims[member]) < 10_000 and claims[member] not in (1000, 2000):
            claims[member] += now
    args = broadcast_args(**changes)
    authority = claims.pop("authority", "province")
    rejected(station, reason, "broadcast", args, authority, **claims)


def test_ops_that_do_not_exist_or_came_on_the_wrong_topic_are_rejected(station: Training) -> None:
    rejected(station, "unknown-op", "dance", {})
    rejected(station, "unknown-op", "dance", {"zones": 7})
    rejected(station, "bad-args", "cancel", {})
    rejected(station, "bad-args", "cancel", {"ids": []})
    rejected(station, "bad-args", "cancel", {"ids": ["a"], "iss": "commune", "id": "b"})
    rejected(station, "bad-args", "test", {})
    rejected(station, "bad-args", "reboot", {"now": True})
    rejected(station, "bad-args", "report", {"what": "gossip", "from": rfc3339(0), "to": rfc3339(1), "upload": "x"})
    silence = {"scope": station.id, "version": 1, "on": False, "zones": ["*"]}
    rejected(station, "bad-args", "silence", silence)
    desired = f"{station.base}/desired/silence/province"
    for case, topic, args in (
        ("a command on a desired topic", f"{station.base}/desired/cancel/province", None),
        ("the op of another topic", f"{station.base}/desired/schedule/province", silence),
        ("the topic of another issuer", f"{station.base}/desired/silence/commune", silence),
        ("the scope of another device", desired, silence | {"scope": "xa-khac"}),
        ("the scope of a group on a device's topic", desired, silence | {"scope": "group:all"}),
        ("no scope", desired, {k: v for k, v in silence.items() if k != "scope"}),
        ("a version in words", desired, silence | {"version": "1"}),
        ("a version of 2^53 − 1 and a half", desired, silence | {"version": 1.5}),
        ("include_local without an end", desired, silence | {"on": True, "include_local": True}),
        (
            "include_local for more than a day",
            desired,
            silence | {"on": True, "include_local": True, "until": rfc3339(time.time() + 25 * 3600)},
        ),
    ):
        if args is None:
            made = station.province.claims("cancel", {"ids": ["x"]})
        else:
            made = station.province.claims("silence", args, state=True)
        station.publish(station.province.sign(made), topic)
        ack = Bulletin(station, station.province, made, b"").ended()
        assert (ack["state"], ack["reason"]) == ("rejected", "bad-args"), (case, ack)
    lower = station.commune.claims(
        "silence",
        silence | {"on": True, "include_local": True, "until": rfc3339(time.time() + 60)},
        state=True,
    )
    station.publish(station.commune.sign(lower), f"{station.base}/desired/silence/commune")
    assert Bulletin(station, station.commune, lower, b"").ended()["reason"] == "bad-args"


BAD_ENTRIES: dict[str, dict[str, Any]] = {
    "FREQ hourly": {"rrule": "FREQ=HOURLY"},
    "FREQ secondly": {"rrule": "FREQ=SECONDLY"},
    "BYHOUR": {"rrule": "FREQ=DAILY;BYHOUR=5"},
    "BYMINUTE": {"rrule": "FREQ=DAILY;BYMINUTE=5"},
    "BYSECOND": {"rrule": "FREQ=DAILY;BYSECOND=5"},
    "no rule": {"rrule": "every day"},
    "two rules": {"rrule": "FREQ=DAILY\nRRULE:FREQ=DAILY"},
    "30 February": {"rrule": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"},
    "beyond the step limit": {"rrule": "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO;BYSETPOS=2"},
    "an interval of 0": {"rrule": "FREQ=DAILY;INTERVAL=0"},
    "367 exceptions": {"rrule": "FREQ=DAILY", "exdate": ["2090-01-01T05:00:00+07:00"] * 367},
    "dtstart no time": {"dtstart": "05:00"},
    "on_late unknown": {"on_late": "sing"},
    "no zones": {"zones": []},
    "an unknown member": {"loud": True},
}


def entry(**changes: Any) -> dict[str, Any]:
    return {
        "id": f"s{time.monotonic_ns()}",
        "title": "Lịch",
        "class": "priority",
        "dtstart": "2090-01-01T05:00:00+07:00",
        "zones": ["*"],
        "items": CHIME,
        "resume": "drop",
        "on_late": "skip",
    } | changes


def test_schedules_that_cannot_be_are_bad_args(station: Training) -> None:
    version = number()
    for case, changes in BAD_ENTRIES.items():
        args = {"version": version, "entries": [entry(**changes)]}
        ack = station.state(station.province, "schedule", args).ended()
        assert (ack["state"], ack.get("reason")) == ("rejected", "bad-args"), (case, ack)
    too_many = {"version": version, "entries": [entry(id=f"n{n}") for n in range(301)]}
    assert station.state(station.province, "schedule", too_many).ended()["reason"] == "bad-args"
    beyond = {"version": version, "entries": [entry(**{"class": "emergency"})]}
    assert station.state(station.commune, "schedule", beyond).ended()["reason"] == "not-authorised"


def test_300_schedule_entries_are_counted_over_all_issuers(station: Training) -> None:
    station.unschedule()
    few = {"version": number(), "entries": [entry(id=f"n{n}") for n in range(200)]}
    station.state(station.province, "schedule", few).done()
    rest = {"version": number(), "entries": [entry(id=f"n{n}") for n in range(101)]}
    assert station.state(station.commune, "schedule", rest).ended()["reason"] == "bad-args"
    station.unschedule()


def test_the_highest_version_of_a_state_order_wins(station: Training) -> None:
    version = number()
    args = {"version": version, "on": False, "zones": ["*"]}
    first = station.state(station.province, "silence", args)
    first.done()
    before = len(station.acks(first.jti))
    station.publish(first.raw, f"{station.base}/desired/silence/province", retain=True)
    barrier(station)
    assert len(station.acks(first.jti)) == before, "the same version and JWS is silently ignored"
    other = station.state(station.province, "silence", args | {"zones": [station.screen_zone]}).ended()
    assert (other["state"], other["reason"]) == ("rejected", "version-conflict")
    lower = station.state(station.province, "silence", args | {"version": version - 1}).ended()
    assert (lower["state"], lower["reason"]) == ("rejected", "stale-version")
    bad = station.state(station.province, "silence", args | {"version": version - 1, "loud": 1}).ended()
    assert bad["reason"] == "bad-args", "bad-args comes before stale-version"
    mine = station.state(station.commune, "silence", args | {"version": version - 5}).ended()
    assert mine["state"] == "done", "versions belong to their issuer"
    station.state(station.province, "silence", args | {"version": number()}).done()


def test_a_state_order_that_has_expired_stays_in_force_but_is_not_admitted_anew(station: Training) -> None:
    now = int(time.time())
    args = {"version": number(), "on": False, "zones": ["*"]}
    late = station.state(station.province, "silence", args, iat=now - 4000, exp=now - 400).ended()
    assert (late["state"], late["reason"]) == ("rejected", "expired")


def test_only_remote_settings_can_be_configured(station: Training) -> None:
    version = number()
    for key, value in (("trust.root_keys", "x"), ("device.unit", "1"), ("device.groups", ["x"]), ("mqtt.host", "x")):
        ack = station.state(station.province, "configure", {"version": version, "set": {key: value}}).ended()
        assert (ack["state"], ack["reason"]) == ("rejected", "not-authorised"), (key, ack)


def test_the_same_bytes_again_get_the_recorded_ack_and_do_nothing_else(station: Training) -> None:
    sent = station.broadcast(station.province, CHIME)
    last = sent.done()
    entries = len(sent.entries())
    since = station.publish(sent.raw)
    again = station.wait_ack(sent.jti, lambda _: True, "the recorded ack", since=since)
    assert again == last
    barrier(station)
    assert len(station.acks(sent.jti)) == last["seq"] + 1
    assert len(sent.entries()) == entries


def test_a_rejected_order_is_remembered_as_well(station: Training) -> None:
    sent = station.order(station.province, "broadcast", broadcast_args(zones=["nowhere"]))
    first = sent.ended()
    since = station.publish(sent.raw)
    assert station.wait_ack(sent.jti, lambda _: True, "the recorded ack", since=since) == first


def test_jti_and_ctr_cannot_be_used_twice(station: Training) -> None:
    signer = station.emergency
    args = {"ids": ["nothing"]}
    first = station.order(signer, "cancel", args)
    first.done()
    since = len(station.watcher.messages)
    station.order(signer, "cancel", {"ids": ["other"]}, jti=first.jti)
    ack = station.wait_ack(first.jti, lambda a: a["state"] == "rejected", "the refusal", since=since)
    assert ack["reason"] == "replayed"
    assert station.order(signer, "cancel", args, ctr=first.claims["ctr"]).ended()["reason"] == "replayed"
    top = signer.ctr + 5000
    station.order(signer, "cancel", args, ctr=top).done()
    assert station.order(signer, "cancel", args, ctr=top - 1024).ended()["reason"] == "replayed"
    station.order(signer, "cancel", args, ctr=top - 1023).done()
    assert station.order(signer, "cancel", args, ctr=top - 1023).ended()["reason"] == "replayed"
    signer.ctr = top
    bad = station.order(signer, "cancel", {}, ctr=top - 7).ended()
    assert bad["reason"] == "bad-args"
    assert station.order(signer, "cancel", args, ctr=top - 7).ended()["reason"] == "replayed", "bad-args used its ctr"
    late = station.order(signer, "cancel", args, ctr=top - 9, iat=1_700_000_000, exp=1_700_000_100)
    assert late.ended()["reason"] == "expired"
    station.order(signer, "cancel", args, ctr=top - 9).done()


def test_orders_reach_the_device_by_its_aliases_and_groups(station: Training) -> None:
    alias = station.device["aliases"][0]
    group = station.device["groups"][0]
    for case, topic, aud in (
        ("an alias", f"{station.base}/order", [alias]),
        ("one of many", f"{station.base}/order", ["xa-khac", station.id]),
        ("a group on its topic", f"tram/1/group/{group}/order", [f"group:{group}"]),
        ("everyone", "tram/1/group/all/order", ["group:all"]),
        ("a group on the device's own topic", f"{station.base}/order", ["group:all"]),
        ("the device on a group's topic", f"tram/1/group/{group}/order", [station.id]),
    ):
        ack = station.order(station.province, "cancel", {"ids": ["x"]}, aud=aud, topic=topic).ended()
        assert ack["state"] == "done", (case, ack)
    since = len(station.watcher.messages)
    other = station.order(
        station.province, "cancel", {"ids": ["x"]}, aud=["group:tinh-khac"], topic=f"tram/1/group/{group}/order"
    )
    barrier(station)
    assert not station.acks(other.jti), "on a group's topic what is for others is silently ignored"
    assert not [e for e in station.events("refused", since) if e["topic"] == f"tram/1/group/{group}/order"]


def test_a_state_order_for_a_group_counts_by_its_own_scope(station: Training) -> None:
    version = number()
    for scope, aud, topic in (
        ("group:all", ["group:all"], "tram/1/group/all/desired/silence/province"),
        (station.device["aliases"][0], [station.device["aliases"][0]], f"{station.base}/desired/silence/province"),
    ):
        args = {"scope": scope, "version": version, "on": False, "zones": ["*"]}
        made = station.province.claims("silence", args, state=True, aud=aud)
        station.publish(station.province.sign(made), topic, retain=True)
        try:
            assert Bulletin(station, station.province, made, b"").ended()["state"] == "done", scope
        finally:
            station.publish(b"", topic, retain=True)


def test_older_signers_may_say_eddsa_and_other_libraries_sign_as_well(station: Training) -> None:
    made = station.province.claims("cancel", {"ids": ["x"]})
    station.publish(station.province.sign(made, alg="EdDSA"))
    Bulletin(station, station.province, made, b"").done()

    from joserfc import jws
    from joserfc.jwk import OKPKey

    made = station.province.claims("cancel", {"ids": ["x"]})
    secret = {**station.province.key.jwk, "d": b64(station.province.key.private.private_bytes_raw())}
    signed = jws.serialize_compact(
        station.province.header(alg="EdDSA"), json.dumps(made), OKPKey.import_key(secret), algorithms=["EdDSA"]
    )
    station.publish(signed.encode())
    Bulletin(station, station.province, made, b"").done()
