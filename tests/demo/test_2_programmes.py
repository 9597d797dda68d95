"""CONTRACT sections 1, 4, 5, 6: what sounds, when, in whose name, and what the station says of it."""

from __future__ import annotations

import itertools
import json
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.demo.conftest import DEAD, DELAY_MS, QUIET
from tests.demo.customer import (
    AUDIBLE,
    Bulletin,
    Training,
    epoch,
    error_of,
    number,
    pitch,
    rfc3339,
    rms_dbfs,
    tone,
    until,
    write_wav,
)

pytestmark = [pytest.mark.demo, pytest.mark.xdist_group("station-programmes")]

TEXT = [{"text": "Thông báo nghiệm thu.", "lang": "vi"}]
NEAR_S = 0.05
"""How near two moments are the same where nothing exact is asked."""


def encoded(source: Path, ending: str, *options: str) -> Path:
    target = source.with_name(f"{source.stem}{ending}")
    subprocess.run(["ffmpeg", "-y", "-v", "error", "-i", str(source), *options, str(target)], check=True)
    return target


@pytest.fixture(scope="session")
def tones(scratch: Path) -> Any:
    """A tone of so many hertz and seconds as a WAV file."""

    def make(hertz: float, seconds: float = 0.6, **how: Any) -> Path:
        suffix = "-".join(f"{k}{v}" for k, v in how.items())
        return tone(scratch / f"{hertz:.0f}-{seconds}{suffix}.wav", hertz, seconds, **how)

    return make


STEP_S = 0.4


@pytest.fixture(scope="session")
def scale(scratch: Path) -> Path:
    """Twelve steps, 1,200, 1,400 … 3,400 Hz (sirens are lower): any moment tells where it is."""
    t = np.arange(round(STEP_S * 48_000)) / 48_000
    steps = [np.cos(2 * np.pi * (1200 + 200 * n) * t) * 0.25 for n in range(12)]
    return write_wav(scratch / "scale.wav", np.concatenate(steps))


def step(hertz: float) -> int | None:
    """Which step of the scale that is."""
    n = round((hertz - 1200) / 200)
    return n if 0 <= n < 12 and abs(hertz - 1200 - 200 * n) < 40 else None


def steps(station: Training, entry: dict[str, Any]) -> list[int]:
    """The steps of the scale heard during a log entry, repetitions left out."""
    begin, end = epoch(entry["started"]), epoch(entry["ended"])
    found = [step(p) for p in station.pitches(begin, end, 0.05)]
    return [n for n, _ in itertools.groupby(n for n in found if n is not None)]


# the link


def test_state_is_retained_and_says_who_the_device_is(station: Training) -> None:
    message = [m for m in station.watcher.all("state") if m.topic == f"{station.base}/state"][-1]
    body = message.body
    assert (message.qos, message.retain) == (1, True)
    assert {"device", "online", "birth", "agent", "image", "capabilities", "zones", "since"} <= set(body)
    assert (body["device"], body["online"]) == (station.id, True)
    assert isinstance(body["birth"], int)
    assert body["birth"] >= 1
    assert epoch(body["since"]) < time.time()


def test_status_is_retained_and_beats_are_small(station: Training) -> None:
    status = station.watcher.wait(lambda m: m.topic == f"{station.base}/status", "a status")
    assert (status.qos, status.retain) == (1, True)
    beat = station.watcher.wait(lambda m: m.topic == f"{station.base}/beat", "a beat")
    assert (beat.qos, beat.retain) == (0, False)
    # Three owned zones with eight letters of each bulletin fit only without the customer's own names for the zones.
    assert len(beat.payload) - sum(map(len, beat.body["zones"])) <= 120
    assert beat.expiry is None or beat.expiry <= 120
    body = beat.body
    assert set(body) == {"n", "at", "zones", "faults", "rev", "log"}
    assert isinstance(body["at"], int)
    assert abs(body["at"] - beat.at) < 60
    assert isinstance(body["faults"], int)
    assert len(body["log"][1]) == 8
    status_fields = status.body
    assert {"zones", "rev", "outbox", "clock"} <= set(status_fields)


def test_events_and_acks_are_qos_1_and_not_retained(station: Training, tones: Any) -> None:
    sent = station.broadcast(station.province, [station.media(tones(800))])
    sent.done()
    sent.entries()
    for kind in ("ack", "event"):
        messages = station.watcher.all(kind)
        assert {(m.qos, m.retain) for m in messages} == {(1, False)}, kind
    acks = sent.acks()
    assert [a["seq"] for a in acks] == list(range(1, len(acks) + 1))
    states = [state for state, _ in itertools.groupby(a["state"] for a in acks)]
    assert states == ["received", "accepted", "running", "done"]
    for ack in acks:
        assert {"jti", "iss", "id", "seq", "state", "at", "zones"} <= set(ack)
        assert set(ack["zones"]) == {station.sound_zone}
    assert "first_sample_at" in acks[-1]["zones"][station.sound_zone]


def test_a_device_may_write_only_its_own_topics(station: Training) -> None:
    """The watcher's certificate may read all and write nothing; what it sends reaches nobody."""
    claims = station.province.claims("cancel", {"ids": ["x"]})
    station.watcher.send(f"{station.base}/order", station.province.sign(claims))
    station.watcher.send(f"{station.base}/state", b"{}")
    station.order(station.province, "cancel", {"ids": ["x"]}).done()
    assert not station.acks(claims["jti"])
    assert all(m.payload != b"{}" for m in station.watcher.all("state"))


