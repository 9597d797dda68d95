"""Issue 2: power fails in each state that the station keeps on its disk, and it goes on right at boot.

A case is named by the state in which agent and voice are killed together; a state without a case fails
`tests/unit/kills`. What is kept in files is cut at each of its steps in `tests/integration/kills`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.demo.conftest import QUIET
from tests.demo.customer import Authority, Bulletin, Key, Training, epoch, error_of, general, number, rfc3339, until
from tests.demo.test_2_programmes import scale, schedule, silence, steps, tones

__all__ = ["scale", "tones"]

pytestmark = [pytest.mark.demo, pytest.mark.xdist_group("station-failures")]

TEXT = [{"text": "Thử", "lang": "vi"}]
DAY_S = 86_400


class Power:
    """The power of a training station, and what lies on its disk."""

    def __init__(self, station: Training, scale: Path, tones: Any) -> None:
        self.station = station
        self._scale, self._tones = scale, tones
        self.data = Path(yaml.safe_load(station.config.read_text("utf-8"))["data_dir"])

    def scale(self) -> dict[str, Any]:
        return self.station.media(self._scale)

    def tone(self, seconds: float = 0.4) -> dict[str, Any]:
        return self.station.media(self._tones(4000, seconds))

    def cut(self) -> None:
        """Both processes die at once; then the power is back."""
        station = self.station
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(lambda: not self._pids(), "the end of both processes")
        since = len(station.watcher.messages)
        station.control("restart", what="agent", kill=True)
        online = f"{station.base}/state"
        station.watcher.wait(lambda m: m.topic == online and m.body["online"], "online again", since=since)
        until(lambda: station.status().get("voice"), "voice and agent together")

    def _pids(self) -> list[int]:
        """The station's own processes: those that were started with its configuration."""
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with contextlib.suppress(OSError):
                    words = (folder / "cmdline").read_bytes().split(b"\0")
                    ours = str(self.station.config).encode() in words
                    if ours and (b"run" in words or b"voice" in words):
                        found.append(int(folder.name))
        return found

    def rows(self, query: str, *values: Any) -> list[Any]:
        with contextlib.closing(sqlite3.connect(f"file:{self.data / 'tram.db'}?mode=ro", uri=True)) as db:
            return db.execute(query, values).fetchall()

    def programme(self, sent: Bulletin) -> dict[str, Any] | None:
        """A bulletin as it lies on the disk."""
        rows = self.rows("SELECT doc FROM programmes WHERE key = ?", f"{sent.authority.iss}/{sent.id}")
        return json.loads(rows[0][0]) if rows else None

    def reaches(self, sent: Bulletin, state: str) -> None:
        """Wait until the disk has a programme in that state."""
        until(lambda: (self.programme(sent) or {}).get("state") == state, f"{state} on the disk")

    def stage(self, sent: Bulletin, stage: str, zone: str | None = None) -> dict[str, Any]:
        """Wait until the disk has the programme's part at that stage; the part."""

        def part() -> dict[str, Any] | None:
            doc = self.programme(sent)
            found: dict[str, Any] | None = doc["parts"][zone or self.station.sound_zone] if doc else None
            return found if found and found["stage"] == stage else None

        found: dict[str, Any] = until(part, f"{stage} on the disk")
        return found

    def remembered(self, sent: Bulletin) -> None:
        """The order comes again: its recorded ack is all that comes of it."""
        station, last = self.station, sent.acks()[-1]
        entries = len(sent.entries())
        since = station.publish(sent.raw)
        assert station.wait_ack(sent.jti, lambda _: True, "the recorded ack", since=since) == last
        station.order(station.province, "cancel", {"ids": ["x"]}).done()
        assert self.programme(sent) is None
        assert len(sent.entries()) == entries


@pytest.fixture
def power(station: Training, scale: Path, tones: Any) -> Power:
    return Power(station, scale, tones)


CASES: dict[str, Callable[[Power], None]] = {}


def at(name: str) -> Callable[[Callable[[Power], None]], Callable[[Power], None]]:
    """The case of the state of that name."""

    def note(case: Callable[[Power], None]) -> Callable[[Power], None]:
        assert name not in CASES, name
        CASES[name] = case
        return case

    return note


# a programme as a whole


@at("programme-offered")
def _offered(power: Power) -> None:
    station = power.station
    sent = station.broadcast(station.province, [power.tone()], class_="normal")
    power.reaches(sent, "offered")
    power.cut()
    assert sent.id in station.tram("inbox").stdout
    assert station.tram("accept", sent.id).returncode == 0
    sent.done()


@at("programme-accepted")
def _accepted(power: Power) -> None:
    station = power.station
    start = time.time() + 12
    sent = station.broadcast(station.province, [power.tone()], start=rfc3339(start))
    power.reaches(sent, "accepted")
    power.cut()
    sent.done()
    (entry,) = sent.entries()
    error_of(entry, start)


