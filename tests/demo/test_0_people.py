"""CONTRACT section 8: what people type. First of all, because the province's own tool counts its orders from one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.demo.customer import PATIENCE_S, Training, pitch, tone, until

pytestmark = [pytest.mark.demo, pytest.mark.xdist_group("station-programmes")]


def province(station: Training, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent", "--lang", "en", "province", "--dir", str(station.out), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)


def test_the_provinces_own_tool_raises_an_alarm_and_follows_it(station: Training) -> None:
    done = province(
        station,
        *("emergency", "--as", "province", "--to", station.id, "--title", "Diễn tập", "--text", "Thử còi."),
        *("--chime", "none", "--wait", "90"),
    )
    if "replayed" in done.stdout:
        pytest.skip("this station has had orders of a greater count already")
    assert done.returncode == 0, done.stdout + done.stderr
    (entry,) = until(
        lambda: [e for e in station.log() if e["title"] == "Diễn tập" and e["zone"] == station.sound_zone], "its entry"
    )
    assert (entry["class"], entry["iss"], entry["result"]) == ("emergency", "province", "completed")
    fleet = province(station, "watch", "--once", "--json")
    assert fleet.returncode == 0
    assert station.id in fleet.stdout


def test_a_configuration_with_ten_mistakes_shows_all_ten(station: Training, scratch: Path) -> None:
    broken = yaml.safe_load(station.config.read_text("utf-8"))
    broken["device"]["id"] = "Xã Mẫu"
    broken["device"]["unit"] = "84//x"
    broken["timezone"] = "Asia/Tra_Vinh"
    broken["mqtt"]["port"] = 99_999
    broken["mqtt"]["cafile"] = broken["mqtt"].pop("ca")
    broken["normal_from_above"] = "sometimes"
    broken["zones"][0]["kind"] = "smell"
    broken["buttons"][0]["pin"] = "five"
    broken["sources"][0]["silence_s"] = -1
    broken["messages"][0]["repeat"] = 0
    path = scratch / "broken.yaml"
    path.write_text(yaml.safe_dump(broken, allow_unicode=True), "utf-8")
    whole, station.config = station.config, path
    try:
        told = {lang: station.tram("check", lang=lang) for lang in ("en", "vi")}
    finally:
        station.config = whole
    for lang, done in told.items():
        assert done.returncode == 1, lang
        shown = done.stdout + done.stderr
        assert "Traceback" not in shown
        for place in (
            *("device.id", "device.unit", "timezone", "mqtt.port", "mqtt.cafile"),
            *("normal_from_above", "zones", "buttons", "sources", "messages"),
        ):
            assert place in shown, (lang, place, shown)
    assert told["en"].stdout != told["vi"].stdout


def test_status_today_and_doctor_answer_in_both_languages(station: Training) -> None:
    for lang, commands in (("vi", ["status", "today", "inbox", "log", "doctor"]), ("en", ["status", "doctor"])):
        for words in ((command,) for command in commands):
            done = station.tram(*words, lang=lang)
            assert "Traceback" not in done.stdout + done.stderr, words
            if words != ("doctor",):
                assert done.returncode == 0, (words, done.stderr)
                assert done.stdout.strip()


def test_the_commune_silences_and_lifts_it(station: Training) -> None:
    text = [{"text": "Thử", "lang": "vi"}]
    assert station.tram("silence", "on").returncode == 0
    try:
        assert station.broadcast(station.commune, text, class_="priority").ended()["reason"] == "silenced"
        assert [s["iss"] for s in station.status()["silences"]] == ["station"]
    finally:
        assert station.tram("silence", "off").returncode == 0
    assert not station.status()["silences"]


def test_a_file_is_played_at_once(station: Training, scratch: Path) -> None:
    sound = tone(scratch / "play.wav", 1700, 0.4, rate=44_100, channels=2)
    played = station.tram("play", str(sound), "--zone", station.sound_zone)
    assert played.returncode == 0, played.stdout + played.stderr

    def entries() -> list[dict[str, Any]]:
        return [e for e in station.log() if e["bulletin"].startswith("play-") and e["zone"] == station.sound_zone]

    (entry,) = until(entries, "its entry")
    assert entry["result"] == "completed"
    assert entry["iss"] == "station"
    assert pitch(station.heard_entry(entry)) == pytest.approx(1700, abs=20)


@pytest.mark.parametrize(
    "words",
    [
        ("accept", "no-such-bulletin"),
        ("decline", "no-such-bulletin"),
        ("play", "/no/such/file", "--zone", "loa-xa"),
        ("add", "--text", "x", "--at", "now", "--zones", "nowhere", "--approved-by", "x"),
        ("add", "--text", "x", "--at", "yesterday-ish", "--zones", "*", "--approved-by", "x"),
        ("log", "--month", "13"),
        ("log", "--verify", "--head", "nonsense"),
    ],
)
def test_a_users_mistake_is_answered_with_a_sentence(station: Training, words: tuple[str, ...]) -> None:
    done = station.tram(*words)
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert said.strip()
    assert "Traceback" not in said


def test_status_knows_what_is_coming_and_what_is_missing(station: Training) -> None:
    missing: dict[str, Any] = {
        "media": {"sha256": "ee" * 32, "size": 999, "url": f"{station.media_url}/not-yet.wav", "type": "audio/wav"}
    }
    sent = station.broadcast(station.commune, [missing], start="2090-01-01T05:00:00+07:00", zones=["*"])
    sent.wait("accepted")
    status = station.status()
    assert json.dumps(status)
    assert {"device", "zones", "relays", "clock", "outbox", "log", "next", "disk"} <= set(status)
    assert set(status["zones"]) == {z["id"] for z in station.device["zones"]}
    (row,) = [r for r in status["next"] if r["id"] == sent.id] or [None]
    assert row is None or row["ready"] is False