# sound


def test_a_scheduled_start_falls_on_its_sample(station: Training, tones: Any) -> None:
    """A busy machine may make a start late, never early, and the log tells by how much; some are on their sample."""
    item = station.media(tones(1000, 0.4))
    station.have(item)
    errors = []
    for _ in range(3):
        start = time.time() + 5
        sent = station.broadcast(station.province, [item], start=rfc3339(start))
        ack = sent.done()
        (entry,) = sent.entries()
        errors.append(abs(error_of(entry, start)))
        onset = station.hear(start - 0.3)
        assert not station.heard(start - 0.3, onset - 0.001).any(), "nothing is heard before"
        assert abs(epoch(entry["started"]) - onset) < 0.002, "the log says when it was heard"
        assert abs(epoch(ack["zones"][station.sound_zone]["first_sample_at"]) - onset) < 0.002
    assert min(errors) < 1, f"ms: {errors}"


def test_the_log_tells_the_level_that_was_sent_out(station: Training, tones: Any) -> None:
    for level, volume in ((0.9, None), (0.3, None), (0.3, -6.0)):
        item = station.media(tones(900, 0.8, level=level))
        before = station.underruns()
        sent = station.broadcast(station.province, [item], volume_db=volume)
        sent.done()
        (entry,) = sent.entries()
        sound = station.heard_entry(entry)
        torn = station.underruns() - before
        assert torn or abs(rms_dbfs(sound) - entry["level_dbfs"]) < 0.3, (level, volume)
        expected = rms_dbfs(np.array([level])) - 3.01 + (volume or 0)
        assert abs(entry["level_dbfs"] - expected) < 0.5, (level, volume)
        assert entry["content"] == [item["media"]["sha256"]]


def test_all_formats_rates_and_channels_follow_each_other_without_a_gap(station: Training, tones: Any) -> None:
    parts = [
        (tones(600, 0.4, rate=8_000), 0.4),
        (tones(800, 0.4, rate=44_100, channels=2), 0.4),
        (encoded(tones(1000, 0.4, rate=22_050), ".flac"), 0.4),
        (tones(1200, 0.4, rate=96_000, channels=2), 0.4),
        (encoded(tones(1400, 0.4, rate=48_000), ".mp3"), 0.4),
        (encoded(tones(1600, 0.4, rate=32_000), ".opus", "-c:a", "libopus"), 0.4),
        (encoded(tones(1800, 0.4, rate=44_100, channels=2), ".m4a", "-c:a", "aac"), 0.4),
        (tones(2000, 0.4, rate=11_025), 0.4),
    ]
    before = station.underruns()
    sent = station.broadcast(station.province, [station.media(path) for path, _ in parts])
    sent.done()
    (entry,) = sent.entries()
    assert len(entry["content"]) == len(parts)
    begin = epoch(entry["started"])
    total = epoch(entry["ended"]) - begin
    late = station.underruns() - before
    assert late or abs(total - 0.4 * len(parts)) < 0.35, "codecs add padding, nothing more"
    heard = [round(p, -2) for p in station.pitches(begin, begin + total, 0.1)]
    order = [p for p, _ in itertools.groupby(heard) if p]
    wanted = [600 + 200 * n for n in range(len(parts))]
    assert [p for p in order if p in wanted] == wanted, heard
    sound = np.abs(station.heard(begin, begin + 4 * 0.4))
    loud = np.maximum.reduceat(sound, np.arange(0, len(sound), 240))
    gaps = np.flatnonzero(loud <= 0.05) * 5
    assert not len(gaps) or late, f"gaps in files that have no padding, and no underrun was reported: {gaps} ms"


def test_every_kind_of_item_sounds(station: Training, tones: Any) -> None:
    live = station.media_url.rsplit("/", 1)[0] + "/live/dai-tinh"
    sent = station.broadcast(
        station.province,
        [
            {"chime": "gong"},
            {"text": "Xin chào.", "lang": "vi"},
            {"relay": "dai-tinh", "duration_s": 1.5},
            {"stream": live, "lease_s": 1.0},
            station.media(tones(1000)),
        ],
    )
    sent.done()
    (entry,) = sent.entries()
    assert len(entry["content"]) == 3, "hashes of chime, speech and file; live sound has none"
    sound = station.heard_entry(entry)
    assert pitch(sound[-24_000:]) == pytest.approx(1000, abs=20)
    thirds = np.array_split(sound, 12)
    assert sum(rms_dbfs(part) > -50 for part in thirds) >= 6, "live sound takes a moment to come on a busy machine"
    assert len(sent.entries()) == 1, "one stretch, one entry"


def test_an_unreachable_relay_is_replaced_by_its_fallback(station: Training, tones: Any) -> None:
    own = station.broadcast(station.province, [{"relay": DEAD, "duration_s": 5}, station.media(tones(1000, 0.4))])
    own.done()
    sound = station.heard_entry(own.entries()[0])
    assert np.abs(sound[:-24_000]).max() > AUDIBLE, "the gong"
    assert pitch(sound[-9600:]) == pytest.approx(1000, abs=20)
    given = [{"relay": DEAD, "duration_s": 5, "fallback": station.media(tones(1500, 0.7))}]
    other = station.broadcast(station.province, given)
    other.done()
    entry = other.entries()[0]
    assert any(abs(p - 1500) < 30 for p in station.pitches(epoch(entry["started"]), epoch(entry["ended"])))


