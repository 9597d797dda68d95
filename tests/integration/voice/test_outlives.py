"""Voice outlives everything: whatever happens to the agent, a pressed button sounds; and voice itself comes back."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.model import voice as v
from agent.model.loader import load
from agent.model.orders import Class
from agent.trust.authorities import AuthorityEntry
from agent.voice.keeper import RETRY_S, VoiceKeeper
from province.store import Endpoint, Province, Settings
from tests.integration.voice.process import CONFIG, WAIT_S, Process, read_wav, write_wav

MESSAGE = [3000 + i % 100 for i in range(9600)]
SLOWER = 4.0
"""A voice that comes back may take so many times as long as a plain start in the same run."""
STATION = CONFIG.replace("trust: {root_keys: roots.json", "trust: {root_keys: root_keys.json")


class Station(Process):
    """The whole station: `tram run`, which starts voice. Presses are heard in the recording."""

    agent: subprocess.Popen[bytes]

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, STATION)

    def command(self) -> list[str]:
        return [sys.executable, "-m", "agent", "run", "--config", str(self.folder / "station.yaml")]

    def run(self, command: list[str] | None = None) -> None:
        """Start it, and wait until voice and agent are there."""
        (self.folder / "agent.log").unlink(missing_ok=True)
        alone = not self.children("agent voice")
        with (self.folder / "agent.log").open("ab") as log:
            self.agent = subprocess.Popen(command or self.command(), stderr=log)
        self.until(lambda: not alone or self.told("ready"), "voice never came")
        self.until((self.folder / "run" / "agent.sock").exists, "the agent never came")

    def power_off(self) -> None:
        """All processes at once."""
        self.agent.kill()
        self.agent.wait(WAIT_S)
        for pid in self.children("agent voice"):
            os.kill(int(pid), signal.SIGKILL)
        self.until(lambda: not self.children("agent voice"), "voice did not die")
        for leftover in (self.folder / "run").glob("*.sock"):
            leftover.unlink()

    def finish(self) -> None:
        self.agent.send_signal(signal.SIGCONT)
        self.agent.kill()
        self.agent.wait(WAIT_S)
        for pid in self.children("agent voice"):
            os.kill(int(pid), signal.SIGTERM)

    def told(self, what: str) -> bool:
        return any(json.loads(s).get("what") == what for s in self.lines() if s.startswith("{"))

    def lines(self) -> list[str]:
        return (self.folder / "agent.log").read_text().splitlines()

    def children(self, name: str) -> list[str]:
        found = []
        for status in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = status.read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if name in words and str(self.folder) in words:
                found.append(status.parent.name)
        return found

    def until(self, true: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 3 * WAIT_S
        while not true():
            assert time.monotonic() < deadline, what + "\n" + "\n".join(self.lines()[-20:])
            time.sleep(0.02)

    def heard(self) -> int:
        """Samples of the message in the recording so far."""
        try:
            hall, _ = read_wav(self.folder / "out" / "station.wav")
        except (OSError, EOFError, ValueError):
            return 0
        return sum(s in range(3000, 3100) for s in hall)

    def sounds(self) -> None:
        """A press is heard to its end."""
        before = self.heard()
        assert self.control(do="press", button="fire", seconds=0.05)["ok"]
        self.until(lambda: self.heard() - before >= len(MESSAGE) - 240, "nothing was heard of the message")


def settle(folder: Path) -> None:
    """What a station has before its first start: papers, and the officer's recording."""
    Province.create(
        folder / "province",
        [AuthorityEntry("tinh", "province", 50, [], "*", Class.EMERGENCY, ["84"], "*")],
        settings=Settings(name="Tỉnh", broker=Endpoint("127.0.0.1", 8883), media_url="https://127.0.0.1/media"),
        roots=1,
        threshold=1,
    )
    for name in ("root_keys.json", "authorities.json"):
        (folder / name).write_bytes((folder / "province" / name).read_bytes())
    write_wav(folder / "data" / "messages" / "fire.wav", MESSAGE)
    write_wav(folder / "data" / "pinned" / "fire.wav", MESSAGE)


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    settle(tmp_path)
    made = Station(tmp_path)
    made.run()
    yield made
    made.finish()


def test_a_button_sounds_while_all_is_well(station: Station) -> None:
    station.sounds()
    assert [line for line in station.lines() if '"level": "error"' in line] == []


def test_a_button_sounds_when_the_agent_was_killed(station: Station) -> None:
    station.agent.kill()
    station.agent.wait(WAIT_S)
    station.sounds()


