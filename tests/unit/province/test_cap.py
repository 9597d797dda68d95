"""CAP 1.2 as orders: our own examples in the form of the standard's and of public alerts, and broken ones."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from agent.cli.province import province as command
from agent.model.orders import ARGS_OF, Broadcast, Class, Media, Repeat
from drivers.espeak import VOICES
from province import cap
from province.publish import EMERGENCY_LIMIT, ORDER_LIMIT
from province.store import Province, Settings
from tests.unit.province.test_store import entry

SAMPLES = Path(__file__).parent / "cap"
NOW = datetime.fromisoformat("2026-11-03T19:30:00+07:00")
LIMITS = {c: EMERGENCY_LIMIT if c is Class.EMERGENCY else ORDER_LIMIT for c in Class}
AREAS = msgspec.convert(
    {
        "areas": [
            {"valueName": "VN-DVHC", "value": "29302", "unit": "84/86/xa-mau"},
            {"valueName": "VN-DVHC", "value": "29305", "to": ["xa-ben"]},
            {"valueName": "VN-DVHC", "value": "84", "to": ["group:all"]},
            {"valueName": "VN-VUNG", "value": "ven-bien", "to": ["group:ven-bien", "xa-ben"]},
        ],
        "devices": {"xa-mau-1": "84/86/xa-mau", "xa-mau-2": "84/86/xa-mau/ap-3", "xa-mau-moi": "84/86/xa-mau-moi"},
    },
    cap.Areas,
)


def keep(file: Path) -> Media:
    data = file.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    return Media(sha256, len(data), f"https://media.example/{sha256}{file.suffix}", "audio/ogg")


def sample(name: str, **replaced: str) -> bytes:
    text = (SAMPLES / f"{name}.xml").read_text("utf-8")
    for element, value in replaced.items():
        text, n = re.subn(rf"<{element}>[^<]*</{element}>", f"<{element}>{value}</{element}>", text)
        assert n, element
    return text.encode()


def planned(data: bytes | str, media_dir: Path | None = None, areas: cap.Areas = AREAS, **chosen: Any) -> cap.Plan:
    choices = cap.Choices(**{"voices": frozenset(VOICES), "limits": LIMITS, **chosen})
    recordings = cap.Recordings([media_dir] if media_dir else [], keep)
    made = cap.plan(cap.parse(sample(data) if isinstance(data, str) else data), choices, areas, recordings, NOW)
    for order in made.orders:
        msgspec.convert(order.args, ARGS_OF[order.op])
    return made


def one(data: bytes | str, **chosen: Any) -> Broadcast:
    made = planned(data, **chosen)
    assert [o.op for o in made.orders] == ["broadcast"]
    return msgspec.convert(made.orders[0].args, Broadcast)


# The examples


def test_a_severe_thunderstorm_is_an_emergency_for_the_units_of_its_geocodes() -> None:
    made = planned("thunderstorm")
    assert made.orders[0].aud == ["xa-mau-1", "xa-mau-2", "xa-ben"]
    assert made.notes == []
    told = one("thunderstorm")
    assert (told.class_, told.start, told.drill) == (Class.EMERGENCY, "now", False)
    assert told.until == "2026-11-03T20:30:00+07:00"
    assert told.title == "Cảnh báo dông mạnh đến 20h30"
    assert told.zones == ["*"]
    assert [i.kind for i in told.items] == ["chime", "text"]
    assert told.items[1].lang == "vi-VN"
    assert told.items[1].text == (
        "Cảnh báo dông mạnh đến 20h30. Lúc 19h00 ra-đa cho thấy dông mạnh kèm mưa đá đang đi về phía xã Mẫu, "
        "gió giật cấp 8. Bà con vào nhà kiên cố, tránh xa cây to và biển quảng cáo."
    )


def test_a_tsunami_warning_in_two_languages_is_one_bulletin_and_does_not_wait_for_its_onset() -> None:
    made = planned("tsunami")
    assert made.orders[0].aud == ["group:ven-bien", "xa-ben"]
    told = one("tsunami")
    assert (told.class_, told.start, told.until) == (Class.EMERGENCY, "now", "2026-11-03T18:20:00+00:00")
    assert [i.lang for i in told.items if i.text] == ["vi", "en-US"]


def test_an_update_about_a_circle_goes_where_the_person_says() -> None:
    with pytest.raises(cap.CapError, match="--to"):
        planned("earthquake")
    made = planned("earthquake", to=("group:ven-bien",))
    told = msgspec.convert(made.orders[0].args, Broadcast)
    assert (told.class_, told.items[0].chime) == (Class.NORMAL, "gong")
    assert told.until == (NOW + timedelta(minutes=60)).isoformat()
    assert any("60 minutes" in note for note in made.notes)


def test_an_areas_shape_alone_is_said_to_be_unread() -> None:
    told = sample("thunderstorm").replace(
        b"<area>", b"<area><areaDesc>B\xc3\xa3i b\xe1\xbb\x93i</areaDesc><circle>9,106 5</circle></area><area>"
    )
    made = planned(told)
    assert made.orders[0].aud == ["xa-mau-1", "xa-mau-2", "xa-ben"]
    assert [n for n in made.notes if "polygons and circles" in n and "Bãi bồi" in n]


def test_an_amber_alert_is_heard_in_its_recording_and_shown_as_text(tmp_path: Path) -> None:
    (tmp_path / "loi-doc.mp3").write_bytes(b"ID3 a voice")
    made = planned("amber", tmp_path)
    sound, screen = (msgspec.convert(o.args, Broadcast) for o in made.orders)
    assert sound.class_ is Class.PRIORITY
    assert (sound.zones, screen.zones) == (["kind:sound"], ["kind:screen"])
    assert [i.kind for i in sound.items] == ["chime", "media"]
    assert sound.items[1].media == keep(tmp_path / "loi-doc.mp3")
    assert [i.kind for i in screen.items] == ["text"]
    assert screen.id == f"{sound.id}.screen"
    assert any("anh.jpg" in note for note in made.notes)


@pytest.mark.parametrize(
    ("content", "said"), [(None, "--media-dir"), (b"ID3 another voice", "SHA-1")], ids=["not at hand", "another file"]
)
def test_without_the_alerts_own_recording_the_text_is_spoken(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "loi-doc.mp3").write_bytes(content)
    made = planned("amber", tmp_path)
    told = msgspec.convert(made.orders[0].args, Broadcast)
    assert len(made.orders) == 1
    assert [i.kind for i in told.items] == ["chime", "text"]
    assert any(said in note for note in made.notes)


def test_a_recordings_address_leads_out_of_no_folder(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "secret").write_bytes(b"x")
    find = cap.Recordings([tmp_path / "inner"], keep)
    for uri in ("https://a.example/../secret", "..%2Fsecret", "https://a.example/..", "https://a.example/%2e%2e", ""):
        with pytest.raises(cap.CapError):
            find(cap.Resource("audio/mpeg", uri))


def test_three_languages_a_khmer_recording_inside_the_alert() -> None:
    made = planned("flood-three-languages")
    sound, screen = (msgspec.convert(o.args, Broadcast) for o in made.orders)
    assert [i.media.size if i.media else i.lang for i in sound.items[1:]] == ["vi", 20, "en"]
    assert [i.lang for i in screen.items] == ["vi", "km", "en"]
    assert {o.class_ for o in made.orders} == {Class.EMERGENCY}


def test_a_board_is_free_again_when_the_alert_has_been_read_unless_it_is_repeated_for_ever() -> None:
    sound, screen = (msgspec.convert(o.args, Broadcast) for o in planned("flood-three-languages").orders)
    assert sound.until is not None
    assert screen.until is None
    assert all(i.dwell_s is not None and 10 <= i.dwell_s <= 20 for i in screen.items)
    lasting = planned("flood-three-languages", repeat=Repeat(interval_s=5)).orders[1]
    assert lasting.args["until"] == sound.until


def test_a_language_without_voice_and_recording_is_shown_only() -> None:
    without = re.sub(rb"<resource>.*?</resource>", b"", sample("flood-three-languages"), flags=re.DOTALL)
    made = planned(without)
    sound, screen = (msgspec.convert(o.args, Broadcast) for o in made.orders)
    assert [i.lang for i in sound.items[1:]] == ["vi", "en"]
    assert [i.lang for i in screen.items] == ["vi", "km", "en"]
    assert any("km" in note and "not heard" in note for note in made.notes)
    (only,) = planned(without, zones=("tag:cho",)).orders
    assert [i.get("lang") for i in only.args["items"]] == [None, "vi", "en"]
    (boards,) = planned(without, zones=("kind:screen",)).orders
    assert [i["lang"] for i in boards.args["items"]] == ["vi", "km", "en"]
    khmer = without.replace(b"<language>vi<", b"<language>km<").replace(b"<language>en<", b"<language>km<")
    assert [o.args["zones"] for o in planned(khmer).orders] == [["kind:screen"]]
    with pytest.raises(cap.CapError, match="neither a voice nor a recording"):
        planned(khmer, zones=("tag:cho",))


def test_an_update_replaces_what_it_refers_to_and_then_cancels_it_everywhere() -> None:
    made = planned("update")
    assert [(o.op, o.afterwards) for o in made.orders] == [("broadcast", False), ("cancel", True)]
    former = [o.args["id"] for o in planned("flood-three-languages").orders]
    assert set(former) < set(made.orders[0].args["replaces"])
    assert made.orders[1].args["ids"] == made.orders[0].args["replaces"]
    assert made.orders[1].aud == ["group:all"]
    assert made.id not in made.orders[0].args["replaces"]


def test_a_cancel_names_both_orders_of_the_former_and_outlives_its_admission() -> None:
    made = planned("cancel")
    (order,) = made.orders
    assert (order.op, order.aud) == ("cancel", ["group:all"])
    assert order.args == {"ids": [planned("update").id, f"{planned('update').id}.screen"]}
    assert order.ttl_s > cap.ORDER_TTL_S
    assert planned("cancel", to=("xa-mau-1",)).orders[0].aud == ["xa-mau-1"]


def test_many_references_are_cancelled_in_orders_of_64() -> None:
    references = " ".join(f"a@b,n{n},2026-11-03T19:28:00+07:00" for n in range(50))
    made = planned(sample("cancel", references=references))
    assert [len(o.args["ids"]) for o in made.orders] == [64, 36]
    update = planned(sample("update", references=references))
    assert len(update.orders[0].args["replaces"]) == 64


@pytest.mark.parametrize("status", ["Exercise", "Test"])
def test_an_exercise_is_a_drill(status: str) -> None:
    made = planned(sample("exercise", status=status))
    assert made.orders[0].args["drill"] is True
    assert any("diễn tập" in note for note in made.notes)


@pytest.mark.parametrize("kind", ["Ack", "Error"])
def test_acknowledgements_of_other_systems_are_nothing_to_broadcast(kind: str) -> None:
    made = planned(sample("update", msgType=kind))
    assert made.orders == []
    assert kind in made.notes[0]


# Class, time, id, areas


@pytest.mark.parametrize(
    ("urgency", "severity", "certainty", "expected"),
    [
        ("Immediate", "Extreme", "Observed", Class.EMERGENCY),
        ("Immediate", "Severe", "Likely", Class.EMERGENCY),
        ("Expected", "Extreme", "Likely", Class.EMERGENCY),
        ("Expected", "Severe", "Observed", Class.EMERGENCY),
        ("Expected", "Severe", "Very Likely", Class.EMERGENCY),
        ("Immediate", "Moderate", "Observed", Class.PRIORITY),
        ("Future", "Extreme", "Likely", Class.PRIORITY),
        ("Immediate", "Severe", "Possible", Class.PRIORITY),
        ("Unknown", "Moderate", "Unknown", Class.PRIORITY),
        ("Past", "Extreme", "Observed", Class.NORMAL),
        ("Immediate", "Extreme", "Unlikely", Class.NORMAL),
        ("Immediate", "Minor", "Observed", Class.NORMAL),
        ("Unknown", "Unknown", "Unknown", Class.NORMAL),
    ],
)
def test_class_of_urgency_severity_and_certainty(urgency: str, severity: str, certainty: str, expected: Class) -> None:
    told = sample("thunderstorm", urgency=urgency, severity=severity, certainty=certainty)
    assert one(told).class_ is expected
    assert one(told, class_=Class.PRIORITY).class_ is Class.PRIORITY


def test_a_future_effective_time_is_the_start_and_admission_ends_within_a_day() -> None:
    later = sample("thunderstorm", effective="2026-11-05T05:00:00+07:00", expires="2026-11-09T05:00:00+07:00")
    (order,) = planned(later).orders
    assert order.args["start"] == "2026-11-05T05:00:00+07:00"
    assert order.ttl_s == 86400
    with pytest.raises(cap.CapError, match="before it becomes effective"):
        planned(sample("thunderstorm", effective="2026-11-05T05:00:00+07:00"))


def test_what_has_expired_of_an_alert_is_left_out() -> None:
    text = sample("tsunami").decode()
    made = planned(text.replace("2026-11-03T18:20:00-00:00", "2026-11-03T12:00:00-00:00", 1).encode())
    assert [i.get("lang") for i in made.orders[0].args["items"]] == [None, "en-US"]
    assert any("expired" in note for note in made.notes)


def test_the_same_alert_has_the_same_id_and_others_have_others() -> None:
    name = cap.bulletin_id("a@b.example", "KTV/2026 \u1ea1")
    assert name == cap.bulletin_id("a@b.example", "KTV/2026 \u1ea1")
    assert re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", f"{name}.screen")
    others = {cap.bulletin_id(s, i) for s, i in [("a", "bc"), ("ab", "c"), ("a", "b/c"), ("a", "b-c"), ("a", "b c")]}
    assert len(others) == 5


def test_parts_of_different_urgency_are_orders_of_one_id_and_each_target_gets_the_graver() -> None:
    text = sample("thunderstorm").decode()
    block = text[text.index("  <info>") : text.index("</alert>")]
    lesser = block.replace("Severe", "Moderate").replace("29305", "84").replace("mạnh", "vừa")
    made = planned(text.replace("</alert>", lesser + "</alert>").encode())
    assert [(o.class_, o.aud) for o in made.orders] == [
        (Class.PRIORITY, ["group:all"]),
        (Class.EMERGENCY, ["xa-mau-1", "xa-mau-2", "xa-ben"]),
    ]
    assert len({o.args["id"] for o in made.orders}) == 1


def test_an_info_without_an_area_is_for_the_areas_of_the_others() -> None:
    text = sample("tsunami").decode()
    head, tail = text.rsplit("<cap:area>", 1)
    made = planned((head + tail.partition("</cap:area>")[2]).encode())
    assert len(made.orders) == 1
    assert [i.get("lang") for i in made.orders[0].args["items"]] == [None, "vi", "en-US"]


def test_an_area_that_leads_nowhere_is_named_and_the_others_hear_it() -> None:
    told = sample("thunderstorm").replace(
        b"<area>",
        b"<area><areaDesc>Lan can</areaDesc><geocode><valueName>X</valueName><value>7</value></geocode></area><area>",
    )
    made = planned(told)
    assert made.orders[0].aud == ["xa-mau-1", "xa-mau-2", "xa-ben"]
    assert any("Lan can" in n and "X=7" in n and "areas.yaml" in n for n in made.notes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("areas: [{valueName: a, value: 84, to: [x]}]", "areas\\[0\\].value"),
        ("areas: [{valueName: a, value: '84'}]", "needs unit or to"),
        ("areas: [{valueName: a, value: '84', to: ['Xã Mẫu']}]", "Xã Mẫu"),
        ("areas: [{valueName: a, value: '84', units: x}]", "units"),
        ("areas: [", "areas.yaml"),
    ],
)
def test_mistakes_in_areas_yaml_are_told(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "areas.yaml").write_text(text, "utf-8")
    with pytest.raises(cap.CapError, match=said):
        cap.Areas.load(tmp_path)


def test_a_training_stations_devices_are_known_without_a_mapping_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "connection.json").write_text(json.dumps({"devices": [{"id": "xa-mau", "unit": "84/86/xa-mau"}]}))
    (tmp_path / "areas.yaml").write_text("areas: [{valueName: a, value: '84', unit: '84/86'}]")
    areas = cap.Areas.load(tmp_path)
    assert areas.targets(cap.Area("", (("a", "84"),))) == ["xa-mau"]


# Size


def test_an_emergency_that_is_too_long_loses_its_description_first() -> None:
    long = sample("thunderstorm", description="Gió giật cấp 8. " * 300)
    told = one(long)
    assert told.items[1].text == (
        "Cảnh báo dông mạnh đến 20h30. Bà con vào nhà kiên cố, tránh xa cây to và biển quảng cáo."
    )
    assert any("description left out" in n for n in planned(long).notes)
    longer = sample("thunderstorm", description="a " * 3000, instruction="b " * 3000)
    assert one(longer).items[1].text == "Cảnh báo dông mạnh đến 20h30."
    with pytest.raises(cap.CapError, match="do not fit"):
        planned(sample("thunderstorm", headline="c " * 3000, description="", instruction=""))
    assert len(one(sample("thunderstorm", headline="c " * 500)).title) == 200


def test_what_is_planned_fits_when_it_is_signed(tmp_path: Path) -> None:
    there = Province.create(tmp_path / "p", [entry("tinh" * 10)], settings=Settings(name="x"))
    longest = 0
    for n in range(500, 1000, 10):
        (order,) = planned(sample("thunderstorm", description="ạ" * n)).orders
        jws = there.sign("tinh" * 10, order.op, order.args, order.aud, ttl_s=order.ttl_s).jws
        longest = max(longest, len(jws))
    assert EMERGENCY_LIMIT - 150 < longest <= EMERGENCY_LIMIT


# Broken ones

BROKEN = {
    "bad-sent": "sent is '03/11/2026 19h00'",
    "cut-off": "not well-formed",
    "draft": "Draft",
    "empty": "not well-formed",
    "entity-bomb": "DTD",
    "expired": "expired",
    "external-dtd": "DTD",
    "external-entity": "DTD",
    "feed": "not a CAP 1.2 alert but 'feed'",
    "identifier-with-spaces": "identifier has spaces",
    "no-identifier": "identifier is missing",
    "no-info": "no info",
    "no-language-code": "language is 'tiếng Việt'",
    "no-offset": "expires is '2026-11-03T20:30:00'",
    "no-such-day": "expires is '2026-02-30",
    "not-xml": "not well-formed",
    "private": "Private",
    "short-reference": "references has",
    "system": "System",
    "too-deep": "nested too deeply",
    "two-identifiers": "more than once",
    "undeclared-entity": "not well-formed",
    "unknown-geocode": "areas.yaml",
    "unknown-severity": "Extreme, Severe, Moderate",
    "update-of-nothing": "without references",
    "version-1.1": "CAP 1.1",
    "wrong-namespace": "namespace 'http://thoitiet.example/ns'",
}


def test_every_broken_file_has_its_case() -> None:
    assert {p.stem for p in (SAMPLES / "broken").glob("*.xml")} == set(BROKEN)


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_alert_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(cap.CapError, match=re.escape(BROKEN[name])):
        planned((SAMPLES / "broken" / f"{name}.xml").read_bytes())


def test_fifty_megabytes_are_refused_unread() -> None:
    padding = b"<!--" + b" " * (50 * 2**20) + b"-->"
    with pytest.raises(cap.CapError, match="larger than 16 MB"):
        cap.parse(sample("thunderstorm").replace(b"<info>", padding + b"<info>", 1))


def test_elements_of_other_namespaces_are_not_read() -> None:
    foreign = (
        b'<identifier xmlns="urn:oasis:names:tc:emergency:cap:1.1">x</identifier><status xmlns="">Draft</status>'
        b'<Signature xmlns="http://www.w3.org/2000/09/xmldsig#"><info xmlns="urn:oasis:names:tc:emergency:cap:1.2"/>'
        b"</Signature></alert>"
    )
    told = sample("thunderstorm").replace(b"</alert>", foreign)
    assert planned(told).orders == planned("thunderstorm").orders


# The command


def run(folder: Path, *given: str | Path, data: bytes | None = None) -> Result:
    return CliRunner().invoke(command, ["--dir", str(folder), "cap", *map(str, given)], input=data)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    there = tmp_path / "p"
    Province.create(there, [entry("tinh", 50)], settings=Settings(name="Tỉnh"))
    text = "areas: [{valueName: VN-DVHC, value: '29302', to: [xa-mau-1]}, {valueName: VN-DVHC, value: '84', to: [a-b]}]"
    (there / "areas.yaml").write_text(text)
    return there


def tomorrow(name: str) -> bytes:
    day = f"{datetime.now() + timedelta(days=1):%Y-%m-%d}"
    return re.sub(rb"(<expires>)\d{4}-\d\d-\d\d", rb"\g<1>" + day.encode(), sample(name))


def test_dry_run_prints_the_orders_and_touches_nothing(folder: Path) -> None:
    done = run(folder, "-", "--dry-run", data=tomorrow("flood-three-languages"))
    assert done.exit_code == 0, done.output
    orders = json.loads(done.stdout)
    assert [o["args"]["zones"] for o in orders] == [["kind:sound"], ["kind:screen"]]
    assert orders[0]["aud"] == ["xa-mau-1"]
    media = orders[0]["args"]["items"][2]["media"]
    assert media["sha256"] == hashlib.sha256(b"OggS Khmer recording").hexdigest()
    assert media["url"].startswith("https://127.0.0.1/media/")
    assert not list((folder / "media").iterdir())
    assert not (folder / "counters").exists()


def test_options_of_the_command_reach_the_order(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "loi-doc.mp3").write_bytes(b"ID3 a voice")
    given = ("--class", "normal", "--zones", "tag:cho, loa", "--chime", "none", "--count", "0", "--to", "group:all")
    more = ("--media-dir", tmp_path, "--interval", "5", "--dry-run")
    done = run(folder, "-", *given, *more, data=tomorrow("amber"))
    assert done.exit_code == 0, done.output
    (order,) = json.loads(done.stdout)
    args = order["args"]
    assert (order["aud"], args["class"], args["zones"]) == (["group:all"], "normal", ["tag:cho", "loa"])
    assert [list(i) for i in args["items"]] == [["media"]]
    assert args["repeat"] == {"interval_s": 5.0}


@pytest.mark.parametrize("name", BROKEN)
def test_the_command_says_one_sentence_and_ends_with_1(folder: Path, name: str) -> None:
    done = run(folder, SAMPLES / "broken" / f"{name}.xml", "--dry-run")
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.output
    assert done.stdout == ""


def test_without_a_signer_only_a_dry_run(folder: Path) -> None:
    assert run(folder, SAMPLES / "cancel.xml").exit_code == 2
    bad = run(folder, SAMPLES / "cancel.xml", "--dry-run", "--to", "Xã Mẫu")
    assert bad.exit_code == 1
    ack = run(folder, "-", "--as", "tinh", data=sample("update", msgType="Ack"))
    assert ack.exit_code == 0
    assert "Ack" in ack.stderr
