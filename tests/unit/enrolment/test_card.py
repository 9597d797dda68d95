"""What a technician's card brings: all of it good, or nothing of it is taken."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path

import pytest
import yaml

from agent.enrolment.card import TAKEN, Taken, take
from agent.enrolment.files import Files
from agent.enrolment.identity import public_jwk
from agent.model.loader import ConfigError, load
from agent.model.orders import Class
from agent.trust.authorities import AuthorityEntry
from province.device import prepare
from province.pki import Pki
from province.store import Province, Settings
from tests.unit.enrolment.world import Cut, PowerCut

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "config" / "commune-station.yaml"
DATA, RUN = Path("/var/lib/tram"), Path("/run/tram")


class Device:
    """`/etc/tram` and `/var/lib/tram` in a folder, and a card that the province prepared."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.etc, self.data = folder / "etc", folder / "data"
        self.etc.mkdir()
        (self.data / "identity").mkdir(parents=True)
        monkeypatch.setattr("province.device.IDENTITY", str(self.data / "identity"))
        there = Province.create(
            folder / "province",
            [AuthorityEntry("tinh", "province", 50, [], "*", Class.EMERGENCY, ["84"], "*")],
            settings=Settings(name="Tỉnh"),
        )
        Pki.create(there.dir / "pki")
        self.card = prepare(there, "xa-mau", EXAMPLE, folder / "card", url="https://h:8884", code="AAAAA-BBBBB")
        self.edit(data_dir=str(self.data))

    def edit(self, **members: object) -> None:
        config = yaml.safe_load((self.card / "station.yaml").read_text("utf-8"))
        for name, value in members.items():
            group, _, member = name.partition("__")
            if member:
                config[group][member] = value
            else:
                config[group] = value
        (self.card / "station.yaml").write_text(yaml.safe_dump(config, allow_unicode=True), "utf-8")

    def take(self, files: Files | None = None) -> Taken:
        return take(self.card, self.etc, self.data, RUN, files)

    def refused(self) -> str:
        before = {p: p.read_bytes() for p in self.etc.rglob("*") if p.is_file()}
        with pytest.raises(ConfigError) as caught:
            self.take()
        assert {p: p.read_bytes() for p in self.etc.rglob("*") if p.is_file()} == before
        assert not (self.data / "identity" / "code").exists()
        assert (self.card / "station.yaml").is_symlink() or (self.card / "station.yaml").exists()
        return str(caught.value)


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    return Device(tmp_path, monkeypatch)


def test_a_card_becomes_the_configuration_and_its_code_is_taken_off(device: Device) -> None:
    assert device.take() == Taken(station=True, code=True)
    station = load(device.etc / "station.yaml")
    assert station.device.id == "xa-mau"
    assert station.mqtt is not None
    for file in (station.mqtt.ca, station.trust.root_keys, station.trust.authorities):
        assert Path(file).is_relative_to(device.etc)
        assert Path(file).stat().st_size > 100
    assert (device.data / "identity" / "code").read_text() == "AAAAA-BBBBB\n"
    assert station.trust.station_key is not None
    assert public_jwk(Path(station.trust.station_key).read_bytes()) is not None
    assert not (device.card / "code.txt").exists()
    assert (device.card / TAKEN).exists()
    assert device.take() == Taken()


def test_a_code_alone_is_enough_for_a_second_try(device: Device) -> None:
    device.take()
    (device.card / "code.txt").write_text("ccccc ddddd\r\n")
    assert device.take() == Taken(code=True)
    assert (device.data / "identity" / "code").read_text() == "ccccc ddddd\n"


def test_no_folder_on_the_card_is_nothing_to_do(device: Device) -> None:
    shutil.rmtree(device.card)
    assert device.take() == Taken()


