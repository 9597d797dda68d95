from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.model.config import Station
from agent.model.loader import ConfigError, examine, load
from agent.model.yaml_tree import MAX_BYTES
from tests.unit.config.files import EXAMPLES, GOOD, problems_of, write

TEN_MISTAKES = """\
device:
  id: Xã Mẫu
  name: Đài xã Mẫu
  unit: 84/86/xa-mau
timezone: Asia/Hochiminh
mqtt:
  host: nguon.example.vn
  port: "8883"
  ca: pki/ca.crt
  cert: pki/xa-mau.crt
  key: "-----BEGIN PRIVATE KEY----- MC4CAQAwBQ"
trust:
  root_keys: roots.json
zones:
  - id: loa
    kind: sound
    output: {driver: wav, path: station.wav}
    power:
      - relay: tangam
    rules:
      quiet_hours: ["21h-5h"]
  - id: bang
    kind: screen
    output: {driver: alsa, device: "hw:0"}
relays:
  - {id: tang-am, pin: 17}
buttons:
  - {id: khan-cap, pin: 17, action: {message: so-tan}, zonse: ["*"]}
messages:
  - {id: so-tan, title: Sơ tán, text: Đi ngay}
"""

TEN_PLACES = [
    (2, "device.id", "Xã Mẫu", "small letters"),
    (5, "timezone", "Asia/Hochiminh", "Asia/Ho_Chi_Minh"),
    (8, "mqtt.port", "8883", "without quotes"),
    (11, "mqtt.key", "key or certificate itself", "path of that file"),
    (12, "trust", "“authorities” is missing", "authorities: …"),
    (19, "zones[0].power[0].relay", "tangam", "tang-am"),
    (21, "zones[0].rules.quiet_hours[0]", "21h-5h", "21:30-05:00"),
    (24, "zones[1].output.driver", "screen zone", "kind: sound"),
    (28, "buttons[0].zonse", "zonse", "“zones”"),
    (28, "buttons[0].pin", "Pin 17 is already used by relays[0].pin", "pin of its own"),
]


def test_ten_mistakes_in_one_file_are_all_shown_with_place_reason_and_remedy(tmp_path: Path) -> None:
    problems = problems_of(write(tmp_path, TEN_MISTAKES))
    assert [(p.line, p.path) for p in problems] == [(line, path) for line, path, _, _ in TEN_PLACES]
    for problem, (_, _, reason, remedy) in zip(problems, TEN_PLACES, strict=True):
        assert reason in str(problem.reason)
        assert remedy in str(problem.remedy)


LINK = "{host: 0.0.0.0, ca: a, cert: b, key: c, group: g}"

