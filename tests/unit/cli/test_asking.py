"""Commands that speak to the running station, against a fake one at its socket."""

from __future__ import annotations

import json
import math
import re
import wave
from array import array
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from agent.cli.language import FAULTS, REASONS, fault_word, reason, use
from agent.core.health import BROKEN
from agent.core.station import RELAY_FAULTS
from agent.ear.watch import DETAILS
from agent.model.orders import Reason
from agent.model.voice import RATE
from tests.unit.cli.stage import Refusal, Stage

ROOT = Path(__file__).parents[3]
HANOI = ZoneInfo("Asia/Ho_Chi_Minh")
STATUS = {
    "device": "xa-mau",
    "online": True,
    "clock": {"trusted": True},
    "zones": {
        "loa-xa": {
            "kind": "sound",
            "power": "on",
            "level_dbfs": -17.25,
            "owner": {
                "title": "Báo bão",
                "class": "emergency",
                "state": "playing",
                "iss": "tinh-mau",
                "since": "2026-11-23T10:00:00+00:00",
            },
        },
        "bang": {"kind": "screen"},
    },
    "relays": {"tang-am": True},
    "faults": [{"what": "source-silent", "detail": "no connection"}],
    "outbox": {"rows": 3, "dropped": 0},
    "next": [
        {
            "at": "2026-11-23T17:00:00+07:00",
            "title": "Tiếp âm",
            "class": "normal",
            "iss": "xa-mau",
            "zones": ["loa-xa"],
            "state": "planned",
        }
    ],
    "something_new": {"unit_v": 5.1},
}
OFFER = {
    "iss": "tinh-mau",
    "id": "b-1",
    "title": "Lịch tiêm chủng",
    "class": "normal",
    "start": "2026-11-23T17:30:00+07:00",
    "zones": ["loa-xa"],
    "offered_at": "2026-11-23T09:00:00+07:00",
}


def sound(path: Path, seconds: float = 1.0, rate: int = RATE) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(b"\x10\x20" * int(rate * seconds))
    return path


ASKING = [
    ("status",),
    ("today",),
    ("inbox",),
    ("accept", "b-1"),
    ("decline", "b-1"),
    ("silence", "on"),
    ("silence", "off"),
    ("drill", "on"),
    ("add", "--text", "Mời họp", "--at", "now", "--zones", "*", "--approved-by", "Chủ tịch"),
]


@pytest.mark.parametrize("args", ASKING, ids=" ".join)
def test_without_an_agent_the_remedy_is_told_and_the_exit_code_is_3(args: tuple[str, ...], stage: Stage) -> None:
    done = stage.tram(*args)
    assert done.code == 3
    assert "systemctl start tram" in done.err
    assert "Traceback" not in done.said


def test_a_stale_socket_counts_as_not_running(stage: Stage) -> None:
    stage.start().close()
    assert stage.tram("status").code == 3


@pytest.mark.parametrize("raw", [b"", b"{", b"[]\n", b'{"ok": tr'])
def test_an_answer_that_is_cut_off_is_not_a_traceback(raw: bytes, stage: Stage) -> None:
    stage.start().raw = raw
    done = stage.tram("status")
    assert done.code == 3
    assert "broke off" in done.err


