"""What the province sees of a station on request: `tram province inspect`, from the order to the files."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from tests.demo.customer import PATIENCE_S, Training

RED = (200, 10, 10)
LARGEST = 100_000
"""More bytes than a small picture may have."""


def inspect(station: Training, out: Path) -> subprocess.CompletedProcess[str]:
    """Run the command. One process at a time signs with a key: it takes our counter over, and gives it back."""
    command = [sys.executable, "-m", "agent", "--lang", "en", "province", "--dir", str(station.out), "inspect"]
    command += [station.id, "--as", station.province.iss, "--out", str(out)]
    counter = station.out / "counters" / station.province.key.kid
    counter.parent.mkdir(exist_ok=True)
    counter.write_text(f"{station.province.ctr}\n", "ascii")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=2 * PATIENCE_S)
    station.province.ctr = int(counter.read_text("ascii"))
    return done


def documents(out: Path) -> list[Any]:
    return [json.loads(path.read_text("utf-8")) for path in sorted(out.glob("*.json"))]


def period() -> dict[str, str]:
    now = datetime.now(UTC)
    return {"from": (now - timedelta(hours=1)).isoformat(), "to": (now + timedelta(hours=1)).isoformat()}


def test_the_province_gets_a_picture_of_what_the_public_sees(station: Training, scratch: Path, tmp_path: Path) -> None:
    from PIL import Image

    picture = scratch / "do.png"
    Image.new("RGB", (400, 300), RED).save(picture)
    sent = station.broadcast(
        station.province, [station.media(picture) | {"dwell_s": 90}], zones=[station.screen_zone], title="Màu đỏ"
    )
    sent.wait("running")
    done = inspect(station, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (document,) = documents(tmp_path)
    assert document["device"] == station.id
    assert document["status"]["zones"].keys() >= {station.sound_zone, station.screen_zone}
    assert isinstance(document["entries"], list)
    (file,) = tmp_path.glob(f"*-{station.screen_zone}.png")
    board = document["boards"][station.screen_zone]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == board["sha256"]
    assert file.stat().st_size < LARGEST
    with Image.open(file) as image:
        assert max(image.size) <= 320
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3).astype(int)
    assert np.mean((abs(pixels - RED) < 30).all(axis=1)) > 0.3, "the picture that is on the board"
    last = station.watcher.all("ack")[-1].body
    assert last["zones"][station.screen_zone]["picture"] == board["sha256"]
    assert not [p for p in station.media_dir.iterdir() if "wanted" in p.name or p.name == last["jti"]]


def test_a_report_by_another_client_arrives_with_the_hash_of_its_ack(station: Training) -> None:
    name = "bao-cao-1.json"
    (station.media_dir / f"{name}.wanted").write_text("1000000")
    args = {"what": "diagnostics", **period(), "upload": f"{station.media_url}/{name}"}
    ack = station.order(station.province, "report", args).done()
    arrived = (station.media_dir / name).read_bytes()
    assert ack["report"] == {"sha256": hashlib.sha256(arrived).hexdigest(), "size": len(arrived)}
    assert b64decode(json.loads(arrived)["boards"][station.screen_zone]["png"]).startswith(b"\x89PNG")


def test_what_must_not_be_reported_is_refused_and_nothing_arrives(station: Training) -> None:
    good = {"what": "health", **period(), "upload": f"{station.media_url}/x.json"}
    for changes, reason in (
        ({"what": "everything"}, "bad-args"),
        ({"upload": "https://elsewhere.example/x.json"}, "content-unavailable"),
        ({"upload": station.media_url.replace("https", "http") + "/x.json"}, "content-unavailable"),
    ):
        ack = station.order(station.province, "report", good | changes).ended()
        assert (ack["state"], ack["reason"]) == ("rejected", reason), changes
    assert not (station.media_dir / "x.json").exists()


def test_a_server_that_does_not_want_it_is_told_and_the_station_goes_on(station: Training) -> None:
    args = {"what": "health", **period(), "upload": f"{station.media_url}/nobody-wants-it.json"}
    ack = station.order(station.province, "report", args).ended()
    assert (ack["state"], ack["reason"]) == ("failed", "content-unavailable")
    assert "403" in ack["detail"]
    assert station.status()["zones"]