def test_the_board_carries_an_emergency_while_it_sounds_and_rests_after_it(station: Training, tones: Any) -> None:
    def rests(frame: dict[str, Any]) -> bool:
        """By its colour: the picture of an idle board has a clock, so that no two minutes' are the same."""
        with Image.open(station.out / "board" / frame["file"]) as picture:
            red, _, blue = np.asarray(picture.convert("RGB"), float).mean(axis=(0, 1))
        return bool(red < blue + 20)

    until(lambda: rests(list(station.board())[-1]), "the resting picture before it")
    frames = list(station.board())
    sent = station.broadcast(station.province, [station.media(tones(4000, 3.0))], class_="emergency", zones=["*"])
    sent.done()
    (shown,) = sent.entries(station.screen_zone)
    until(lambda: rests(list(station.board())[-1]), "the resting picture after it")
    own = list(station.board())[len(frames) :]
    alert = [f for f in own if not rests(f)]
    assert alert, f"a picture of its own: {own}"
    assert epoch(alert[0]["from"]) <= epoch(shown["started"]) + NEAR_S, "what was not on the board was not seen"
    assert epoch(own[-1]["from"]) >= epoch(shown["ended"]) - NEAR_S, "and until when"
    for earlier, later in itertools.pairwise(station.board()):
        assert earlier["to"] is not None
        assert epoch(earlier["to"]) <= epoch(later["from"])


def test_screens_show_text_and_pictures(station: Training, scratch: Path) -> None:
    from PIL import Image

    picture = scratch / "red.png"
    Image.new("RGB", (400, 300), (200, 10, 10)).save(picture)
    before = len(list(station.board()))
    sent = station.broadcast(
        station.province,
        [{"text": "Nước lên cao", "lang": "vi", "dwell_s": 2}, station.media(picture) | {"dwell_s": 2}],
        zones=["kind:screen"],
    )
    ack = sent.done()
    assert set(ack["zones"]) == {station.screen_zone}
    (entry,) = sent.entries(station.screen_zone)
    assert entry["level_dbfs"] is None
    frames = list(station.board())[before - 1 :]
    shown = [f for f in frames if f["to"] is None or epoch(f["to"]) > epoch(entry["started"]) - 0.5]
    assert all((station.out / "board" / f["file"]).stat().st_size > 0 for f in shown)
    reds = []
    for frame in frames:
        with Image.open(station.out / "board" / frame["file"]) as image:
            pixels = np.asarray(image.convert("RGB")).reshape(-1, 3).astype(int)
            reds.append(float(np.mean((abs(pixels - [200, 10, 10]) < 30).all(axis=1))))
    assert max(reds) > 0.1, f"the picture was on the board: {reds}"


def test_a_language_without_a_voice_is_refused_in_sound_zones_and_still_shown(station: Training) -> None:
    khmer = [{"text": "សូមស្វាគមន៍", "lang": "km", "dwell_s": 3}]
    only_sound = station.broadcast(station.province, khmer, zones=["kind:sound"]).ended()
    assert (only_sound["state"], only_sound["reason"]) == ("rejected", "no-voice")
    shown = station.broadcast(station.province, khmer, zones=[station.screen_zone])
    assert shown.ended()["state"] == "done"
    both = station.broadcast(station.province, khmer, zones=[station.sound_zone, station.screen_zone])
    ack = both.ended()
    assert ack["state"] == "done", f"a screen still shows it: {ack}"
    assert ack["zones"][station.sound_zone]["reason"] == "no-voice"
    assert ack["zones"][station.screen_zone]["state"] == "done"
    assert not [
        e for e in station.log() if e["bulletin"] == both.id and e["started"] and e["zone"] != station.screen_zone
    ]


def test_zone_selectors(station: Training) -> None:
    known = {z["id"]: z for z in station.device["zones"]}
    later = {"start": rfc3339(time.time() + 3600)}
    for selectors, wanted in (
        (["*"], set(known)),
        (["kind:sound"], {i for i, z in known.items() if z["kind"] == "sound"}),
        (["tag:dem", "tag:nothing", "elsewhere"], {QUIET}),
        ([station.sound_zone, "*"], set(known)),
    ):
        sent = station.broadcast(station.province, TEXT, zones=selectors, **later)
        ack = sent.wait("accepted")
        assert set(ack["zones"]) == wanted, selectors


# offers


def test_a_normal_bulletin_from_above_waits_until_the_commune_accepts(station: Training, tones: Any) -> None:
    sent = station.broadcast(station.province, [station.media(tones(1100))], class_="normal")
    sent.wait("offered")
    listed = station.tram("inbox")
    assert listed.returncode == 0
    assert sent.id in listed.stdout
    assert [a["state"] for a in sent.acks()] == ["received", "offered"]
    accepted = station.tram("accept", sent.id)
    assert accepted.returncode == 0, accepted.stderr
    sent.done()
    assert pitch(station.heard_entry(sent.entries()[0])) == pytest.approx(1100, abs=20)
    assert [state for state, _ in itertools.groupby(a["state"] for a in sent.acks())] == [
        "received",
        "offered",
        "accepted",
        "running",
        "done",
    ]
    again = station.tram("accept", sent.id)
    assert again.returncode != 0
    assert "Traceback" not in again.stderr