@at("programme-running")
def _running(power: Power) -> None:
    station = power.station
    sent = station.broadcast(station.province, [power.scale()], resume="continue")
    power.reaches(sent, "running")
    power.cut()
    sent.done()
    first, second = sent.entries(count=2)
    assert (first["result"], first["reason"], second["result"]) == ("interrupted", "power", "completed")
    assert steps(station, second) == list(range(12)), "nobody knows how far it came: from the last saved position"


@at("programme-done")
def _done(power: Power) -> None:
    sent = power.station.broadcast(power.station.province, [power.tone()])
    sent.done()
    power.cut()
    power.remembered(sent)


@at("programme-failed")
def _failed(power: Power) -> None:
    station = power.station
    sent = station.broadcast(station.province, TEXT, start=rfc3339(time.time() + 3600))
    sent.wait("accepted")
    station.order(station.province, "cancel", {"ids": [sent.id]}).done()
    assert sent.ended()["state"] == "failed"
    power.cut()
    power.remembered(sent)


@at("programme-rejected")
def _rejected(power: Power) -> None:
    station = power.station
    sent = station.broadcast(station.province, TEXT, class_="normal")
    sent.wait("offered")
    assert station.tram("decline", sent.id).returncode == 0
    assert sent.ended()["state"] == "rejected"
    power.cut()
    power.remembered(sent)


# its part in one zone


@at("part-waiting")
def _waiting(power: Power) -> None:
    station = power.station
    loud = power.tone(6.0)
    station.have(loud)
    long = station.broadcast(station.commune, [power.scale()], resume="continue")
    began = long.running()
    until(lambda: time.time() > began + 1.0, "a second of it")
    alarm = station.broadcast(station.province, [loud], class_="emergency")
    assert power.stage(long, "waiting")["position"]["samples"] > 0
    power.stage(alarm, "playing")
    power.cut()
    alarm.done()
    long.done()
    first, second = long.entries(count=2)
    before, after = steps(station, first), steps(station, second)
    assert after == list(range(after[0], 12))
    assert after[0] - before[-1] in (0, 1), f"from the saved sample: {before}, {after}"


@at("part-opened")
def _opened(power: Power) -> None:
    station = power.station
    until(lambda: not any(station.relays().values()), "a cold amplifier, which takes its time")
    sent = station.broadcast(station.province, [power.tone()])
    power.stage(sent, "opened")
    power.cut()
    sent.done()
    (entry,) = sent.entries()
    assert entry["result"] == "completed", "nothing of it was heard before"


@at("part-playing")
def _playing(power: Power) -> None:
    station = power.station
    sent = station.broadcast(station.province, [power.scale()], class_="emergency", resume="drop")
    sent.running()
    power.stage(sent, "playing")
    power.cut()
    sent.done()
    results = [(e["result"], e["reason"]) for e in sent.entries(count=2)]
    assert results == [("interrupted", "power"), ("completed", None)], "an emergency comes back whatever it says"


@at("part-paused")
def _paused(power: Power) -> None:
    station = power.station
    item = power.tone()
    station.have(item)
    sent = station.broadcast(station.province, [item], repeat={"count": 2, "interval_s": 8})
    power.stage(sent, "paused")
    power.cut()
    sent.done()
    assert [e["result"] for e in sent.entries(count=2)] == ["completed", "completed"], "the rest of its repeats"


@at("part-ended")
def _ended(power: Power) -> None:
    station = power.station
    sent = station.broadcast(station.province, [power.scale()], zones=[station.sound_zone, QUIET], resume="continue")
    sent.running()
    power.stage(sent, "ended", QUIET)
    power.cut()
    sent.done()
    (entry,) = sent.entries(QUIET)
    assert (entry["result"], entry["reason"]) == ("skipped", "quiet-hours"), "and it is over there"
    assert sent.entries(count=2)[-1]["result"] == "completed"


# state orders


@at("order-schedule")
def _schedule(power: Power) -> None:
    station = power.station
    start, name = round(time.time() + 12, 3), f"lich-{number()}"
    try:
        schedule(station, {"id": name, "items": [power.tone()], "dtstart": rfc3339(start)}).done()
        power.cut()
        error_of(station.entries(name, station.sound_zone)[0], start)
    finally:
        station.unschedule()


@at("order-silence")
def _silence(power: Power) -> None:
    station = power.station
    silence(station, station.province, True)
    try:
        power.cut()
        assert station.broadcast(station.province, TEXT, class_="emergency").ended()["reason"] == "silenced"
    finally:
        silence(station, station.province, False)
    power.cut()
    assert not station.status()["silences"], "and so does its end"