def test_a_button_sounds_while_the_agent_hangs_again_and_again(station: Station) -> None:
    station.agent.send_signal(signal.SIGSTOP)
    for _ in range(3):
        station.sounds()


def test_a_button_sounds_when_the_agent_has_no_memory_left(station: Station) -> None:
    resource.prlimit(station.agent.pid, resource.RLIMIT_AS, (1 << 20, 1 << 20))
    station.sounds()
    station.sounds()


def test_a_button_sounds_when_the_agent_can_write_nothing(station: Station) -> None:
    """A full card: every write of the agent fails."""
    resource.prlimit(station.agent.pid, resource.RLIMIT_FSIZE, (0, 0))
    station.sounds()
    station.sounds()


def test_a_button_sounds_when_the_card_is_gone(station: Station) -> None:
    """What lay on it cannot be read any more, and nothing can be written there."""
    (station.folder / "data").rename(station.folder / "gone")
    (station.folder / "data").write_text("")
    station.sounds()
    station.agent.kill()
    station.agent.wait(WAIT_S)
    station.sounds()


def test_a_message_that_outlives_its_agent_is_logged_to_its_end_by_the_next_one(tmp_path: Path) -> None:
    settle(tmp_path)
    for place in ("messages", "pinned"):
        write_wav(tmp_path / "data" / place / "fire.wav", MESSAGE * 40)
    station = Station(tmp_path)
    station.run()
    try:
        assert station.control(do="press", button="fire", seconds=0.05)["ok"]
        station.until(lambda: station.heard() > 0, "it never sounded")
        time.sleep(1.0)  # the agent has had time to write it down
        station.agent.kill()
        station.agent.wait(WAIT_S)
        station.run()

        def logged() -> list[dict[str, object]]:
            words = ["log", "--format", "json", "--config", str(tmp_path / "station.yaml")]
            told = subprocess.run([sys.executable, "-m", "agent", *words], capture_output=True, check=False).stdout
            found: list[dict[str, object]] = json.loads(told)["entries"]
            return found

        station.until(lambda: bool(logged()), "it never came into the play log")
        (entry,) = logged()
        assert (entry["result"], entry["reason"]) == ("completed", None)
    finally:
        station.finish()


def test_started_without_its_card_a_button_sounds_the_siren(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")  # neither recordings nor spoken messages
    process = Process(tmp_path)
    process.start()
    process.connect()
    assert process.control(do="press", button="fire", seconds=0.05)["ok"]
    assert process.wait(v.LocalStarted).button == "fire"
    assert process.wait(v.LocalEnded).level_dbfs > -20
    assert "pinned" in {f.what for f in process.seen if isinstance(f, v.Fault)}
    process.end()


def test_a_killed_voice_is_armed_again_as_soon_as_a_plain_start(tmp_path: Path) -> None:
    write_wav(tmp_path / "data" / "pinned" / "fire.wav", MESSAGE)
    process = Process(tmp_path)
    plain = []
    for _ in range(3):
        begun = time.monotonic()
        process.start()
        process.connect()
        plain.append(time.monotonic() - begun)
        process.end()
    keeper = VoiceKeeper(str(tmp_path / "station.yaml"), load(tmp_path / "station.yaml"), process.post)
    keeper.start()
    again = []
    try:
        hello = process.wait(v.Hello)
        for _ in range(3):
            killed = time.monotonic()
            os.kill(hello.pid, signal.SIGKILL)
            hello = process.wait(v.Hello)
            again.append(time.monotonic() - killed - RETRY_S[1])
        assert process.control(do="relays") == {"ok": True, "relays": {"amplifier": False}}
        assert process.control(do="press", button="fire", seconds=0.05)["ok"]
        assert process.wait(v.LocalStarted).button == "fire"
    finally:
        keeper.stop()
    assert min(again) <= SLOWER * min(plain), (again, plain)


def test_pinned_sounds_are_locked_in_memory_where_that_is_allowed(tmp_path: Path) -> None:
    write_wav(tmp_path / "data" / "pinned" / "fire.wav", [100] * 480_000)
    process = Process(tmp_path)
    process.start()
    hello = process.connect()
    ready = [json.loads(s) for s in (tmp_path / "voice.log").read_text().splitlines() if '"ready"' in s]
    try:
        if ready[0]["mlockall"] != "ok":
            pytest.skip(f"this machine locks no memory: {ready[0]['mlockall']}")
        rollup = Path(f"/proc/{hello.pid}/smaps_rollup").read_text()
        locked = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Locked:"))
        assert locked * 1024 > 960_000, "the message alone is larger than what is locked"
    finally:
        process.end()