def test_a_declined_bulletin_never_sounds(station: Training, tones: Any) -> None:
    sent = station.broadcast(station.emergency, [station.media(tones(1100))], class_="normal")
    sent.wait("offered")
    assert station.tram("decline", sent.id).returncode == 0
    ack = sent.ended()
    assert (ack["state"], ack["reason"]) == ("rejected", "declined")
    (entry,) = sent.entries()
    assert (entry["result"], entry["started"], entry["level_dbfs"]) == ("declined", None, None)


def test_an_accepted_bulletin_plays_at_the_communes_time(station: Training, tones: Any) -> None:
    sent = station.broadcast(station.province, [station.media(tones(1100, 0.3))], class_="normal")
    sent.wait("offered")
    at = round(time.time() + 8)
    assert station.tram("accept", sent.id, "--at", rfc3339(at)).returncode == 0
    sent.done()
    error_of(sent.entries()[0], at)


def test_the_province_may_set_what_is_remote(station: Training, tones: Any) -> None:
    item = station.media(tones(1100, 0.2))
    set_to = {"version": number(), "set": {"normal_from_above": "auto"}}
    station.state(station.province, "configure", set_to).done()
    try:
        sent = station.broadcast(station.province, [item], class_="normal")
        sent.done()
        assert "offered" not in {a["state"] for a in sent.acks()}
        for key, value in (("normal_from_above", "never"), ("priority_order", "x")):
            bad = station.state(station.province, "configure", {"version": number(), "set": {key: value}}).ended()
            assert (bad["state"], bad["reason"]) == ("rejected", "bad-args")
    finally:
        back = {"version": number(), "set": {"normal_from_above": "offer"}}
        station.state(station.province, "configure", back).done()
    station.broadcast(station.province, [item], class_="normal").wait("offered")


def test_priority_and_emergency_are_not_offered_and_the_communes_own_are_neither(station: Training, tones: Any) -> None:
    for authority, class_ in (
        (station.province, "priority"),
        (station.province, "emergency"),
        (station.commune, "normal"),
    ):
        sent = station.broadcast(authority, [station.media(tones(1000, 0.3))], class_=class_)
        sent.done()
        assert "offered" not in {a["state"] for a in sent.acks()}, class_


def test_an_officers_own_programme_goes_through_the_same_door(station: Training, tones: Any) -> None:
    added = station.tram(
        "add",
        str(tones(1300)),
        "--at",
        "now",
        "--zones",
        station.sound_zone,
        "--approved-by",
        "Chủ tịch xã",
        "--title",
        "Xã",
    )
    assert added.returncode == 0, added.stdout + added.stderr

    def logged() -> list[dict[str, Any]]:
        return [e for e in station.log() if e["title"] == "Xã" and e["zone"] == station.sound_zone]

    (entry,) = until(logged, "its log entry")
    assert entry["approved_by"] == "Chủ tịch xã"
    assert entry["iss"] == "station"
    assert pitch(station.heard_entry(entry)) == pytest.approx(1300, abs=20)


# who owns the zone


@pytest.mark.parametrize(
    ("resume", "stretches"),
    [("drop", 1), ("restart", 2), ("continue", 2)],
)
def test_an_emergency_takes_over_and_the_interrupted_programme_resumes_as_it_says(
    station: Training, scale: Path, tones: Any, resume: str, stretches: int
) -> None:
    item = station.media(tones(4000))
    station.have(item)
    before = station.underruns()
    long = station.broadcast(station.commune, [station.media(scale)], resume=resume)
    began = long.running()
    until(lambda: time.time() > began + 1.1, "a second of it")
    alarm = station.broadcast(station.province, [item], class_="emergency")
    taken = alarm.running()
    alarm.done()
    outcome = long.ended()
    entries = long.entries(count=stretches)
    assert len(entries) == stretches
    first = steps(station, entries[0])
    assert first[0] == 0
    assert entries[0]["result"] == "interrupted"
    assert epoch(entries[0]["ended"]) - 0.01 < taken < epoch(entries[0]["ended"]) + STEP_S, "no overlap and no long gap"
    assert pitch(station.heard_entry(alarm.entries()[0])[-9600:]) == pytest.approx(4000, abs=30)
    if resume == "drop":
        assert (outcome["state"], outcome["reason"]) == ("failed", "outranked")
        return
    assert outcome["state"] == "done"
    second = steps(station, entries[1])
    assert entries[1]["result"] == "completed"
    assert second[-1] == 11
    if resume == "restart":
        assert second == list(range(12))
    else:
        assert second == list(range(second[0], 12))
        assert second[0] - first[-1] in (0, 1), f"continued at {second[0]} after {first[-1]}"
        lengths = [epoch(e["ended"]) - epoch(e["started"]) for e in entries]
        late = station.underruns() - before
        assert late or abs(sum(lengths) - 12 * STEP_S) < NEAR_S, "every sample once"


def test_an_interrupted_programme_never_resumes_past_until(station: Training, scale: Path, tones: Any) -> None:
    loud, quiet = station.media(tones(4000, 1.0)), station.media(scale)
    station.have(loud, quiet)
    end = time.time() + 12
    long = station.broadcast(station.commune, [quiet] * 4, resume="restart", until=rfc3339(end))
    began = long.running()
    until(lambda: time.time() > began + 0.3, "some of it")
    station.broadcast(station.province, [loud], class_="emergency").done()
    long.ended()
    first, last = long.entries(count=2)
    assert first["result"] == last["result"] == "interrupted"
    assert last["reason"] == "until"
    whole = epoch(last["started"]) + 4 * 12 * STEP_S
    assert end - 0.1 < epoch(last["ended"]) < (end + whole) / 2, "it was cut at its end, not played out"
    assert not station.heard(epoch(last["ended"]) + 0.1, epoch(last["ended"]) + 0.6).any()


