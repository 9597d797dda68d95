"""What the province prepares for a device's card."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from agent.enrolment.card import take
from agent.model.loader import load
from agent.trust.authorities import Trusted
from agent.trust.keys import generate
from province.enrolment import Register
from province.pki import Pki
from province.store import Province, ProvinceError

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "config").glob("*.yaml"))


@pytest.fixture
def there(tmp_path: Path) -> Path:
    folder = tmp_path / "tinh"
    run("init", "--unit", "84", "--commune", "xa-mau=84/xa-mau", "--device", "xa-cu", folder=folder)
    return folder


def run(*arguments: str, folder: Path, code: int = 0) -> str:
    from agent.cli.main import tram

    done = CliRunner().invoke(tram, ["province", "--dir", str(folder), *arguments])
    assert done.exit_code == code, done.output
    return done.output


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.stem)
def test_every_example_can_be_what_a_card_is_made_like(example: Path, there: Path, tmp_path: Path) -> None:
    more = ["--lan", "tram.lan"] if "\ncluster_link" in example.read_text("utf-8") else []
    place = ["--out", str(tmp_path / "card"), "--url", "https://h:1"]
    run("device", "xa-moi", "--like", str(example), *place, *more, folder=there)
    card = tmp_path / "card" / "tram"
    station = load(card / "station.yaml")
    assert station.device.id == "xa-moi"
    assert station.mqtt is not None
    assert station.mqtt.key == "/var/lib/tram/identity/device.key"
    assert station.enrolment is not None
    assert (card / "code.txt").stat().st_mode & 0o077 == 0
    secrets = [p.name for p in card.rglob("*") if p.suffix in {".key", ".jwk"}]
    assert secrets == (["lan.key"] if more else []), "no secret but the code, and what clusters need to know it by"
    data = tmp_path / "data"
    (data / "identity").mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    text = (card / "station.yaml").read_text("utf-8").replace("/var/lib/tram", str(data))
    (card / "station.yaml").write_text(f"{text}data_dir: {data}\n", "utf-8")
    assert take(card, tmp_path / "etc", data, Path("/run/tram")).station
    assert load(tmp_path / "etc" / "station.yaml").device.id == "xa-moi"
    assert not [p for p in card.rglob("*") if p.suffix == ".key" or p.name == "code.txt"], "secrets are off the card"


def test_a_station_with_clusters_needs_a_name_in_their_network(there: Path, tmp_path: Path) -> None:
    like = str(ROOT / "config" / "wired-station.yaml")
    said = run("device", "xa-moi", "--like", like, "--out", str(tmp_path), "--url", "https://h:1", folder=there, code=1)
    assert "--lan" in said


def test_a_prepared_device_belongs_to_the_province_and_its_code_is_open(there: Path, tmp_path: Path) -> None:
    like = str(EXAMPLES[0])
    run("device", "xa-moi", "--like", like, "--out", str(tmp_path), "--url", "https://h:1", folder=there)
    assert Province(there).settings.devices == ["xa-cu", "xa-moi"]
    assert json.loads(run("devices", "--json", folder=there))[0]["code"] == "open"
    assert "xa-moi" in run("devices", folder=there)
    assert "0 " in run("revoke", "xa-moi", folder=there)
    assert json.loads(run("devices", "--json", folder=there)) == [], "its code is void"


@pytest.mark.parametrize("name", ["publisher", "watcher", "ca", "enrol", "A", "x" * 41, "xã"])
def test_a_name_that_means_something_else_is_no_device(name: str, there: Path, tmp_path: Path) -> None:
    like = str(EXAMPLES[0])
    said = run("device", name, "--like", like, "--out", str(tmp_path), "--url", "https://h:1", folder=there, code=1)
    assert name in said


@pytest.mark.parametrize("content", ["", "5", "device: 7", "zones: [", "device: {id: a}\nzones: []\n"])
def test_a_template_that_is_no_configuration_is_told(content: str, there: Path, tmp_path: Path) -> None:
    like = tmp_path / "like.yaml"
    like.write_text(content)
    run("device", "xa-moi", "--like", str(like), "--out", str(tmp_path), "--url", "https://h:1", folder=there, code=1)


def test_admit_replaces_a_stations_earlier_keys_and_prints_an_order(there: Path) -> None:
    keys = [dict(generate().public.jwk) for _ in range(2)]
    register = Register(there, Pki(there / "pki"))
    for at, key in enumerate(keys):
        register._db.execute("INSERT INTO stations VALUES ('xa-mau', ?, ?)", (json.dumps(key), at))
    register.close()
    first = Province(there).trusted()
    Province(there).admit("xa-mau", keys[0])
    printed = run("admit", "xa-mau", "--as", "xa-mau", folder=there).splitlines()[-1]
    order = yaml.safe_load(printed)
    now = first.advance(order["documents"])
    assert now.version == order["version"] == first.version + 2
    held = {kid for kid, holder in now.holders.items() if holder.authority.id == "xa-mau"}
    from agent.trust.keys import load_public

    assert load_public(keys[1]).kid in held
    assert load_public(keys[0]).kid not in held
    assert isinstance(Province(there).trusted(), Trusted)


def test_admit_says_what_is_missing(there: Path) -> None:
    assert "xa-mau" in run("admit", "xa-mau", "--as", "xa-mau", folder=there, code=1)
    with pytest.raises(ProvinceError, match="no authority"):
        Province(there).admit("nobody", {})
    for root in (there / "keys").glob("root-*.jwk"):
        root.unlink()
    with pytest.raises(ProvinceError, match="root keys must sign"):
        Province(there).admit("xa-mau", dict(generate().public.jwk))