@pytest.mark.parametrize("how", ["before", "torn", "after"])
def test_a_power_cut_at_any_operation_is_made_good_at_the_next_start(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in itertools.count():
        folder = tmp_path / str(at)
        folder.mkdir()
        device = Device(folder, monkeypatch)
        try:
            device.take(Cut(at, how))
        except PowerCut:
            device.take()
        else:
            assert at >= 6, "every operation was cut"
            return
        assert load(device.etc / "station.yaml").device.id == "xa-mau"
        assert (device.data / "identity" / "code").read_text() == "AAAAA-BBBBB\n"
        assert not (device.card / "code.txt").exists()


def test_a_card_that_cannot_be_written_to_is_told_and_harms_nothing(device: Device) -> None:
    class ReadOnly(Files):
        def remove(self, path: Path) -> None:
            if path.is_relative_to(device.card):
                raise OSError(30, "Read-only file system")
            super().remove(path)

    taken = device.take(ReadOnly())
    assert taken == Taken(station=True, code=True, left="Read-only file system")
    assert (device.etc / "station.yaml").exists()
    (device.data / "identity" / "code").unlink()  # it was used
    device.take(ReadOnly())
    assert not (device.data / "identity" / "code").exists(), "a code that stays on the card is taken once"


BOMB = b"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty", b""),
        ("not UTF-8", b"\xff\xfe\x00device"),
        ("not YAML", b"device: [\n"),
        ("a bomb", BOMB),
        ("a tag", b"device: !!python/object/apply:os.system ['touch /tmp/owned']\n"),
        ("deep", b"a: " + b"[" * 10_000),
        ("zeros, as a torn FAT has them", b"\0" * 4096),
        ("huge", b"#" * (1024 * 1024 + 1)),
        ("cut in the middle", b"device:\n  id: xa-mau\n  na"),
    ],
)
def test_a_damaged_or_hostile_configuration_is_refused_whole(name: str, content: bytes, device: Device) -> None:
    (device.card / "station.yaml").write_bytes(content)
    assert device.refused()


def test_a_link_or_device_in_place_of_a_file_is_not_followed(device: Device, tmp_path: Path) -> None:
    secret = tmp_path / "shadow"
    secret.write_text("root:hash")
    for name in ("station.yaml", "code.txt", "pki/ca.crt", "trust/roots.json"):
        place = device.card / name
        kept = place.read_bytes()
        place.unlink()
        place.symlink_to(secret)
        assert name.rpartition("/")[2] in device.refused()
        place.unlink()
        os.mkfifo(place)
        assert "not a plain file" in device.refused()
        place.unlink()
        place.write_bytes(kept)
    shutil.move(device.card / "pki", tmp_path / "pki")
    (device.card / "pki").symlink_to(tmp_path / "pki")
    assert "ca.crt" in device.refused()


@pytest.mark.parametrize(
    ("member", "value", "said"),
    [
        ("mqtt__ca", "/etc/ssl/certs/ca-certificates.crt", "its own folder"),
        ("mqtt__ca", "../../boot/ca.crt", "its own folder"),
        ("mqtt__ca", "a/b/c/ca.crt", "its own folder"),
        ("mqtt__key", "pki/device.key", "makes this file itself"),
        ("mqtt__cert", "/var/lib/tram/tram.db", "makes this file itself"),
        ("trust__station_key", "/etc/tram/station.yaml", "makes this file itself"),
        ("data_dir", "/etc", "fixed place"),
        ("run_dir", "/tmp", "fixed place"),
    ],
)
def test_a_configuration_that_reaches_elsewhere_is_refused(member: str, value: str, said: str, device: Device) -> None:
    device.edit(**{member: value})
    assert said in device.refused()


@pytest.mark.parametrize("name", ["pki/ca.crt", "trust/roots.json", "trust/authorities.json"])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"\0" * 100])
def test_a_file_that_is_missing_or_damaged_refuses_the_card(name: str, content: bytes | None, device: Device) -> None:
    (device.card / name).unlink()
    if content is not None:
        (device.card / name).write_bytes(content)
    assert device.refused()


def test_a_bad_card_leaves_the_former_configuration(device: Device) -> None:
    device.take()
    (device.card / "station.yaml").write_bytes(b"device: 5\n")
    with pytest.raises(ConfigError):
        device.take()
    assert load(device.etc / "station.yaml").device.id == "xa-mau"