def test_classes_rank_and_a_lower_one_waits(station: Training, scale: Path, tones: Any) -> None:
    """normal < priority < emergency of the district < emergency of the province."""
    items = [station.media(tones(900, 4.0)), station.media(scale), station.media(tones(4000, 2.0))]
    items += [station.media(tones(3300, 0.3)), station.media(tones(3100, 0.3))]
    for item in items:
        station.have(item)
    long, steps_of, short, other, last = items
    normal = station.broadcast(station.commune, [long], class_="normal", resume="continue")
    normal.running()
    priority = station.broadcast(station.commune, [long], resume="continue")
    priority.running()
    district = station.broadcast(station.emergency, [steps_of], class_="emergency", resume="continue")
    district.running()
    province = station.broadcast(station.province, [short], class_="emergency")
    province.running()
    late = station.broadcast(station.emergency, [other], class_="emergency")
    waiting = station.broadcast(station.commune, [last])
    for sent in (province, district, late, priority, waiting, normal):
        sent.done()
    ends = {
        name: epoch(sent.entries()[-1]["ended"])
        for name, sent in (
            ("province", province),
            ("district", district),
            ("late", late),
            ("priority", priority),
            ("normal", normal),
        )
    }
    assert sorted(ends, key=ends.__getitem__) == ["province", "district", "late", "priority", "normal"]
    stretches = sorted(
        (epoch(e["started"]), epoch(e["ended"]))
        for sent in (province, district, late, priority, waiting, normal)
        for e in sent.entries()
    )
    for (_, ended), (begun, _) in itertools.pairwise(stretches):
        assert begun >= ended - 0.01, "one owner at any time"


def test_an_interrupted_relay_joins_its_live_edge_and_ends_when_it_would_have(station: Training, tones: Any) -> None:
    item = station.media(tones(4000, 0.5))
    station.have(item)
    relay = station.broadcast(station.province, [{"relay": "dai-tinh", "duration_s": 10}], resume="continue")
    began = relay.running()
    until(lambda: time.time() > began + 1, "a second of it")
    station.broadcast(station.province, [item], class_="emergency").done()
    relay.done()
    first, second = relay.entries(count=2)
    away = epoch(second["started"]) - epoch(first["ended"])
    assert epoch(second["ended"]) - epoch(first["started"]) < 10 + away / 2, "what was missed is not made up for"
    assert np.abs(station.heard_entry(second)).max() > AUDIBLE


def test_a_collision_of_priority_programmes_follows_the_communes_order(
    station: Training, scale: Path, tones: Any
) -> None:
    """priority_order of the training station: station, commune, province."""
    item, other = station.media(tones(4000, 2.0)), station.media(tones(3300, 0.3))
    station.have(item, other)
    above = station.broadcast(station.province, [station.media(scale)], resume="continue")
    above.running()
    own = station.broadcast(station.commune, [item])
    own.running()
    outsider = station.broadcast(station.province, [other])
    own.done()
    above.done()
    outsider.done()
    assert len(above.entries()) == 2
    assert epoch(own.entries()[0]["started"]) < epoch(above.entries()[-1]["started"])
    assert epoch(above.entries()[-1]["ended"]) <= epoch(outsider.entries()[0]["started"]) + 0.01


def test_a_repeated_alert_frees_its_zone_between_repeats(station: Training, tones: Any) -> None:
    item, other = station.media(tones(4000, 0.4)), station.media(tones(900, 0.3))
    station.have(item, other)  # or a siren would bridge the time until it is there
    pause = 3.0
    alert = station.broadcast(station.province, [item], class_="emergency", repeat={"count": 3, "interval_s": pause})
    alert.running()
    between = station.broadcast(station.commune, [other])
    alert.done()
    between.done()
    entries = alert.entries(count=3)
    assert len(entries) == 3
    gaps = [epoch(b["started"]) - epoch(a["ended"]) for a, b in itertools.pairwise(entries)]
    assert all(pause - 0.1 < gap < 2 * pause for gap in gaps), gaps
    assert epoch(alert.entries()[0]["ended"]) < epoch(between.entries()[0]["started"]) < epoch(entries[-1]["started"])
    assert [round(pitch(station.heard_entry(e)[-9600:]), -2) for e in entries] == [4000] * 3


def test_a_replacing_bulletin_supersedes(station: Training, scale: Path, tones: Any) -> None:
    old = station.broadcast(station.province, [station.media(scale)], resume="continue")
    old.running()
    new = station.broadcast(station.province, [station.media(tones(4000))], replaces=[old.id])
    new.done()
    assert epoch(old.entries()[0]["ended"]) <= epoch(new.entries()[0]["started"]) + 0.01
    ack = old.ended()
    assert (ack["state"], ack["reason"]) == ("failed", "superseded")
    assert len(old.entries()) == 1
    foreign = station.broadcast(station.commune, [station.media(scale)])
    foreign.running()
    station.broadcast(station.province, [station.media(tones(3300, 0.2))], replaces=[foreign.id])
    assert foreign.ended()["state"] == "done", "nobody replaces another's bulletin"


