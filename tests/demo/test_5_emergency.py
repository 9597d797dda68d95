"""Emergencies, drills, the key that silences and the everyday microphone on a training station, by its own commands.

A station of its own: here the province's command line signs, whose counters the other tests do not keep to.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.demo.customer import Training, epoch, pitch, rms_dbfs, tone, until

pytestmark = [pytest.mark.demo, pytest.mark.xdist_group("station-emergency")]

CAP = """<?xml version="1.0" encoding="UTF-8"?>
<alert xmlns="urn:oasis:names:tc:emergency:cap:1.2">
  <identifier>{id}</identifier><sender>dubao@thoitiet.example</sender><sent>{sent}</sent>
  <status>Actual</status><msgType>{kind}</msgType><scope>Public</scope>{references}
  <info><language>vi-VN</language><category>Met</category><event>DÔNG MẠNH</event>
    <urgency>Immediate</urgency><severity>Severe</severity><certainty>Observed</certainty><expires>{expires}</expires>
    <headline>{headline}</headline><instruction>Bà con vào nhà kiên cố</instruction>
    <area><areaDesc>Xã Mẫu</areaDesc><geocode><valueName>VN-DVHC</valueName><value>29302</value></geocode></area>
  </info>
</alert>
"""
SPOKEN_HZ = 990.0
"""What is "spoken" into the station's microphone."""
MORE_BUTTONS = [
    {"id": "ngat", "pin": 20, "action": {"silence": True}, "zones": ["*"], "name": "Khóa ngắt"},
    {
        "id": "micro",
        "pin": 21,
        "class": "priority",
        "name": "Micro mời họp",
        "action": {"microphone": True},
        "zones": ["kind:sound"],
        "approved_by": "Nguyễn Thị Mẫu",
    },
]