def test_every_reason_of_the_contract_has_words_in_both_languages(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {r.value for r in Reason} <= {str(k) for k in REASONS}
    monkeypatch.setenv("LANGUAGE", "en")
    use("en")
    english = {r: reason(r.value) for r in Reason}
    use("vi")
    vietnamese = {r: reason(r.value) for r in Reason}
    assert all(english[r] != r.value and vietnamese[r] not in {r.value, english[r]} for r in Reason)
    assert len(set(vietnamese.values())) == len(Reason)


def test_a_refusal_is_explained_in_the_language_and_ends_with_1(stage: Stage) -> None:
    stage.start(accept=Refusal("quiet-hours", "21:00-05:00"))
    english, vietnamese = stage.tram("accept", "b-1"), stage.tram("accept", "b-1", "--lang", "vi")
    assert (english.code, vietnamese.code) == (1, 1)
    assert "it falls into the quiet hours" in english.err
    assert "rơi vào giờ yên tĩnh" in vietnamese.err
    assert "21:00-05:00" in english.err


def test_status_shows_owner_relays_faults_and_what_is_next(stage: Stage) -> None:
    stage.start(status=STATUS)
    done = stage.tram("status")
    assert done.code == 0
    for words in (
        "Báo bão (emergency)",
        "on air",
        "-17.2 dBFS",
        "tang-am",
        "no connection to the source system",
        "source-silent",
        "Tiếp âm",
        "23/11 17:00",
        "unit_v",
    ):
        assert words in done.out


def test_status_as_json_is_the_document_unchanged(stage: Stage) -> None:
    stage.start(status=STATUS)
    assert json.loads(stage.tram("status", "--json").out) == STATUS


@pytest.mark.parametrize(
    "document",
    [{}, {"zones": [{"id": "a", "owner": "x"}], "faults": None, "relays": [{"id": "r", "on": False}]}, {"zones": 3}],
)
def test_status_renders_whatever_members_there_are(document: dict[str, object], stage: Stage) -> None:
    stage.start(status=document)
    assert stage.tram("status").code == 0


def test_control_characters_in_a_title_do_not_reach_the_terminal(stage: Stage) -> None:
    stage.start(inbox=[OFFER | {"title": "evil\x1b[2J\ntitle"}])
    done = stage.tram("inbox")
    assert "\x1b" not in done.out
    assert "evil [2J title" in done.out


def test_columns_line_up_under_vietnamese_letters_of_either_normal_form(stage: Stage) -> None:
    import unicodedata

    titles = [unicodedata.normalize(form, "Tiêm chủng") for form in ("NFC", "NFD")]
    stage.start(inbox=[OFFER | {"title": title} for title in (*titles, "Lịch cắt nước trong tuần")])
    rows = [unicodedata.normalize("NFC", line) for line in stage.tram("inbox").out.splitlines() if "tinh-mau" in line]
    assert rows[0] == rows[1]


def test_an_empty_inbox_says_so_in_vietnamese(stage: Stage) -> None:
    stage.start(inbox=[])
    assert "Không có bản tin nào chờ quyết định." in stage.tram("--lang", "vi", "inbox").out


def test_accept_sends_the_time_in_the_stations_zone(stage: Stage) -> None:
    agent = stage.start(accept={"id": "b-1", "at": "2026-11-24T05:00:00+07:00"})
    done = stage.tram("accept", "b-1", "--at", "mai 05:00")
    assert done.code == 0
    assert "24/11 05:00" in done.out
    tomorrow = datetime.now(HANOI).date() + timedelta(days=1)
    assert agent.asked == [("accept", {"id": "b-1", "at": f"{tomorrow}T05:00:00+07:00"})]


def test_decline_and_silence_say_what_was_done(stage: Stage) -> None:
    agent = stage.start()
    assert "declined" in stage.tram("decline", "b-1").out
    assert "Lift it" in stage.tram("silence", "on", "--zones", "loa-xa").out
    assert "lifted" in stage.tram("silence", "off").out
    assert agent.asked == [
        ("decline", {"id": "b-1"}),
        ("silence", {"on": True, "zones": ["loa-xa"]}),
        ("silence", {"on": False, "zones": ["*"]}),
    ]


def test_a_drill_says_how_long_it_lasts_and_has_a_limit(stage: Stage) -> None:
    agent = stage.start()
    assert "10" in stage.tram("drill", "on", "--minutes", "10").out
    assert "alarm again" in stage.tram("drill", "off").out
    assert stage.tram("drill", "on", "--minutes", "61").code == 2
    assert agent.asked == [("drill", {"on": True, "minutes": 10.0}), ("drill", {"on": False, "minutes": 15.0})]


def test_add_text_names_title_zones_time_class_and_who_approved(stage: Stage) -> None:
    agent = stage.start(add={"id": "xa-1"})
    at = (datetime.now(HANOI) + timedelta(days=2)).strftime("%Y-%m-%d 17:30")
    done = stage.tram(
        "add",
        "--text",
        "Mời bà con họp",
        "--at",
        at,
        "--zones",
        "kind:sound, bang",
        "--class",
        "priority",
        "--repeat",
        "2",
        "--approved-by",
        "Nguyễn Văn A",
    )
    assert done.code == 0
    assert "xa-1" in done.out
    assert agent.asked == [
        (
            "add",
            {
                "title": "Mời bà con họp",
                "at": at.replace(" ", "T") + ":00+07:00",
                "zones": ["kind:sound", "bang"],
                "class": "priority",
                "approved_by": "Nguyễn Văn A",
                "repeat": 2,
                "text": "Mời bà con họp",
                "lang": "vi",
            },
        )
    ]


def test_behind_add_the_language_is_that_of_the_text(stage: Stage) -> None:
    agent = stage.start(add={"id": "xa-1"})
    done = stage.tram("add", "--text", "Meeting", "--lang", "en", "--at", "now", "--zones", "*", "--approved-by", "A")
    assert done.code == 0
    assert agent.asked[0][1]["lang"] == "en"


def test_a_file_is_taken_into_the_library_and_named_by_its_hash(stage: Stage, tmp_path: Path) -> None:
    import hashlib

    file = sound(tmp_path / "mời họp.wav")
    agent = stage.start(add={"id": "xa-2"}, play={"id": "p"})
    assert stage.tram("add", str(file), "--at", "now", "--zones", "*", "--approved-by", "A").code == 0
    assert stage.tram("play", str(file), "--zone", "loa-xa").code == 0
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    sent = [args for do, args in agent.asked if do in {"add", "play"}]
    assert [a["media"]["sha256"] for a in sent] == [digest, digest]
    assert sent[0]["title"] == "mời họp"
    assert sent[1]["zone"] == "loa-xa"
    assert list((tmp_path / "data" / "content").rglob(f"*{digest}*"))


WRONG_USE = {
    "past time": (("accept", "b-1", "--at", "2020-01-01 05:00"), "already past"),
    "no time": (("accept", "b-1", "--at", "soon"), "is not a time"),
    "no such zone": (("silence", "on", "--zones", "loa-xã"), "loa-xa"),
    "neither file nor text": (("add", "--at", "now", "--zones", "*", "--approved-by", "A"), "either a FILE or --text"),
    "no words": (("add", "--text", " ", "--at", "now", "--zones", "*", "--approved-by", "A"), "no words"),
    "nobody approved": (("add", "--text", "x", "--at", "now", "--zones", "*", "--approved-by", " "), "needs a name"),
    "file not there": (("play", "nowhere.wav", "--zone", "loa-xa"), "does not exist"),
    "unknown class": (
        ("add", "--text", "x", "--at", "now", "--zones", "*", "--approved-by", "A", "--class", "x"),
        "--class",
    ),
    "unknown command": (("sttus",), "tram status"),
    "unknown option": (("status", "--jsno"), "--json"),
    "no such message": (("record", "so-tam"), "so-tan"),
    "month": (("log", "--month", "11-2025"), "2025-11"),
    "head": (("log", "--verify", "--head", "12"), "N:HASH"),
}


@pytest.mark.parametrize("name", WRONG_USE)
def test_wrong_use_is_explained_and_nothing_is_sent(name: str, stage: Stage) -> None:
    args, words = WRONG_USE[name]
    agent = stage.start()
    done = stage.tram(*args)
    assert done.code == 2
    assert words in done.err
    assert not agent.asked


def test_a_configuration_with_mistakes_stops_every_command_with_1(stage: Stage) -> None:
    stage.config.write_text("device: {id: a}\n")
    done = stage.tram("status")
    assert done.code == 1
    assert "station.yaml:1: device.id:" in done.err
    assert "“zones” is missing" in done.err


def test_a_recording_is_put_in_place_the_former_kept_and_the_agent_told(stage: Stage, tmp_path: Path) -> None:
    agent = stage.start()
    first, second = sound(tmp_path / "1.wav", 1.0), sound(tmp_path / "2.wav", 2.0)
    assert stage.tram("record", "so-tan", "--file", str(first)).code == 0
    assert "2.0 s" in stage.tram("record", "so-tan", "--file", str(second)).out
    kept = tmp_path / "data" / "messages"
    assert (kept / "so-tan.wav").stat().st_size > 1.9 * (kept / "so-tan.old.wav").stat().st_size
    assert sorted(p.name for p in kept.iterdir()) == ["so-tan.old.wav", "so-tan.wav"]
    assert agent.asked == [("recorded", {"message": "so-tan"})] * 2


@pytest.mark.parametrize("amplitude", [300, 30_000])
def test_a_recording_is_as_loud_as_what_the_station_speaks_and_never_clips(
    amplitude: int, stage: Stage, tmp_path: Path
) -> None:
    from drivers.ebur128 import measure

    stage.start()
    tone = array("h", [round(amplitude * math.sin(n * 0.13)) for n in range(RATE)])
    quiet = tmp_path / "quiet.wav"
    with wave.open(str(quiet), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(tone.tobytes())
    assert stage.tram("record", "so-tan", "--file", str(quiet)).code == 0
    with wave.open(str(tmp_path / "data" / "messages" / "so-tan.wav")) as kept:
        lufs, peak = measure(kept.readframes(kept.getnframes()), RATE)
    before, _ = measure(tone.tobytes(), RATE)
    assert lufs is not None
    assert before is not None
    assert lufs == pytest.approx(min(-20.0, before + 12.0), abs=0.1)  # raised by 12 dB at most
    assert peak <= -1.0


def test_a_recording_too_short_changes_nothing(stage: Stage, tmp_path: Path) -> None:
    stage.start()
    done = stage.tram("record", "so-tan", "--file", str(sound(tmp_path / "1.wav", 0.1)))
    assert done.code == 1
    assert not list((tmp_path / "data" / "messages").iterdir())


def test_a_recording_without_a_running_agent_is_kept_for_its_next_start(stage: Stage, tmp_path: Path) -> None:
    done = stage.tram("record", "so-tan", "--file", str(sound(tmp_path / "1.wav")))
    assert done.code == 0
    assert "next start" in done.out


@pytest.mark.vlc
def test_a_recording_of_another_form_is_converted(stage: Stage, tmp_path: Path) -> None:
    assert stage.tram("record", "so-tan", "--file", str(sound(tmp_path / "1.wav", 1.0, 22_050))).code == 0
    with wave.open(str(tmp_path / "data" / "messages" / "so-tan.wav")) as made:
        assert (made.getframerate(), made.getnchannels(), made.getsampwidth()) == (RATE, 1, 2)
        assert abs(made.getnframes() - RATE) < RATE // 100


def test_a_file_that_is_no_sound_is_refused_as_a_recording(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "x.mp3").write_text("no sound")
    done = stage.tram("record", "so-tan", "--file", str(tmp_path / "x.mp3"))
    assert done.code == 1
    assert "cannot be read as sound" in done.err


ALARM = re.compile(
    r"""(?<!case vo.)\b(?:Alarm|alarm|_alarm|fault|_fault|Fault|Noticed|ScreenFault|_tell)\("""
    r"""\s*(?:self, view, |station, view, )?(?:what=)?"([a-z-]+)\""""
)


def alarm_words() -> set[str]:
    """Every stable word of a fault or alarm that stands in the agent's source; a part's own words behind its prefix."""
    found: set[str] = set()
    for file in (ROOT / "agent").rglob("*.py"):
        prefix = {"voice": "voice-", "screen": "screen-"}.get(file.relative_to(ROOT / "agent").parts[0], "")
        text = file.read_text("utf-8")
        found |= {prefix + word for word in ALARM.findall(text)} | set(re.findall(r'"(cluster-[a-z]+)"', text))
    found |= {f"relay-{what}" for what in RELAY_FAULTS} | {f"{link}-silent" for link in ("source", "parent")}
    return found | {f"line-{state.value}" for state in BROKEN} | set(DETAILS)


def test_every_fault_that_a_station_can_tell_has_words_in_both_languages() -> None:
    told = alarm_words()
    assert {"ear-lost", "cluster-lies", "voice-sink", "screen-film", "relay-stuck", "line-open", "air-dead"} <= told
    assert told - set(FAULTS) == set()
    use("vi")
    vietnamese = {name: fault_word(name) for name in FAULTS}
    use("en")
    assert all(vietnamese[name] not in {name, fault_word(name)} for name in FAULTS)


def test_every_member_of_the_status_has_words_in_both_languages(stage: Stage) -> None:
    facts = {
        "disk": {"free_mb": 1, "total_mb": 2},
        "network": {"interface": "wwan0", "type": "mobile", "received_mb": 1, "sent_mb": 1}
        | {"operator": "Viettel", "technology": "lte", "signal_percent": 71},
        "position": {"lat": 9.9, "lon": 106.3},
        "microphone": {"plugged": False},
        "reset": {"code": "0x1000", "reason": "power-on"},
        "uptime_s": 90_061,
        "undervoltage": False,
        "temperature_c": 48.0,
        "voice": {"version": "0.1.0", "pid": 7},
        "drill": False,
        "parent": {"online": True},
        "faults": [{"what": "howl@nghe-1@loa-xa", "detail": "a tone stands that nobody sent: 2310 Hz"}],
    }
    stage.start(status=STATUS | facts)
    for lang, words in {
        "en": ["Mobile signal, %", "mobile network", "1 days 1:01:01", "switched on", "a loudspeaker howls", "no"],
        "vi": ["Sóng di động, %", "mạng di động", "1 ngày 1:01:01", "bật máy", "một loa bị hú", "không"],
    }.items():
        out = stage.tram("status", "--lang", lang).out
        for word in words:
            assert word in out
        raw = re.findall(r"^[a-z_]+(?:\.[a-z_]+)+ |^[a-z]+_[a-z_]+ ", out, re.MULTILINE)
        assert [name for name in raw if name.strip() not in {"something_new.unit_v"}] == []