def test_until_ends_a_programme(station: Training, tones: Any) -> None:
    item = station.media(tones(1000, 20.0))
    end = time.time() + 6.0
    sent = station.broadcast(station.province, [item], until=rfc3339(end))
    whole = sent.running() + 20.0
    sent.ended()
    (entry,) = sent.entries()
    assert (entry["result"], entry["reason"]) == ("interrupted", "until")
    assert end - 0.1 < epoch(entry["ended"]) < (end + whole) / 2, "cut at its end, not played out"


def test_a_drill_is_marked_audibly(station: Training, tones: Any) -> None:
    sent = station.broadcast(station.province, [station.media(tones(4000))], drill=True)
    sent.done()
    (entry,) = sent.entries()
    assert len(entry["content"]) == 3
    assert entry["content"][0] == entry["content"][2] != entry["content"][1]


# cancel


def test_cancel_ends_what_plays_and_what_waits(station: Training, scale: Path) -> None:
    playing = station.broadcast(station.province, [station.media(scale)], resume="continue")
    coming = station.broadcast(station.province, TEXT, start=rfc3339(time.time() + 3600))
    offered = station.broadcast(station.province, TEXT, class_="normal")
    playing.running()
    offered.wait("offered")
    station.order(station.province, "cancel", {"ids": [playing.id, coming.id, offered.id]}).done()
    for sent in (playing, coming, offered):
        ack = sent.ended()
        assert (ack["state"], ack["reason"]) == ("failed", "cancelled")
    entry = playing.entries()[0]
    assert (entry["result"], entry["reason"]) == ("interrupted", "cancelled")
    assert epoch(entry["ended"]) - epoch(entry["started"]) < 12 * STEP_S - 0.5, "before its own end"
    assert not station.heard(epoch(entry["ended"]) + 0.1, epoch(entry["ended"]) + 0.5).any()


def test_an_unknown_id_leaves_a_tombstone_of_its_own_issuer(station: Training, tones: Any) -> None:
    station.order(station.province, "cancel", {"ids": ["to-come"]}).done()
    buried = station.broadcast(station.province, TEXT, id="to-come").ended()
    assert (buried["state"], buried["reason"]) == ("rejected", "cancelled")
    other = station.broadcast(station.commune, [station.media(tones(900, 0.2))], id="to-come")
    assert other.ended()["state"] == "done", "a tombstone is its issuer's"


def test_only_a_higher_rank_cancels_anothers_bulletin(station: Training) -> None:
    later = rfc3339(time.time() + 3600)
    commune = station.broadcast(station.commune, TEXT, start=later)
    province = station.broadcast(station.province, TEXT, start=later)
    province.wait("accepted")
    refused = station.order(station.commune, "cancel", {"iss": "province", "id": province.id}).ended()
    assert (refused["state"], refused["reason"]) == ("rejected", "not-authorised")
    equal = station.order(station.commune, "cancel", {"iss": "station", "id": "x"}).ended()
    assert equal["reason"] == "not-authorised", "equal rank is not lower"
    station.order(station.province, "cancel", {"iss": "commune", "id": commune.id}).done()
    assert commune.ended()["reason"] == "cancelled"
    station.order(station.commune, "cancel", {"ids": [province.id]}).done()
    assert not [a for a in province.acks() if a["state"] == "failed"], "ids are the issuer's own"


# schedules


def schedule(station: Training, *entries: dict[str, Any]) -> Bulletin:
    common = {
        "class": "priority",
        "zones": [station.sound_zone],
        "resume": "drop",
        "on_late": "skip",
        "title": "Lịch nghiệm thu",
    }
    return station.state(
        station.province, "schedule", {"version": number(), "entries": [common | entry for entry in entries]}
    )


def test_a_schedule_plays_on_its_samples_every_day(station: Training, tones: Any) -> None:
    start = round(time.time() + 7, 3)
    rule = {"dtstart": rfc3339(start - 86_400), "rrule": "FREQ=DAILY"}
    ids = [f"hom-nay-{number()}", f"tru-hom-nay-{number()}", f"da-qua-{number()}", f"bi-cat-{number()}"]
    item = station.media(tones(1000))
    try:
        schedule(
            station,
            {"id": ids[0], "items": [item], **rule},
            {"id": ids[1], "items": [item], **rule, "exdate": [rfc3339(start)]},
            {"id": ids[2], "items": [item], "dtstart": rfc3339(start - 600)},
            {
                "id": ids[3],
                "items": [station.media(tones(1400, 10.0))],
                "dtstart": rfc3339(start + 1),
                "duration_s": 1.5,
            },
        ).done()
        today = station.tram("today")
        assert today.returncode == 0
        first = station.entries(ids[0], station.sound_zone)[0]
        error_of(first, start)
        assert pitch(station.heard_entry(first)) == pytest.approx(1000, abs=20)
        cut = station.entries(ids[3], station.sound_zone)[0]
        error_of(cut, start + 1)
        assert 1.4 < epoch(cut["ended"]) - start - 1 < 8, "cut by its duration"
        assert not [e for e in station.log() if e["bulletin"] in (ids[1], ids[2]) and e["started"]]
    finally:
        station.unschedule()