MISTAKES: dict[str, tuple[str, str, str, str]] = {
    # name: (text replaced, by what, path of the problem, words of reason or remedy)
    "value missing": ("id: xa-mau", "id:", "device.id", "no value"),
    "group instead of a value": ("id: xa-mau", "id: {a: b}", "device.id", "group of values"),
    "list instead of a value": ("id: xa-mau", "id: [a]", "device.id", "A list stands here"),
    "value instead of a group": (
        "output: {driver: wav, path: out/station.wav}",
        "output: wav",
        "zones[0].output",
        "group",
    ),
    "value instead of a list": ("zones:\n", "relays: no\nzones:\n", "relays", "A list is expected"),
    "driver missing": ("driver: wav, ", "", "zones[0].output", "“driver” is missing"),
    "driver unknown": ("driver: wav", "driver: wave", "zones[0].output.driver", "“wav”"),
    "empty path": ("path: out/station.wav", 'path: " "', "zones[0].output.path", "empty"),
    "unknown word": ("kind: sound", "kind: sonud", "zones[0].kind", "“sound”"),
    "number out of range": ("kind: sound", "kind: sound\n    gain_db: 60", "zones[0].gain_db", "from -60 to 12"),
    "not a number": ("kind: sound", "kind: sound\n    delay_ms: .nan", "zones[0].delay_ms", "from 0 to 2000"),
    "flag in quotes": (
        "zones:",
        'relays: [{id: a, pin: 1, active_high: "true"}]\nzones:',
        "relays[0].active_high",
        "true or",
    ),
    "repeated key": ("  unit:", "  name: Khác\n  unit:", "device.name", "given twice; the first one is in line 3"),
    "inline key as a group": (
        "root_keys: trust/roots.json",
        "root_keys: trust/roots.json\n  station_authority: a\n  station_key: {kty: OKP, crv: Ed25519, d: abc}",
        "trust.station_key",
        "path of that file",
    ),
    "inline key as a JSON text": (
        "root_keys: trust/roots.json",
        """root_keys: '{"kty":"OKP"}'""",
        "trust.root_keys",
        "path of that file",
    ),
    "password": (
        "trust:",
        "mqtt: {host: a, ca: a, cert: b, key: c, password: geheim}\ntrust:",
        "mqtt.password",
        "Secrets",
    ),
    "password in an address": (
        "zones:",
        "sources: [{id: a, url: 'http://me:geheim@host/x'}]\nzones:",
        "sources[0].url",
        "contains a password",
    ),
    "not an address": ("zones:", "sources: [{id: a, url: live.mp3}]\nzones:", "sources[0].url", "not an address"),
    "scheme in a host": (
        "zones:",
        "content: {allowed_hosts: ['https://a/']}\nzones:",
        "content.allowed_hosts[0]",
        "https://",
    ),
    "key without authority": ("trust:\n", "trust:\n  station_key: k.jwk\n", "trust.station_key", "station_authority"),
    "virtual without control": ("zones:", "hardware: {gpio: virtual}\nzones:", "hardware.gpio", "control"),
    "repeated id": ("zones:", "relays: [{id: a, pin: 1}, {id: a, pin: 2}]\nzones:", "relays[1].id", "relays[0].id"),
    "external without relay": (
        "kind: sound",
        "kind: sound\n    idle: {source: external}",
        "zones[0].idle",
        "change-over",
    ),
    "lamp on a used pin": (
        "zones:",
        "buttons: [{id: a, pin: 4, lamp: 4, action: {stop: true}}]\nzones:",
        "buttons[0].lamp",
        "Pin 4 is already used by buttons[0].pin",
    ),
    "lamp of an unknown relay": (
        "zones:",
        "buttons: [{id: a, pin: 4, lamp: red, action: {stop: true}}]\nzones:",
        "buttons[0].lamp",
        "no “red” under “relays:”",
    ),
    "lamp on a pin that is none": (
        "zones:",
        "buttons: [{id: a, pin: 4, lamp: 99, action: {stop: true}}]\nzones:",
        "buttons[0].lamp",
        "“99” does not fit",
    ),
    "lamp that is a power relay": (
        "zones:\n  - id: loa\n",
        "relays: [{id: amp, pin: 1}]\nbuttons: [{id: a, pin: 4, lamp: amp, action: {stop: true}}]\n"
        "zones:\n  - id: loa\n    power: [{relay: amp}]\n",
        "buttons[0].lamp",
        "already switched in zones[0].power[0]",
    ),
    "key switch on a used pin": (
        "zones:",
        "buttons: [{id: a, pin: 4, key_switch: 5, action: {stop: true}}, {id: b, pin: 5, action: {stop: true}}]\n"
        "zones:",
        "buttons[0].key_switch",
        "Pin 5 is already used by buttons[1].pin",
    ),
    "idle relay unknown": (
        "kind: sound",
        "kind: sound\n    idle: {source: external, relay: fm}",
        "zones[0].idle.relay",
        "Add an entry",
    ),
    "relay that needs a later one": (
        "zones:\n  - id: loa\n",
        "relays: [{id: amp, pin: 1}, {id: tx, pin: 2, requires: [amp]}]\n"
        "zones:\n  - id: loa\n    power: [{relay: tx}, {relay: amp}]\n",
        "zones[0]",
        "“tx” needs “amp”",
    ),
    "relay that excludes one of its chain": (
        "zones:\n  - id: loa\n",
        "relays: [{id: a, pin: 1}, {id: b, pin: 2, excludes: [a]}]\n"
        "zones:\n  - id: loa\n    power: [{relay: a}, {relay: b}]\n",
        "zones[0]",
        "never on together",
    ),
    "relay that excludes itself": (
        "zones:",
        "relays: [{id: a, pin: 1, excludes: [a]}]\nzones:",
        "relays[0].excludes[0]",
        "never be switched on",
    ),
    "relay that requires nobody": (
        "zones:",
        "relays: [{id: amp, pin: 1, requires: [am]}]\nzones:",
        "relays[0].requires[0]",
        "Did you mean “amp”?",
    ),
    "contact on a used pin": (
        "zones:",
        "relays: [{id: a, pin: 1, feedback: {pin: 1}}]\nzones:",
        "relays[0].feedback.pin",
        "Pin 1 is already used by relays[0].pin",
    ),
    "external source with relays and no hours": (
        "zones:\n  - id: loa\n",
        "relays: [{id: a, pin: 1}, {id: b, pin: 2}]\n"
        "zones:\n  - id: loa\n    idle: {source: external, relay: a, power: [{relay: b}]}\n",
        "zones[0].idle",
        "belong together",
    ),
    "two delays on one amplifier": (
        "zones:\n  - id: loa\n",
        "zones:\n  - {id: b, kind: sound, amplifier: x, delay_ms: 3, output: {driver: wav, path: out/station.wav}}\n"
        "  - id: loa\n    amplifier: x\n",
        "zones[1].delay_ms",
        "line of the same amplifier",
    ),
    "hours without end": (
        "kind: sound",
        'kind: sound\n    rules: {quiet_hours: ["05:00-05:00"]}',
        "zones[0].rules.quiet_hours[0]",
        "day",
    ),
    "hours beyond midnight": (
        "kind: sound",
        'kind: sound\n    rules: {quiet_hours: ["22:00-24:30"]}',
        "zones[0].rules.quiet_hours[0]",
        "day",
    ),
    "cap hours": (
        "kind: sound",
        "kind: sound\n    rules: {caps: [{hours: now, gain_db: 0}]}",
        "zones[0].rules.caps[0].hours",
        "21:30",
    ),
    "sound copied to a screen": (
        "path: out/station.wav",
        "path: out/station.wav, also: [{driver: png, dir: x}]",
        "zones[0].output.also[0].driver",
        "sound zone",
    ),
    "button does nothing": ("zones:", "buttons: [{id: a, pin: 1, action: {}}]\nzones:", "buttons[0].action", "either"),
    "button does both": (
        "zones:",
        "messages: [{id: m, title: a, text: b}]\nbuttons: [{id: a, pin: 1, action: {message: m, stop: true}}]\nzones:",
        "buttons[0].action",
        "either",
    ),
    "button does three things": (
        "zones:",
        "microphone: {device: m}\nbuttons: [{id: a, pin: 1, action: {microphone: true, stop: true}}]\nzones:",
        "buttons[0].action",
        "opens the microphone",
    ),
    "microphone button without a microphone": (
        "zones:",
        "buttons: [{id: a, pin: 1, action: {microphone: true}}]\nzones:",
        "buttons[0].action.microphone",
        "the station has none",
    ),
    "mode of a stop button": (
        "zones:",
        "buttons: [{id: a, pin: 1, action: {stop: true, mode: latch}}]\nzones:",
        "buttons[0].action.mode",
        "belongs to a button with “microphone”",
    ),
    "repeat of a stored message's button": (
        "zones:",
        "messages: [{id: b, title: a, text: b}]\nbuttons: [{id: a, pin: 1, action: {message: b, repeat: 2}}]\nzones:",
        "buttons[0].action.repeat",
        "belongs to a button with “text”",
    ),
    "chime of a stored message's button": (
        "zones:",
        "messages: [{id: b, title: a, text: b}]\nbuttons: [{id: a, pin: 1, action: {message: b, chime: gong}}]\nzones:",
        "buttons[0].action.chime",
        "belongs to a button with “microphone”",
    ),
    "button whose text has no words": (
        "zones:",
        "buttons: [{id: a, pin: 1, action: {text: ' '}}]\nzones:",
        "buttons[0].action.text",
        "has no words",
    ),
    "message named like the text of a button": (
        "zones:",
        "messages: [{id: button-a, title: a, text: b}]\nbuttons: [{id: a, pin: 1, action: {text: Cháy}}]\nzones:",
        "messages[0].id",
        "has this id already",
    ),
    "microphone without a device": ("zones:", "microphone: {gain_db: 3}\nzones:", "microphone", "needs “device”"),
    "virtual microphone without a file": ("zones:", "microphone: {driver: wav}\nzones:", "microphone", "needs “path”"),
    "message named like the microphone": (
        "zones:",
        "microphone: {device: m}\nmessages: [{id: microphone, title: a, text: b}]\nzones:",
        "messages[0].id",
        "means the live microphone",
    ),
    "button in no zone": (
        "zones:",
        "buttons: [{id: a, pin: 1, action: {stop: true}, zones: []}]\nzones:",
        "buttons[0].zones",
        "no zone",
    ),
    "button in an unknown zone": (
        "zones:",
        "buttons: [{id: a, pin: 1, action: {stop: true}, zones: [lao]}]\nzones:",
        "buttons[0].zones[0]",
        "“loa”",
    ),
    "button's tag matches nothing": (
        "zones:",
        "buttons: [{id: a, pin: 1, action: {stop: true}, zones: ['tag:x']}]\nzones:",
        "buttons[0].zones[0]",
        "No zone has the tag",
    ),
    "cluster of no zone": ("zones:", "clusters: [{id: a, zone: lo}]\nzones:", "clusters[0].zone", "“loa”"),
    "cluster that runs Trạm, and no link": (
        "zones:",
        "clusters: [{id: a, device: cum-1}]\nzones:",
        "clusters[0].device",
        "no link for it",
    ),
    "cluster of a device and a zone": (
        "zones:",
        f"cluster_link: {LINK}\nclusters: [{{id: a, device: cum-1, zone: loa}}]\nzones:",
        "clusters[0].zone",
        "a device and a zone",
    ),
    "two clusters of one device": (
        "zones:",
        f"cluster_link: {LINK}\nclusters: [{{id: a, device: cum-1}}, {{id: b, device: cum-1}}]\nzones:",
        "clusters[1].device",
        "already used",
    ),
    "station with a parent": (
        "zones:",
        "parent: {host: h, ca: a, cert: b, key: c}\nzones:",
        "parent",
        "A station has no parent",
    ),
    "library of the parent without its path": (
        "zones:",
        "parent: {host: h, ca: a, cert: b, key: c, media: 'https://h:8443'}\nzones:",
        "parent.media",
        "the address of the station's library",
    ),
    "link on an address with a scheme": (
        "zones:",
        "cluster_link: {host: 'https://h', ca: a, cert: b, key: c, group: g}\nzones:",
        "cluster_link.host",
        "name of a machine",
    ),
    "source as its own fallback": (
        "zones:",
        "sources: [{id: a, url: 'http://h/x', fallback: {relay: a, duration_s: 5}}]\nzones:",
        "sources[0].fallback.relay",
        "its own fallback",
    ),
    "fallback of two kinds": (
        "zones:",
        "sources: [{id: a, url: 'http://h/x', fallback: [{chime: gong, local: m}]}]\nzones:",
        "sources[0].fallback[0]",
        "exactly one",
    ),
    "fallback incomplete": (
        "zones:",
        "sources: [{id: a, url: 'http://h/x', fallback: {text: Xin chào}}]\nzones:",
        "sources[0].fallback",
        "text needs lang",
    ),
    "anchor": ("name: Đài", "name: &a Đài", "device.name", "Anchors"),
    "tag": ("id: xa-mau", "id: !!python/name:os.system xa-mau", "device.id", "tag"),
    "list as a name": ("zones:", "[a, b]: c\nzones:", "", "where a name is expected"),
    "second document": ("zones:", "---\nzones:", "", "second document"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_at_its_place(name: str, tmp_path: Path) -> None:
    old, new, path, words = MISTAKES[name]
    assert old in GOOD
    problems = problems_of(write(tmp_path, GOOD.replace(old, new, 1)))
    found = [p for p in problems if p.path == path and words in str(p)]
    assert found, "\n".join(map(str, problems))
    assert found[0].line


UNREADABLE: dict[str, tuple[bytes, str, int | None]] = {
    "empty": (b"", "empty", None),
    "only a comment": (b"# nothing\n", "empty", None),
    "a list": (b"- a\n- b\n", "key: value", 1),
    "a word": (b"station\n", "key: value", 1),
    "not UTF-8": (b"device:\n  name: \xc4\x90\xc3i\n", "not UTF-8", 2),
    "UTF-16": ("device: {}\n".encode("utf-16"), "not UTF-8", 1),
    "tab": (b"device:\n\tid: a\n", "tab", 2),
    "star without quotes": (b"zones: [*]\n", "star", 1),
    "bracket left open": (b"zones: [a\nb: c\n", "not valid YAML", 2),
    "control character": (b"device:\n  id: a\x00\n", "character", 2),
    "too large": (b"#" * (MAX_BYTES + 1), "larger", None),
    "too deep": (b"a: " + b"[" * 5000, "nested", 1),
    "too many values": (b"a: [" + b"1," * 60_000 + b"]", "values", 1),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_file_that_cannot_be_read_says_why(name: str, tmp_path: Path) -> None:
    data, words, line = UNREADABLE[name]
    problems = problems_of(write(tmp_path, data))
    assert words in str(problems[-1])
    assert line is None or problems[-1].line == line


def test_a_bomb_of_aliases_is_refused_at_once(tmp_path: Path) -> None:
    text = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    assert any("Anchors" in str(p.reason) for p in problems_of(write(tmp_path, text)))


@pytest.mark.parametrize("path", ["nowhere.yaml", ".", "a\0b"])
def test_a_path_that_is_no_file_is_explained(path: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load(str(tmp_path / path))
    assert str(raised.value.problems[0].remedy)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_every_example_loads(path: Path) -> None:
    station, problems = examine(path)
    assert station is not None
    assert all(p.level == "warning" and p.reason.id.startswith("There is no file") for p in problems)


def test_every_documented_key_appears_with_a_comment_in_the_examples() -> None:
    assert len(EXAMPLES) >= 10
    lines = "\n".join(p.read_text() for p in EXAMPLES).splitlines()
    blocks = "\n".join(line for line in lines if not line.lstrip().startswith("#"))

    def keys(kind: Any) -> set[str]:
        found: set[str] = set()
        for field in msgspec.structs.fields(kind):
            found.add(field.encode_name)
        return found

    from agent.model import config

    structs = [t for t in vars(config).values() if isinstance(t, type) and issubclass(t, msgspec.Struct)]
    wanted = set().union(*(keys(t) for t in structs if t.__module__ == config.__name__))
    missing = {k for k in wanted if not re.search(rf"(^|[\s{{,-]){k}:", blocks)}
    assert not missing
    assert all(path.read_text().startswith("# ") for path in EXAMPLES)


def test_paths_are_relative_to_the_files_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    write(tmp_path, GOOD + "data_dir: ../data\nrun_dir: /run/tram\n")
    monkeypatch.chdir(tmp_path / "elsewhere")
    station = load("../station.yaml")
    assert station.trust.root_keys == str(tmp_path / "trust/roots.json")
    assert station.data_dir == str(tmp_path.parent / "data")
    assert station.run_dir == "/run/tram"
    assert msgspec.to_builtins(station.zones[0].output)["path"] == str(tmp_path / "out/station.wav")


def test_values_keep_what_was_written_where_text_is_expected(tmp_path: Path) -> None:
    text = GOOD.replace("name: Đài truyền thanh xã Mẫu", "name: no\n  aliases: [029, 5:00, 'null']")
    station = load(write(tmp_path, text))
    assert station.device.name == "no"
    assert station.device.aliases == ["029", "5:00", "null"]


def test_a_byte_order_mark_and_windows_lines_do_no_harm(tmp_path: Path) -> None:
    assert isinstance(load(write(tmp_path, b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())), Station)


def test_missing_and_open_secrets_are_warnings_that_do_not_stop_the_station(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace("trust:\n", "trust:\n  station_key: key.jwk\n  station_authority: xa-mau\n"))
    (tmp_path / "key.jwk").write_text("{}")
    os.chmod(tmp_path / "key.jwk", 0o644)
    station, problems = examine(path)
    assert station == load(path)
    assert {p.path: p.line for p in problems} == {"trust.root_keys": 8, "trust.authorities": 9, "trust.station_key": 6}
    assert {p.level for p in problems} == {"warning"}
    assert "chmod 600" in str(next(p for p in problems if p.path == "trust.station_key").remedy)


def test_loading_does_not_pull_in_the_commands() -> None:
    script = (
        "import sys, zoneinfo; own = set(sys.modules);"  # zoneinfo imports threading from Python 3.13 on
        "from agent.model.loader import load; load(sys.argv[1]); more = set(sys.modules) - own;"
        "print([m for m in ('click','rich','gettext','difflib','socket','threading','subprocess') if m in more])"
    )
    done = subprocess.run([sys.executable, "-c", script, str(EXAMPLES[0])], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