class Place(Training):
    """A training station, and the commands of its province."""

    def province_says(self, *words: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "agent", "--lang", "en", "province", "--dir", str(self.out), *words]
        return subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=90)

    def played(self, title: str, count: int = 1) -> list[dict[str, Any]]:
        """Play-log entries of the loudspeakers with this title, once there are so many."""

        def found() -> list[dict[str, Any]] | None:
            log = json.loads(self.tram("log", "--format", "json").stdout)
            mine = [e for e in log["entries"] if e["title"] == title and e["zone"] == self.sound_zone]
            return mine if len(mine) >= count else None

        return list(until(found, f"{count} entries of {title}"))


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="tram-emergency-") as scratch:
        out = Path(scratch) / "out"
        with (Path(scratch) / "demo.log").open("wb") as log:
            demo = subprocess.Popen(
                [sys.executable, "-m", "agent", "demo", "--hold", "--out", str(out)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            until((out / "connection.json").exists, "the training station", 90)
            station = Place(out)
            change(station, Path(scratch))
            yield station
            station.close()
        finally:
            demo.terminate()
            demo.wait(30)


def change(station: Place, scratch: Path) -> None:
    """A key that silences and an everyday microphone, as a technician would add them."""
    spoken = tone(scratch / "micro.wav", SPOKEN_HZ, 1.0)
    configuration = yaml.safe_load(station.config.read_text("utf-8"))
    configuration["buttons"] += MORE_BUTTONS
    configuration["microphone"] = {"driver": "wav", "path": str(spoken)}
    station.config.write_text(yaml.safe_dump(configuration, allow_unicode=True, sort_keys=False), "utf-8")
    checked = station.tram("check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    (station.out / "areas.yaml").write_text(
        f"areas: [{{valueName: VN-DVHC, value: '29302', to: [{station.id}]}}]", "utf-8"
    )
    for what in ("voice", "agent"):
        station.control("restart", what=what, kill=False)
    until(lambda: station.status().get("voice") and station.status().get("online"), "the station as it is now")


def cap(station: Place, identifier: str, headline: str, kind: str = "Alert", former: str = "") -> str:
    now = datetime.now().astimezone().replace(microsecond=0)
    references = f"<references>{former}</references>" if former else ""
    return CAP.format(
        id=identifier,
        sent=now.isoformat(),
        kind=kind,
        references=references,
        headline=headline,
        expires=(now + timedelta(hours=1)).isoformat(),
    )


def longest_silence(sound: np.ndarray) -> float:
    """Seconds of the longest stretch of digital near-silence."""
    loud = np.flatnonzero(np.abs(sound) > 10 ** (-60 / 20))
    if not len(loud):
        return len(sound) / 48_000
    return float(np.max(np.diff(loud, prepend=0, append=len(sound)))) / 48_000


def test_a_cap_alert_is_heard_as_siren_and_words_and_an_update_takes_over_without_a_gap(place: Place) -> None:
    first = cap(place, "KTV-1", "Cảnh báo dông mạnh")
    done = place.province_says(
        "cap", "-", "--as", "province", "--count", "3", "--interval", "0", "--wait", "3", given=first
    )
    assert "sounded at 1 of 1" in done.stdout, done.stdout + done.stderr
    sent = first[first.index("<sent>") + 6 : first.index("</sent>")]
    update = cap(place, "KTV-2", "Dông mạnh hơn", "Update", f"dubao@thoitiet.example,KTV-1,{sent}")
    begun = time.time()
    done = place.province_says("cap", "-", "--as", "province", given=update)
    assert done.returncode == 0, done.stdout + done.stderr
    old, new = place.played("Cảnh báo dông mạnh")[-1], place.played("Dông mạnh hơn")[0]
    assert (old["result"], old["reason"]) == ("interrupted", "superseded")
    assert new["result"] == "completed"
    over = epoch(new["started"])
    assert abs(epoch(old["ended"]) - over) < 0.02
    around = place.heard(over - 0.5, over + 0.5)
    assert longest_silence(around) < 0.12
    siren = place.heard(over + 0.1, over + 2.9)
    assert 450 < pitch(siren[: 48_000 // 4]) < 1100
    words = place.heard(over + 3.3, epoch(new["ended"]) - 0.2)
    assert -40 < rms_dbfs(words) < -12
    assert max(abs(words)) < 0.999, "it clips"
    assert begun < over


def test_an_alert_repeats_until_it_is_cancelled_and_the_zone_is_free_between(place: Place) -> None:
    args = {
        "id": "lap-lai",
        "title": "Lặp lại",
        "class": "emergency",
        "start": "now",
        "zones": ["kind:sound"],
        "items": [{"chime": "gong"}],
        "resume": "restart",
        "repeat": {"interval_s": 1.0},
    }
    order = json.dumps(args)
    done = place.province_says("publish", "-", "--as", "province", "--to", place.id, "--op", "broadcast", given=order)
    assert done.returncode == 0, done.stderr
    entries = place.played("Lặp lại", 3)
    pauses = [epoch(b["started"]) - epoch(a["ended"]) for a, b in itertools.pairwise(entries)]
    assert all(0.9 < pause < 2.5 for pause in pauses), pauses
    place.province_says(
        "publish",
        "-",
        "--as",
        "province",
        "--to",
        place.id,
        "--op",
        "cancel",
        "--wait",
        "5",
        given='{"ids": ["lap-lai"]}',
    )
    at = time.time()
    assert not place.heard(at + 0.5, at + 4.0).any()


def test_a_drill_is_told_as_one_to_the_province_with_its_latencies(place: Place) -> None:
    given = ("--title", "Thử còi", "--text", "Bà con nghe thử.", "--drill", "--chime", "gong")
    done = place.province_says("emergency", "--as", "province", "--to", place.id, *given)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "DRILL · Thử còi" in done.stdout
    (entry,) = place.played("Thử còi")
    assert entry["drill"] is True
    assert entry["content"][0] == entry["content"][-1]
    told = [e for e in place.events("progress") if e.get("what") == "drill" and place.sound_zone in e["zones"]]
    assert told[-1]["latency_ms"]["first_sample"] > 0
    assert "DRILL · Thử còi" in place.tram("log").stdout


def test_in_drill_mode_the_red_button_is_an_exercise_and_afterwards_an_alarm(place: Place) -> None:
    assert place.tram("drill", "on", "--minutes", "5").returncode == 0
    place.control("press", button="khan-cap", seconds=0.1)
    (exercise,) = place.played("Sơ tán khẩn cấp")
    assert exercise["drill"] is True
    assert place.tram("drill", "off").returncode == 0
    place.control("press", button="khan-cap", seconds=0.1)
    time.sleep(1.0)
    place.control("press", button="dung", seconds=0.1)
    alarm = place.played("Sơ tán khẩn cấp", 2)[-1]
    assert "drill" not in alarm
    assert exercise["content"][0] == exercise["content"][-1] != alarm["content"][0]


def test_the_everyday_microphone_speaks_behind_a_gong_and_names_who_answers(place: Place) -> None:
    place.control("press", button="micro", seconds=4.0)
    (entry,) = place.played("Micro mời họp")
    assert (entry["result"], entry["approved_by"], entry["by"]) == ("completed", "Nguyễn Thị Mẫu", "order:micro")
    begin, end = epoch(entry["started"]), epoch(entry["ended"])
    assert pitch(place.heard(end - 0.7, end - 0.2)) == pytest.approx(SPOKEN_HZ, abs=8)
    assert pitch(place.heard(begin + 0.05, begin + 0.4)) == pytest.approx(784, abs=12)
    assert not place.heard(end + 0.1, end + 0.6).any(), "it stays open"


def test_the_key_cuts_an_alert_keeps_others_out_and_lifts_the_provinces_silence_when_opened(place: Place) -> None:
    given = ("--title", "Bị ngắt", "--chime", "siren", "--text", "Tin dài. " * 20, "--wait", "3")
    place.province_says("emergency", "--as", "province", "--to", place.id, *given)
    turned = time.time()
    place.control("press", button="ngat", seconds=8.0)
    (cut,) = place.played("Bị ngắt")
    assert (cut["result"], cut["reason"]) == ("interrupted", "silenced")
    assert epoch(cut["ended"]) - turned < 0.5
    refused = place.province_says(
        "emergency", "--as", "province", "--to", place.id, "--title", "Không nghe", "--wait", "4"
    )
    assert refused.returncode == 1
    assert "will not sound" in refused.stdout
    place.province_says("silence", "on", "--as", "province", "--to", place.id)
    until(lambda: not place.status()["silences"], "no silence once the key is open")
    again = place.province_says(
        "emergency", "--as", "province", "--to", place.id, "--title", "Nghe lại", "--wait", "20"
    )
    assert again.returncode == 0, again.stdout + again.stderr