def test_occurrences_are_offered_cancelled_and_stay_accepted(station: Training, tones: Any) -> None:
    start = round(time.time() + 10, 3)
    stamp = number()
    item = station.media(tones(1000, 0.3))
    daily = {"dtstart": rfc3339(start - 86_400), "rrule": "FREQ=DAILY", "items": [item]}
    try:
        schedule(
            station,
            {"id": f"moi-{stamp}", "class": "normal", **daily},
            {"id": f"bo-{stamp}", **daily},
            {"id": f"con-{stamp}", **daily, "dtstart": rfc3339(start - 86_400 + 1)},
        ).done()
        until(lambda: f"moi-{stamp}" in station.tram("inbox").stdout, "the offer of an occurrence")
        gone = {"iss": "province", "id": f"bo-{stamp}", "occurrence": rfc3339(start)}
        station.order(station.province, "cancel", gone).done()
        assert station.tram("accept", f"moi-{stamp}").returncode == 0
        first = station.entries(f"moi-{stamp}", station.sound_zone)[0]
        second = station.entries(f"con-{stamp}", station.sound_zone)[0]
        error_of(first, start)
        error_of(second, start + 1)
        assert not [e for e in station.log() if e["bulletin"] == f"bo-{stamp}" and e["started"]]
    finally:
        station.unschedule()


def test_what_is_late_is_skipped_joined_or_played_as_it_says(station: Training, scratch: Path, tones: Any) -> None:
    """Steps of three seconds that began twenty ago: joined where they are by now, played whole, or not at all."""
    t = np.arange(3 * 48_000) / 48_000
    whole = np.concatenate([np.cos(2 * np.pi * (1200 + 200 * n) * t) * 0.25 for n in range(12)])
    long, short = station.media(write_wav(scratch / "long-scale.wav", whole)), station.media(tones(900, 0.4))
    began, stamp = time.time() - 20, number()
    late = {"dtstart": rfc3339(began), "duration_s": 60}
    try:
        schedule(
            station,
            {"id": f"skip-{stamp}", "items": [short], "on_late": "skip", **late},
            {"id": f"join-{stamp}", "items": [long], "on_late": "join", **late, "duration_s": 26},
            {"id": f"play-{stamp}", "items": [short], "on_late": "play", **late},
        ).done()
        joined = station.entries(f"join-{stamp}", station.sound_zone)[0]
        played = station.entries(f"play-{stamp}", station.sound_zone)[0]
        by_now = int((epoch(joined["started"]) - began) / 3)
        assert steps(station, joined)[0] in (by_now - 1, by_now), "where it is by now, but for the amplifier's warm-up"
        assert epoch(joined["started"]) < epoch(joined["ended"]) < began + 33, "and it ends when it would have"
        assert 0.3 < epoch(played["ended"]) - epoch(played["started"]) < 3, "all of it, and no more"
        assert not [e for e in station.log() if e["bulletin"] == f"skip-{stamp}" and e["started"]]
    finally:
        station.unschedule()


# rules of a zone


def test_a_programme_that_falls_into_quiet_hours_is_reported_when_it_is_received(station: Training, tones: Any) -> None:
    sent = station.broadcast(station.province, [station.media(tones(1000, 0.3))], zones=[QUIET, station.sound_zone])
    ack = sent.done()
    received = sent.acks()[0]
    assert received["state"] == "received"
    assert received["zones"][QUIET]["reason"] == "quiet-hours"
    assert "reason" not in received["zones"][station.sound_zone]
    assert ack["zones"][QUIET] == {"state": "failed", "reason": "quiet-hours"}
    (entry,) = sent.entries(QUIET)
    assert (entry["result"], entry["reason"], entry["started"]) == ("skipped", "quiet-hours", None)
    alone = station.broadcast(station.province, TEXT, zones=[QUIET]).ended()
    assert alone["reason"] == "quiet-hours"


def test_an_emergency_overrides_quiet_hours_and_the_log_says_so(station: Training, tones: Any) -> None:
    sent = station.broadcast(station.province, [station.media(tones(4000))], zones=[QUIET], class_="emergency")
    sent.done()
    (entry,) = sent.entries(QUIET)
    assert entry["result"] == "completed"
    assert pitch(station.heard_entry(entry)) == pytest.approx(4000, abs=30)
    assert "quiet-hours" in json.dumps(entry), f"the override is logged: {entry}"


def test_a_distant_zone_sounds_later_by_its_delay(station: Training, tones: Any) -> None:
    zones = [station.sound_zone, QUIET]
    item = station.media(tones(4000))
    station.have(item)
    before = station.underruns()
    sent = station.broadcast(station.province, [item], zones=zones, class_="emergency")
    sent.done()
    here, there = sent.entries(station.sound_zone)[0], sent.entries(QUIET)[0]
    begin, end = epoch(here["started"]) + 0.01, epoch(there["ended"])
    near, far = station.heard(begin, end, zones[0]), station.heard(begin, end, zones[1])
    late = round(DELAY_MS * 48)
    torn = station.underruns() - before
    assert torn or np.abs(near[: len(near) - late] - far[late:]).max() < 0.01, "the same sound, later, on the sample"
    assert abs(epoch(there["started"]) - epoch(here["started"]) - DELAY_MS / 1000) < 0.003
    assert abs(there["start_error_ms"] - here["start_error_ms"]) < 3, "planned plus the zone's delay"


# silence


