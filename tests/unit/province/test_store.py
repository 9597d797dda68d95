"""The province's folder."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from base64 import urlsafe_b64decode
from pathlib import Path
from typing import Any

import pytest

from agent.model.orders import Class
from agent.trust.authorities import AuthorityEntry
from province.store import Province, ProvinceError, Settings, Signed

NOW = 1_780_000_000.0


def entry(name: str, rank: int = 10) -> AuthorityEntry:
    return AuthorityEntry(name, "province", rank, [], "*", Class.EMERGENCY, ["86"], "*")


@pytest.fixture
def province(tmp_path: Path) -> Province:
    return Province.create(
        tmp_path / "p", [entry("tinh", 50), entry("xa-mau")], settings=Settings(name="Tỉnh"), now=NOW
    )


def claims(signed: Signed) -> dict[str, Any]:
    body = signed.jws.split(".")[1]
    found: dict[str, Any] = json.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return found


def test_a_device_believes_the_new_provinces_document(province: Province) -> None:
    trusted = province.trusted()
    assert set(trusted.authorities) == {"tinh", "xa-mau"}
    assert (trusted.threshold, len(trusted.roots), trusted.version) == (2, 3, 1)


def test_private_keys_are_for_the_owners_eyes(province: Province) -> None:
    keys = sorted((province.dir / "keys").glob("*.jwk"))
    assert [k.stem for k in keys] == ["root-1", "root-2", "root-3", "tinh", "xa-mau"]
    assert {k.stat().st_mode & 0o777 for k in keys} == {0o600}
    keys[3].chmod(0o644)
    with pytest.raises(ProvinceError, match="chmod 600"):
        province.key("tinh")


def test_keys_are_never_overwritten(province: Province) -> None:
    with pytest.raises(ProvinceError, match="never overwritten"):
        Province.create(province.dir, [entry("tinh")], settings=Settings(name="x"))


@pytest.mark.parametrize(("roots", "threshold"), [(1, 2), (3, 0), (65, 2)])
def test_an_impossible_threshold_is_refused(tmp_path: Path, roots: int, threshold: int) -> None:
    with pytest.raises(ProvinceError, match="threshold"):
        Province.create(tmp_path, [entry("tinh")], settings=Settings(name="x"), roots=roots, threshold=threshold)


def test_commands_are_counted_per_key_and_state_orders_are_not(province: Province) -> None:
    made = [province.sign("tinh", "reboot", {}, ["xa-mau-1"], now=NOW) for _ in range(3)]
    other = province.sign("xa-mau", "reboot", {}, ["xa-mau-1"], now=NOW)
    state = province.sign("tinh", "silence", {"on": True, "zones": ["*"]}, ["group:all"], now=NOW)
    assert [claims(s)["ctr"] for s in made] == [1, 2, 3]
    assert claims(other)["ctr"] == 1
    assert "ctr" not in claims(state)
    assert "exp" not in claims(state)
    assert claims(state)["args"] == {"on": True, "zones": ["*"], "scope": "group:all", "version": 1}
    assert claims(made[0])["exp"] == NOW + 3600


def test_versions_rise_per_scope_and_op(province: Province) -> None:
    found = [
        province.next_version("tinh", *rest)
        for rest in (("a", "silence"), ("a", "silence"), ("b", "silence"), ("a", "schedule"))
    ]
    assert found == [1, 2, 1, 1]
    assert Province(province.dir).next_version("tinh", "a", "silence") == 3


def test_a_counter_is_used_up_before_the_order_exists(province: Province, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_args: object, **_kwargs: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("province.store.Signer.order", crash)
        with pytest.raises(KeyboardInterrupt):
            province.sign("tinh", "reboot", {}, ["d-1"])
    assert claims(province.sign("tinh", "reboot", {}, ["d-1"]))["ctr"] == 2


def test_processes_that_sign_at_once_never_share_a_counter(province: Province) -> None:
    code = (
        "import sys; from pathlib import Path; from province.store import Province\n"
        "p = Province(Path(sys.argv[1]))\nfor _ in range(25): print(p.next_ctr('k'))"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(province.dir)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    numbers = [int(n) for process in running for n in process.communicate()[0].split()]
    assert sorted(numbers) == list(range(1, 76))


def test_a_damaged_counter_stops_signing_instead_of_starting_anew(province: Province) -> None:
    province.next_ctr("k")
    (province.dir / "counters" / "k").write_text("x")
    with pytest.raises(ProvinceError, match="higher than any"):
        province.next_ctr("k")
    (province.dir / "versions.json").write_text("[")
    with pytest.raises(ProvinceError, match="damaged"):
        province.next_version("tinh", "a", "silence")


def test_a_key_that_is_not_here_is_named_with_those_that_are(province: Province) -> None:
    with pytest.raises(ProvinceError, match="tinh, xa-mau"):
        province.sign("la", "reboot", {}, ["d-1"])


def test_media_are_named_by_their_hash(province: Province, tmp_path: Path) -> None:
    (tmp_path / "Bản tin.WAV").write_bytes(b"RIFF" + bytes(100))
    media = province.media(tmp_path / "Bản tin.WAV")
    assert media.sha256 == hashlib.sha256(b"RIFF" + bytes(100)).hexdigest()
    assert media.url == f"https://127.0.0.1/media/{media.sha256}.wav"
    assert (media.size, media.type, media.duration_s) == (104, "audio/wav", None)
    assert [p.name for p in province.media_dir.iterdir()] == [f"{media.sha256}.wav"]


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffprobe is not installed")
def test_the_duration_of_a_recording_is_told(province: Province, tmp_path: Path) -> None:
    import wave

    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(8000 * 2))
    assert province.media(tmp_path / "a.wav").duration_s == 1.0


@pytest.mark.parametrize("content", [None, b""])
def test_a_file_that_is_missing_or_empty_is_refused(province: Province, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.mp3").write_bytes(content)
    with pytest.raises(ProvinceError, match=r"a\.mp3"):
        province.media(tmp_path / "a.mp3")
    assert list(province.media_dir.iterdir()) == []


def test_a_training_stations_folder_is_a_province(tmp_path: Path, province: Province) -> None:
    shutil.copytree(province.dir / "keys", tmp_path / "keys")
    connection = {
        "broker": {"host": "127.0.0.1", "port": 12345},
        "ca": "pki/ca.crt",
        "authorities": {"tinh": {"id": "tinh", "level": "province", "rank": 50, "key": "keys/tinh.jwk"}},
        "root_threshold": 2,
        "devices": [{"id": "xa-mau-1", "unit": "86", "aliases": [], "groups": [], "zones": []}],
        "media": {"dir": str(tmp_path / "m"), "url": "https://x/m"},
    }
    (tmp_path / "connection.json").write_text(json.dumps(connection))
    training = Province(tmp_path)
    assert (training.settings.broker.port, training.settings.devices) == (12345, ["xa-mau-1"])
    assert training.sign("tinh", "reboot", {}, ["xa-mau-1"]).iss == "tinh"
    (tmp_path / "connection.json").write_text("{}")
    with pytest.raises(ProvinceError, match=r"connection\.json"):
        Province(tmp_path)


def test_an_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ProvinceError, match="init"):
        Province(tmp_path)


@pytest.mark.parametrize("text", ["{", "name: 1", "name: x\nnamme: y", "- a"])
def test_damaged_settings_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "province.yaml").write_text(text)
    with pytest.raises(ProvinceError, match=r"province\.yaml"):
        Province(tmp_path)