@at("order-configure")
def _configure(power: Power) -> None:
    station = power.station
    for word, state in (("auto", "accepted"), ("offer", "offered")):
        order = {"version": number(), "set": {"normal_from_above": word}}
        station.state(station.province, "configure", order).done()
        power.cut()
        station.broadcast(station.province, [power.tone()], class_="normal").wait(state)


@at("order-authorities")
def _authorities(power: Power) -> None:
    station = power.station
    newcomer = Authority("moi-den", Key(), [station.id])
    give_authorities(station, newcomer)
    try:
        power.cut()
        station.order(newcomer, "cancel", {"ids": ["x"]}).done()
    finally:
        give_authorities(station)
    power.cut()
    gone = station.order(newcomer, "cancel", {"ids": ["y"]})
    station.order(station.province, "cancel", {"ids": ["y"]}).done()
    assert not gone.acks(), "who has left has left"
    station.publish(b"", f"{station.base}/desired/authorities/province", retain=True)


def give_authorities(station: Training, *more: Authority) -> None:
    """The authorities now in force, and these."""
    roots = [Key.read(p) for p in sorted((station.out / "keys").glob("root-*.jwk"))]
    entries = [
        {
            "id": who["id"],
            "level": who["level"],
            "rank": who["rank"],
            "keys": [station.authorities[name].key.jwk],
            "ops": ["*"],
            "max_class": "priority" if name == "commune" else "emergency",
            "units": ["84/86"] if who["rank"] >= 50 else [station.device["unit"]],
            "zones": ["*"],
        }
        for name, who in station.connection["authorities"].items()
    ]
    common = {"level": "district", "rank": 20, "ops": ["*"], "max_class": "normal", "units": ["84"], "zones": ["*"]}
    payload = {
        "version": number(),
        "iat": int(time.time()),
        "roots": [root.jwk for root in roots],
        "threshold": station.connection["root_threshold"],
        "authorities": entries + [{"id": a.iss, "keys": [a.key.jwk], **common} for a in more],
    }
    args = {"version": payload["version"], "documents": [general(payload, roots)]}
    station.state(station.province, "authorities", args).done()


@at("order-update")
def _update(power: Power) -> None:
    """Its steps belong to the updater; what the order itself leaves is that it is in force."""
    station = power.station
    version = number()
    sent = station.state(station.province, "update", {"version": version, "target": "khong-co"})
    sent.ended()
    answers = {ack["seq"] for ack in sent.acks()}
    power.cut()
    station.order(station.province, "cancel", {"ids": ["x"]}).done()
    # Rows taken shortly before a break are sent again: the same answer twice is one.
    assert {ack["seq"] for ack in sent.acks()} == answers, "the retained order came again and was silently ignored"
    lower = station.state(station.province, "update", {"version": version - 1, "target": "khong-co"})
    assert lower.ended()["reason"] == "stale-version"
    station.publish(b"", f"{station.base}/desired/update/province", retain=True)


# tables and values of the store


@at("table-orders")
def _orders(power: Power) -> None:
    station = power.station
    sent = station.order(station.province, "cancel", {"ids": ["x"]})
    last = sent.done()
    power.cut()
    since = station.publish(sent.raw)
    assert station.wait_ack(sent.jti, lambda _: True, "the recorded ack", since=since) == last


@at("table-counters")
def _counters(power: Power) -> None:
    station = power.station
    sent = station.order(station.province, "cancel", {"ids": ["x"]})
    sent.done()
    power.cut()
    again = station.order(station.province, "cancel", {"ids": ["y"]}, ctr=sent.claims["ctr"]).ended()
    assert again["reason"] == "replayed"


@at("table-states")
def _states(power: Power) -> None:
    station = power.station
    version = number()
    args = {"version": version, "on": False, "zones": ["*"]}
    station.state(station.province, "silence", args).done()
    power.cut()
    lower = station.state(station.province, "silence", args | {"version": version - 1}).ended()
    assert lower["reason"] == "stale-version"


@at("table-programmes")
def _programmes(power: Power) -> None:
    station = power.station
    sent = [station.broadcast(station.province, TEXT, start=rfc3339(time.time() + 3600)) for _ in range(20)]
    for one in sent:
        one.wait("accepted")
    power.cut()
    coming = {row["id"] for row in station.status()["next"]}
    assert coming >= {one.id for one in sent}
    station.order(station.province, "cancel", {"ids": [one.id for one in sent]}).done()


