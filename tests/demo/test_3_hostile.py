"""Bad input: whatever comes, the station lives, plays nothing that it should not, and says what was wrong."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from tests.demo.customer import Bulletin, Training, epoch, number, pitch, tone, until
from tests.demo.hostile_server import HostileServer
from tests.demo.test_2_programmes import tones

__all__ = ["tones"]

pytestmark = [pytest.mark.demo, pytest.mark.xdist_group("station-failures")]

SECRET_HZ = 5000
"""What must never be heard."""


# media


def described(data: bytes, url: str, type_: str = "audio/mpeg", **changes: Any) -> dict[str, Any]:
    media = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "url": url, "type": type_}
    return {"media": media | changes}


def test_hostile_media_costs_its_item_only(station: Training, server: HostileServer, scratch: Path, tones: Any) -> None:
    count = iter(range(1, 100))

    def secret() -> bytes:
        """What must never be heard; no two are the same file."""
        return tone(scratch / "secret.wav", SECRET_HZ, 1.5 + next(count) / 100).read_bytes()

    kept = station.media_dir / "secret.wav"
    kept.write_bytes(secret())
    port = server.host.split(":")[1]
    cases: dict[str, dict[str, Any]] = {}

    def case(name: str, body: bytes, served: bytes | None, type_: str = "audio/wav", **changes: Any) -> None:
        path = f"/{next(count)}.wav"
        if served is not None:
            server.files[path] = served
        cases[name] = described(body, server.url + path, type_, **changes)

    one = secret()
    case("another file than its hash", secret(), one, size=len(one))
    one = secret()
    case("a file shorter than its size", one, one[: len(one) // 2])
    case("a file longer than its size", (one := secret())[:1000], one)
    for name, target in (
        ("another host", f"https://localhost:{port}/secret.wav?away"),
        ("plain HTTP", f"http://{server.host}/secret.wav?plain"),
        ("a private address", f"https://10.255.255.1:{port}/secret.wav"),
        ("a file", f"file://{kept}"),
        ("itself", "/again"),
    ):
        case(f"a redirect to {name}", secret(), None)
        path = cases[f"a redirect to {name}"]["media"]["url"].removeprefix(server.url)
        server.redirects[path] = server.url + path if target == "/again" else target
    case("endless", secret(), None)
    server.endless.add(cases["endless"]["media"]["url"].removeprefix(server.url))
    hollow = {
        "text with the name of music": b"This is not music.\n" * 2000,
        "zeros": bytes(50_000),
        "an Ogg that ends in its first page": b"OggS" + bytes(60),
        "a WAV header and nothing else": secret()[:44],
        "a program": b"\x7fELF" + bytes(3000),
        "an archive": b"PK\x03\x04" + bytes(3000),
        "HTML": b"<html><audio src='file:///etc/passwd'></html>",
        "m3u": f"#EXTM3U\n#EXTINF:2,x\n{kept}\n{server.url}/playlist\n".encode(),
        "pls": f"[playlist]\nNumberOfEntries=1\nFile1=file://{kept}\nVersion=2\n".encode(),
        "xspf": f'<?xml version="1.0"?><playlist version="1" xmlns="http://xspf.org/ns/0/"><trackList><track>'
        f"<location>file://{kept}</location></track></trackList></playlist>".encode(),
        "asx": f'<asx version="3.0"><entry><ref href="file://{kept}"/></entry></asx>'.encode(),
        "ffconcat": f"ffconcat version 1.0\nfile '{kept}'\n".encode(),
        "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{server.url}/playlist\n#EXT-X-ENDLIST\n".encode(),
    }
    for n, (name, body) in enumerate(hollow.items()):
        case(name, body, body, ("audio/mpeg", "audio/x-mpegurl", "audio/ogg", "application/zip")[n % 4])
    started = time.time()
    sent: dict[str, Bulletin] = {
        case: station.broadcast(station.province, [bad, station.media(tones(1200 + 40 * n, 0.2))])
        for n, (case, bad) in enumerate(cases.items())
    }
    alone = station.broadcast(station.province, [cases["another file than its hash"]])
    for n, (case, bulletin) in enumerate(sent.items()):
        ack = bulletin.ended()
        assert ack["state"] == "done", (case, ack)
        (entry,) = bulletin.entries()
        good = bulletin.claims["args"]["items"][1]["media"]["sha256"]
        assert entry["content"][-1] == good, (case, entry)
        assert pitch(station.heard_entry(entry)[-7200:]) == pytest.approx(1200 + 40 * n, abs=25), case
    ack = alone.ended()
    assert (ack["state"], ack["zones"][station.sound_zone]["reason"]) == ("failed", "content-unavailable"), ack
    heard = station.pitches(started, time.time() - 0.2, 0.1)
    assert not [p for p in heard if abs(p - SECRET_HZ) < 60], "what should never have been played was"
    assert not [p for p in server.asked if p.endswith(("?away", "?plain", "/playlist", "/secret.wav"))], (
        f"followed: {server.asked}"
    )
    assert station.events("alarm"), "what was wrong is said"


def test_a_file_that_one_address_did_not_have_is_had_from_another(
    station: Training, server: HostileServer, tones: Any
) -> None:
    item = station.media(tones(1000, 0.32))
    wrong = {"media": item["media"] | {"url": f"{server.url}/wrong-{number()}.wav"}}
    server.files[wrong["media"]["url"].removeprefix(server.url)] = bytes(item["media"]["size"])
    lost = station.broadcast(station.province, [wrong]).ended()
    assert (lost["state"], lost["zones"][station.sound_zone]["reason"]) == ("failed", "content-unavailable")
    station.broadcast(station.province, [item]).done()


def test_an_emergency_whose_content_cannot_be_had_does_not_keep_the_zone(
    station: Training, server: HostileServer, tones: Any
) -> None:
    """The siren bridges; what is there is played; and the next emergency has its turn."""
    nothing = described(bytes(9), f"{server.url}/nothing-at-all-{number()}", "audio/wav")
    good = station.media(tones(4000, 0.3))
    mixed = station.broadcast(station.province, [nothing, good], class_="emergency")
    alone = station.broadcast(station.province, [nothing], class_="emergency")
    mixed.done()
    assert pitch(station.heard_entry(mixed.entries()[0])[-7200:]) == pytest.approx(4000, abs=30)
    ack = alone.ended()
    assert (ack["state"], ack["zones"][station.sound_zone]["reason"]) == ("failed", "content-unavailable")


def test_a_hundred_megabytes_that_are_no_sound(station: Training, server: HostileServer, tones: Any) -> None:
    data = b"PK\x03\x04" + bytes(100 * 2**20)
    server.files["/big.mp3"] = data
    try:
        sent = station.broadcast(
            station.province, [described(data, f"{server.url}/big.mp3"), station.media(tones(1000, 0.3))]
        )
        alarm = station.broadcast(station.province, [station.media(tones(4000, 0.3))], class_="emergency")
        alarm.done()
        sent.done()
        assert pitch(station.heard_entry(sent.entries()[0])[-9600:]) == pytest.approx(1000, abs=20)
    finally:
        del server.files["/big.mp3"]


def test_a_redirect_to_an_allowed_host_is_followed(station: Training, server: HostileServer, tones: Any) -> None:
    item = station.media(tones(1000, 0.31))
    server.redirects["/moved"] = item["media"]["url"]
    item["media"]["url"] = f"{server.url}/moved"
    station.broadcast(station.province, [item]).done()


# orders


def mutated(raw: bytes, chance: random.Random) -> bytes:
    """One to three random edits: a byte changed, some left out, some put in, a part repeated, the rest cut off."""
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(max(1, len(raw)))
        before, after, few = raw[:at], raw[at:], chance.randint(1, 30)
        raw = chance.choice(
            [
                before + chance.randbytes(1) + after[1:],
                before + after[few:],
                before + chance.randbytes(few) + after,
                before + raw[: few * 7] + after,
                before,
            ]
        )
    return raw


VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    2**53 - 1,
    1.5,
    -0.0,
    1e15,
    "",
    "x",
    "*",
    "now",
    "\u0000",
    "\u202e\ufdfd",
    "á" * 300,
    "9999-12-31T23:59:60+23:59",
    "0000-01-01T00:00:00Z",
    "2090-01-01T00:00:00+07:00",
    [],
    {},
    [[]],
    [{}],
    ["*"] * 200,
    {"a": {"b": {"c": []}}},
    {"count": 1e9},
]


def bent(value: Any, chance: random.Random) -> Any:
    """The same JSON with one place replaced, removed or added."""
    copy = json.loads(json.dumps(value))
    node, above, key = copy, None, None
    while isinstance(node, dict | list) and node and chance.random() < 0.75:
        above, key = node, chance.choice(list(node)) if isinstance(node, dict) else chance.randrange(len(node))
        node = above[key]
    if above is None or key is None:
        copy[chance.choice(["x", "zones", "until"])] = chance.choice(VALUES)
    elif chance.random() < 0.2:
        del above[key]
    else:
        above[key] = chance.choice(VALUES)
    return copy


def test_several_hundred_damaged_orders_leave_the_station_alive(station: Training, tones: Any) -> None:
    chance = random.Random(20261123)
    before = len(station.log())
    far = "2090-01-01T05:00:00+07:00"
    good = {
        "id": "fuzz",
        "title": "Không được phát",
        "class": "priority",
        "start": far,
        "until": "2090-01-01T06:00:00+07:00",
        "zones": [station.sound_zone],
        "items": [{"relay": "dai-tinh", "duration_s": 3, "fallback": [{"chime": "gong"}]}, {"text": "x", "lang": "vi"}],
        "resume": "drop",
        "repeat": {"count": 2, "interval_s": 1},
        "replaces": ["a"],
        "volume_db": -3,
    }
    entry = {k: good[k] for k in ("id", "title", "class", "zones", "items", "resume")}
    plan = {
        "scope": station.id,
        "version": 1,
        "entries": [
            entry
            | {
                "dtstart": far,
                "rrule": "FREQ=WEEKLY;BYDAY=MO;COUNT=5",
                "exdate": [far],
                "on_late": "skip",
                "duration_s": 5,
            }
        ],
    }
    silence = {"scope": station.id, "version": 1, "on": False, "zones": ["*"], "until": far}
    cancel = {"iss": "commune", "id": "nothing", "occurrence": far}
    topics = [f"{station.base}/order", "tram/1/group/all/order"]
    topics += [f"{station.base}/desired/{op}/province" for op in ("schedule", "silence", "configure", "authorities")]
    valid = station.province.sign(station.province.claims("broadcast", good))
    for _ in range(250):
        station.publish(mutated(valid, chance), chance.choice(topics))
    for _ in range(120):
        for op, args, state in (
            ("broadcast", good, False),
            ("cancel", cancel, False),
            ("schedule", plan, True),
            ("silence", silence, True),
        ):
            made = station.province.claims(op, bent(args, chance), state=state)
            if state and isinstance(made["args"].get("version"), int):
                made["args"]["version"] = number()
            if chance.random() < 0.2:
                made = bent(made, chance)
            topic = f"{station.base}/desired/{op}/province" if state else f"{station.base}/order"
            station.publish(station.province.sign(made), topic)
    since = len(station.watcher.messages)
    for op, args in (("silence", silence), ("schedule", {"entries": []})):
        sent = station.state(station.province, op, args | {"version": number() + 1000})
        sent.done()
    taken = {m.body.get("id") for m in station.watcher.all("ack") if m.body["state"] == "accepted"}
    ids = sorted(i for i in taken if i)
    for at in range(0, len(ids), 64):
        station.order(station.province, "cancel", {"ids": ids[at : at + 64]}).done()
    station.order(station.province, "silence", {}).ended()
    assert not [e for e in station.log()[before:] if e["started"] and e["title"] == good["title"]]
    assert not [e for e in station.events("alarm", since) if e["what"] == "internal"]
    until(lambda: not station.status()["silences"], "no silence left")
    station.broadcast(station.province, [station.media(tones(4000, 0.3))], class_="emergency").done()
    station.broadcast(station.province, [station.media(tones(900, 0.3))]).done()
    internal = [e for e in station.events("alarm") if e["what"] == "internal"]
    assert not internal, internal


# the play log


def canonical(value: Any) -> str:
    """RFC 8785 for what a log entry holds: sorted names, ECMAScript numbers, shortest strings."""
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return "{" + ",".join(f"{canonical(n)}:{canonical(value[n])}" for n in names) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return json.dumps(value, ensure_ascii=False)


def test_the_log_is_one_chain_that_anybody_can_verify(station: Training) -> None:
    done = station.tram("log", "--format", "json")
    assert done.returncode == 0
    log = json.loads(done.stdout)
    entries = log["entries"] if isinstance(log, dict) else log
    assert len(entries) > 3
    previous = "0" * 64
    for n, entry in enumerate(entries, 1):
        assert entry["n"] == n
        assert entry["prev"] == previous
        bare = {k: v for k, v in entry.items() if k != "hash"}
        previous = hashlib.sha256(canonical(bare).encode()).hexdigest()
        assert entry["hash"] == previous, entry
        assert {"bulletin", "title", "class", "iss", "zone", "planned", "started", "ended"} <= set(entry)
        assert {"start_error_ms", "result", "reason", "by", "level_dbfs", "content"} <= set(entry)
        assert entry["result"] in {"completed", "interrupted", "skipped", "failed", "declined"}
        if entry["started"]:
            assert epoch(entry["started"]) <= epoch(entry["ended"])
    by_number = {e["n"]: e for e in entries}
    assert all(by_number[e["n"]] == e for e in station.log()), "the province has the same entries"
    assert station.tram("log", "--verify").returncode == 0
    head = f"{entries[-1]['n']}:{entries[-1]['hash'][:8]}"
    assert station.tram("log", "--verify", "--head", head).returncode == 0
    assert station.tram("log", "--verify", "--head", f"{entries[-1]['n'] + 3}:{'0' * 8}").returncode == 1
    beats = [m.body["log"] for m in station.watcher.all("beat")]
    assert all(n == 0 or by_number[n]["hash"][:8] == begin for n, begin in beats)


def test_a_log_that_was_tampered_with_is_found_out(station: Training, scratch: Path) -> None:
    import yaml

    configuration = yaml.safe_load(station.config.read_text("utf-8"))
    data = Path(configuration["data_dir"])
    copy = scratch / "copy"
    cases = {
        "altered": ("UPDATE playlog SET entry = CAST(replace(CAST(entry AS TEXT), ?, 'x') AS BLOB) WHERE n = 2", 1, []),
        "missing": ("DELETE FROM playlog WHERE n = 3", 1, []),
        "truncated": ("DELETE FROM playlog WHERE n = (SELECT max(n) FROM playlog)", 1, ["--head"]),
        "untouched": ("SELECT 1", 0, ["--head"]),
    }
    for case, (statement, code, words) in cases.items():
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        source = sqlite3.connect(f"file:{data / 'tram.db'}?mode=ro", uri=True)
        target = sqlite3.connect(copy / "tram.db")
        source.backup(target)
        source.close()
        entries = [json.loads(row[0]) for row in target.execute("SELECT entry FROM playlog ORDER BY n")]
        target.execute(statement, [entries[1]["bulletin"]] if "?" in statement else [])
        target.commit()
        target.close()
        fake = scratch / "copy.yaml"
        fake.write_text(yaml.safe_dump(configuration | {"data_dir": str(copy), "run_dir": str(copy)}), "utf-8")
        config, station.config = station.config, fake
        try:
            head = f"{entries[-1]['n']}:{entries[-1]['hash']}"
            done = station.tram("log", "--verify", *words, *([head] if words else []))
        finally:
            station.config = config
        assert done.returncode == code, (case, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