def silence(station: Training, authority: Any, on: bool, **args: Any) -> Bulletin:
    sent = station.state(authority, "silence", {"version": number(), "on": on, "zones": ["*"]} | args)
    sent.done()
    return sent


def test_silences_add_up_and_end_by_themselves(station: Training, tones: Any) -> None:
    end = time.time() + 10
    silence(station, station.commune, True, until=rfc3339(end))
    silence(station, station.emergency, True, zones=[station.screen_zone])
    try:
        assert station.broadcast(station.province, TEXT).ended()["reason"] == "silenced"
        until(lambda: time.time() > end, "its end")
        sent = station.broadcast(station.province, [station.media(tones(900, 0.2))])
        sent.done()
        board = station.broadcast(station.province, TEXT, zones=[station.screen_zone]).ended()
        assert board["reason"] == "silenced", "the other silence still holds"
    finally:
        silence(station, station.province, False)


def test_include_local_silences_the_buttons_as_well(station: Training) -> None:
    silence(station, station.province, True)
    siren(station)
    silence(station, station.province, True, include_local=True, until=rfc3339(time.time() + 600))
    try:
        before = len(button_entries(station))
        over = epoch(button_entries(station)[-1]["ended"]) + 0.1
        station.heard(over, over)
        since, at = len(station.watcher.messages), time.time()
        station.control("press", button="khan-cap", seconds=0.2)
        station.wait_event("progress", lambda e: e.get("button") == "khan-cap", "the press is seen", since)
        assert not station.heard(at, time.time() + 0.5).any(), "the button is silenced too"
        assert len(button_entries(station)) == before
    finally:
        silence(station, station.province, False)


def button_entries(station: Training, button: str = "khan-cap") -> list[dict[str, Any]]:
    return [
        e for e in station.log() if e["by"] == f"button:{button}" and e["zone"] == station.sound_zone and e["started"]
    ]


def siren(station: Training) -> dict[str, Any]:
    """Press the emergency button, let it sound, stop it with the stop button: its log entry."""
    before = len(button_entries(station))
    station.control("press", button="khan-cap", seconds=0.1)
    station.button_sounds("khan-cap")
    station.control("press", button="dung", seconds=0.1)
    (entry,) = until(lambda: button_entries(station)[before:], "the button's log entry")
    assert (entry["class"], entry["result"], entry["reason"]) == ("emergency", "interrupted", "stopped")
    return entry


# buttons


def test_a_pressed_emergency_button_sounds_at_once_and_the_programme_comes_back(station: Training, scale: Path) -> None:
    long = station.broadcast(station.province, [station.media(scale)], class_="emergency", resume="continue")
    began = long.running()
    until(lambda: time.time() > began + 0.6, "some of it")
    entry = siren(station)
    long.done()
    entries = long.entries(count=2)
    assert abs(epoch(entries[0]["ended"]) - epoch(entry["started"])) < NEAR_S
    assert epoch(entries[1]["started"]) >= epoch(entry["ended"]) - 0.01
    before_it, after_it = (steps(station, e) for e in entries)
    assert after_it == list(range(after_it[0], 12))
    assert after_it[0] - before_it[-1] in (0, 1), "from the saved sample"


def test_an_everyday_button_keeps_the_rules_and_stop_ends_it(station: Training, scale: Path) -> None:
    remote = station.broadcast(station.province, [station.media(scale)])
    remote.running()
    since = len(station.log())
    station.control("press", button="moi-hop", seconds=0.1)
    remote.done()
    over = epoch(remote.entries()[0]["ended"])
    station.hear(over + NEAR_S)

    def own() -> list[dict[str, Any]]:
        return [e for e in station.log()[since:] if e["iss"] == "station" and e["zone"] == station.sound_zone]

    station.control("press", button="dung", seconds=0.2)
    (entry,) = until(own, "its entry")
    assert entry["result"] == "interrupted"
    assert epoch(entry["started"]) >= over - 0.01
    quiet = [e for e in station.log()[since:] if e["zone"] == QUIET]
    assert all(e["started"] is None for e in quiet), "an everyday announcement keeps quiet hours"


def test_stop_ends_a_remote_emergency_only_when_held(station: Training, scratch: Path) -> None:
    long = station.media(tone(scratch / "long.wav", 4000, 30))
    alarm = station.broadcast(station.province, [long], class_="emergency")
    alarm.running()
    since = len(station.watcher.messages)
    station.control("press", button="dung", seconds=0.3)
    station.wait_event("progress", lambda e: e.get("button") == "dung", "the tap is seen", since)
    held = time.time()
    station.control("press", button="dung", seconds=5.5)
    ack = alarm.ended()
    assert ack["state"] == "failed"
    (entry,) = alarm.entries()
    assert entry["result"] == "interrupted"
    assert epoch(entry["ended"]) > held + 4.5, "a tap does not end it"
    assert entry["reason"]


# last, because its minute is over then


def test_every_refusal_is_counted(station: Training, refusals: Counter[str]) -> None:
    """At most one event a minute and reason, and none is lost: the counts add up to what was sent before."""
    wanted = Counter(refusals)

    def told() -> Counter[str]:
        counts: Counter[str] = Counter()
        for event in station.events("refused"):
            counts[event["reason"]] += event["count"]
        return counts

    station.watcher.wait(lambda _: told() == wanted, f"events for {wanted}")
    assert all(set(e) >= {"kind", "reason", "sha256", "topic", "count"} for e in station.events("refused"))
