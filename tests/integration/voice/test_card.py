"""`tram demo --card`: what goes into the recording also goes to the machine's card, which is ALSA's `file` plugin here.

The plugin takes sound faster than it plays: which samples arrive is looked at, not when.
"""

from __future__ import annotations

import json
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from province.demo.stage import Stage

pytestmark = [pytest.mark.alsa, pytest.mark.broker, pytest.mark.xdist_group("card")]

RATE = 48_000
HEADER = 44
PATIENCE_S = 90.0
THERE = 'pcm.!default {{ type file slave.pcm "null" file "{folder}/card.raw" format "raw" }}\n'
GONE = "pcm.!default { type hw card 31 }\n"


def until(look: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < end, f"{what}: not within {PATIENCE_S:.0f} s"
        time.sleep(0.1)
    return found


class Carded:
    """A training station whose sound card is this folder's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "asound.conf"
        self.stage = Stage(folder / "out", card=True)

    def plug(self, there: bool) -> None:
        self.config.write_text(THERE.format(folder=self.folder) if there else GONE)

    def faults(self) -> list[dict[str, str]]:
        status: dict[str, Any] = self.stage.ask("status")["result"]
        return [f for f in status["faults"] if "default" in f["detail"]]

    def play(self, hertz: float) -> dict[str, Any]:
        """Play a tone in the first zone; its log entry."""
        from agent.store.library import adopt

        path = self.folder / f"{hertz:.0f}.wav"
        sound = np.round(8000 * np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE)).astype("<i2")
        with wave.open(str(path), "wb") as out:
            out.setparams((1, 2, RATE, 0, "NONE", ""))
            out.writeframes(sound.tobytes())
        media = adopt(Path(self.stage.config.data_dir) / "content", path, "audio/wav")
        args = {"media": {"sha256": media.sha256, "size": media.size, "url": media.url, "type": media.type}}
        before = self.entries()
        answer = self.stage.ask("play", **args, zone=self.stage.config.zones[0].id, title="Thử loa")
        assert answer["ok"], answer
        return until(lambda: [e for e in self.entries() if e not in before], "its log entry")[0]  # type: ignore[no-any-return]

    def entries(self) -> list[dict[str, Any]]:
        events = self.stage.watcher.export()["events"]
        return [row["body"]["entry"] for row in events if row["body"]["kind"] == "log"]

    def recorded(self, entry: dict[str, Any]) -> bytes:
        """The middle tenth of a second of an entry, from the recording."""
        from datetime import datetime

        told = json.loads((self.folder / "out" / "station.json").read_text())
        middle = (
            datetime.fromisoformat(entry["started"]).timestamp() + datetime.fromisoformat(entry["ended"]).timestamp()
        ) / 2
        with (self.folder / "out" / "station.wav").open("rb") as file:
            file.seek(HEADER + 2 * round((middle - told["t0"]) * RATE))
            return file.read(2 * RATE // 10)

    def card(self) -> bytes:
        raw = self.folder / "card.raw"
        return raw.read_bytes() if raw.exists() else b""


@pytest.fixture
def carded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Carded]:
    """Up, with the card plugged or not."""
    made = Carded(tmp_path)
    made.plug(request.param)
    monkeypatch.setenv("ALSA_CONFIG_PATH", f"/usr/share/alsa/alsa.conf:{made.config}")
    with made.stage:
        made.stage.wait_ready(PATIENCE_S)
        yield made


@pytest.mark.parametrize("carded", [True], indirect=True, ids=["plugged"])
def test_the_card_gets_the_same_samples_as_the_recording(carded: Carded) -> None:
    entry = carded.play(1000)
    assert entry["result"] == "completed"
    heard = carded.recorded(entry)
    assert np.abs(np.frombuffer(heard, "<i2")).max() > 5000
    until(lambda: heard in carded.card(), "the same samples on the card")
    assert carded.faults() == []


@pytest.mark.parametrize("carded", [False], indirect=True, ids=["missing"])
def test_a_card_that_is_missing_is_a_fault_and_the_programme_goes_on_in_the_recording(carded: Carded) -> None:
    (fault,) = until(carded.faults, "the fault")
    assert fault["what"] == "voice-sink@default"
    entry = carded.play(1000)
    assert entry["result"] == "completed"
    assert np.abs(np.frombuffer(carded.recorded(entry), "<i2")).max() > 5000
    assert entry["level_dbfs"] is not None
    alarms = [row["body"] for row in carded.stage.watcher.export()["events"] if row["body"]["kind"] == "alarm"]
    assert any(a["what"] == "voice-sink" and a["on"] for a in alarms), "the province knows"
    assert carded.card() == b""
    carded.plug(True)
    until(lambda: carded.recorded(carded.play(1500)) in carded.card(), "a card that was plugged in gets what is played")
    until(lambda: not carded.faults(), "and is no fault any more")