@at("table-outbox")
@at("value-outbox.reserved")
def _outbox(power: Power) -> None:
    """What happened without a link waits, over two power cuts, and arrives once under numbers of its own."""
    station = power.station
    known = len(station.log())
    highest = max(m.body["seq"] for m in station.watcher.all("event"))
    station.control("link", up=False)
    sound = station.media_dir / power.tone()["media"]["url"].rsplit("/", 1)[1]
    for _ in range(2):
        entries = power.rows("SELECT count(*) FROM playlog")[0][0]
        assert station.tram("play", str(sound), "--zone", station.sound_zone).returncode == 0
        until(lambda n=entries: power.rows("SELECT count(*) FROM playlog")[0][0] > n, "its entry")
        for pid in power._pids():
            os.kill(pid, signal.SIGKILL)
        until(lambda: not power._pids(), "the end of both processes")
        station.control("restart", what="agent", kill=True)
        until(lambda: station.status().get("voice"), "voice and agent together")
    waiting = [row[0] for row in power.rows("SELECT seq FROM outbox ORDER BY seq")]
    assert len(waiting) > 1
    assert waiting[0] > highest
    station.control("link", up=True)
    until(lambda: len(station.log()) >= known + 2, "both entries")
    until(lambda: not power.rows("SELECT seq FROM outbox"), "an empty outbox")
    assert [e["n"] for e in station.log()] == sorted({e["n"] for e in station.log()}), "each once"


@at("table-named")
@at("value-tombstone/")
def _tombstone(power: Power) -> None:
    station = power.station
    name = f"chon-{number()}"
    station.order(station.province, "cancel", {"ids": [name]}).done()
    power.cut()
    assert station.broadcast(station.province, TEXT, id=name).ended()["reason"] == "cancelled"


@at("table-playlog")
def _playlog(power: Power) -> None:
    station = power.station
    station.broadcast(station.province, [power.tone()]).done()
    (last,) = power.rows("SELECT n, entry FROM playlog ORDER BY n DESC LIMIT 1")
    power.cut()
    sent = station.broadcast(station.province, [power.tone()])
    sent.done()
    (entry,) = sent.entries()
    assert (entry["n"], entry["prev"]) == (last[0] + 1, json.loads(last[1])["hash"]), "the chain goes on"
    assert station.tram("log", "--verify").returncode == 0


@at("value-silences")
def _silences(power: Power) -> None:
    """A silence that was lifted in part: no order tells it, only the value does."""
    station = power.station
    silence(station, station.emergency, True)
    silence(station, station.province, False, zones=[station.sound_zone])
    try:
        power.cut()
        station.broadcast(station.province, [power.tone()]).done()
        board = station.broadcast(station.province, TEXT, zones=[station.screen_zone]).ended()
        assert board["reason"] == "silenced"
    finally:
        silence(station, station.province, False)


@at("value-own-ctr")
def _own_ctr(power: Power) -> None:
    """What the commune starts itself is signed under a number that was never used."""
    station = power.station
    path = station.media_dir / power.tone()["media"]["url"].rsplit("/", 1)[1]
    for _ in range(2):
        entries = power.rows("SELECT count(*) FROM playlog")[0][0]
        assert station.tram("play", str(path), "--zone", station.sound_zone).returncode == 0
        until(lambda n=entries: power.rows("SELECT count(*) FROM playlog")[0][0] > n, "its entry")
        power.cut()
    used = [row[0] for row in power.rows("SELECT ctr FROM orders WHERE iss = 'station' AND ctr IS NOT NULL")]
    assert len(used) == len(set(used))


@at("value-clock-floor")
def _floor(power: Power) -> None:
    station = power.station
    try:
        station.control("clock", offset_s=-10 * DAY_S)
        power.cut()
        assert station.status()["clock"]["trusted"] is False, "it is later than the clock says"
    finally:
        station.control("clock", offset_s=0)
    power.cut()
    assert station.status()["clock"]["trusted"] is True


@at("value-replay-floor")
def _replay_floor(power: Power) -> None:
    station = power.station
    (floor,) = power.rows("SELECT value FROM named WHERE key = 'replay-floor'")
    old = int(float(floor[0])) - 1000
    life = {"iat": old, "exp": int(time.time()) + 3600}
    assert station.order(station.province, "cancel", {"ids": ["x"]}, **life).ended()["reason"] == "replayed"
    power.cut()
    assert station.order(station.province, "cancel", {"ids": ["x"]}, **life).ended()["reason"] == "replayed"


@at("birth")
def _birth(power: Power) -> None:
    station = power.station
    before = station.watcher.all("state")[-1].body["birth"]
    power.cut()
    assert station.watcher.all("state")[-1].body["birth"] > before


@pytest.mark.parametrize("state", CASES)
def test_power_fails_at(power: Power, state: str) -> None:
    CASES[state](power)


def test_after_all_that_the_log_is_whole_and_everything_arrived_once(power: Power) -> None:
    station = power.station
    assert station.tram("log", "--verify").returncode == 0
    until(lambda: not power.rows("SELECT seq FROM outbox"), "an empty outbox")
    numbers = [e["n"] for e in station.log()]
    assert numbers == list(range(1, power.rows("SELECT max(n) FROM playlog")[0][0] + 1))
    assert all(epoch(e["planned"]) for e in station.log())
