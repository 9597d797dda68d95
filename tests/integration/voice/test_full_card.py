"""A card that is really full: a small file system of its own holds the station's data, and nothing more goes onto it.

It is mounted in a mount namespace of the agent's own; where that is not permitted these tests are skipped.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.voice.process import write_wav
from tests.integration.voice.test_outlives import Station, settle

ROOM = "6m"


def possible() -> str | None:
    """Why not, if no file system can be mounted here."""
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        return "needs unshare and nsenter (util-linux)"
    tried = subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, text=True, check=False
    )
    return None if tried.returncode == 0 else tried.stderr.strip()


pytestmark = pytest.mark.skipif(possible() is not None, reason=f"no file system of one's own: {possible()}")


class SmallCard(Station):
    """The station with its data on a file system of a few megabytes."""

    def command(self) -> list[str]:
        data, kept = self.folder / "data", self.folder / "kept"
        if not kept.exists():
            data.rename(kept)
            data.mkdir()
        mount = f"mount -t tmpfs -o size={ROOM} tmpfs {data} && cp -a {kept}/. {data}/ && exec "
        return ["unshare", "-m", "sh", "-c", mount + '"$@"', "sh", *super().command()]

    def inside(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run where the agent sees its card."""
        return subprocess.run(
            ["nsenter", "-t", str(self.agent.pid), "-m", *command], capture_output=True, text=True, check=False
        )

    def fill(self) -> None:
        """Until not a byte goes onto it."""
        data = self.folder / "data"
        self.inside("sh", "-c", f"cat /dev/zero > {data}/fill; dd if=/dev/zero of={data}/fill2 bs=1 2>/dev/null")
        assert self.inside("sh", "-c", f"echo x > {data}/more").returncode != 0

    def make_room(self) -> None:
        data = self.folder / "data"
        assert self.inside("sh", "-c", f"rm -f {data}/fill {data}/fill2 {data}/more").returncode == 0

    def tram(self, *words: str) -> subprocess.CompletedProcess[str]:
        config = ["--config", str(self.folder / "station.yaml")]
        return self.inside(sys.executable, "-m", "agent", "--lang", "en", *words, *config)

    def record(self, sound: Path) -> subprocess.CompletedProcess[str]:
        return self.tram("record", "fire", "--file", str(sound))

    def on_card(self, path: str) -> str:
        return self.inside("sha256sum", str(self.folder / "data" / path)).stdout.split()[0]

    def logged(self) -> list[str]:
        """What became of the presses, by the play log."""
        told = self.tram("log", "--format", "json")
        return [entry["result"] for entry in json.loads(told.stdout)["entries"]]


@pytest.fixture
def station(tmp_path: Path) -> Iterator[SmallCard]:
    settle(tmp_path)
    made = SmallCard(tmp_path)
    made.run()
    yield made
    made.finish()


def test_a_button_sounds_when_the_card_is_full_and_the_log_has_it_once_there_is_room(station: SmallCard) -> None:
    station.fill()
    station.sounds()
    station.sounds()
    station.make_room()
    station.until(lambda: station.logged() == ["completed"] * 2, "the presses never came into the play log")


def test_it_sounds_right_after_power_on_with_a_full_card(station: SmallCard) -> None:
    station.fill()
    holder = subprocess.Popen(["nsenter", "-t", str(station.agent.pid), "-m", "sleep", "600"])
    try:
        mine = [Path(f"/proc/{pid}/ns/mnt") for pid in (station.agent.pid, holder.pid)]
        station.until(lambda: mine[0].readlink() == mine[1].readlink(), "nobody holds the card")
        station.power_off()
        station.run(["nsenter", "-t", str(holder.pid), "-m", *Station.command(station)])
        station.sounds()
    finally:
        holder.kill()
        holder.wait()


def test_a_recording_that_finds_no_room_says_what_to_do_and_the_former_one_is_heard(
    station: SmallCard, tmp_path: Path
) -> None:
    sound = tmp_path / "new.wav"
    write_wav(sound, [100] * 96_000)
    before = [station.on_card(f"{place}/fire.wav") for place in ("messages", "pinned")]
    station.fill()
    refused = station.record(sound)
    assert refused.returncode == 1
    assert "card is full" in refused.stderr
    assert "record again" in refused.stderr
    assert [station.on_card(f"{place}/fire.wav") for place in ("messages", "pinned")] == before
    assert station.inside("ls", "-A", str(tmp_path / "data" / "messages")).stdout.split() == ["fire.wav"]
    station.sounds()
    station.make_room()
    done = station.record(sound)
    assert done.returncode == 0, done.stderr
    station.until(lambda: station.on_card("pinned/fire.wav") != before[1], "voice was never given the new recording")
