"""The station's live microphone at its clusters: heard while she speaks, gone when she lets go, and nobody else's."""

from __future__ import annotations

import contextlib
import os
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.integration.clusters.commune import (
    BUFFER_MS,
    MACHINES,
    NET,
    RATE,
    STATION,
    Commune,
    Machine,
    entries,
    noise,
    owned,
    until,
)

pytestmark = MACHINES
SPEECH_S = 23.0
"""The microphone says the same again after so long."""
WINDOW_S = 0.5
HELD_S = 9.0
CHIME_S = 1.6


@pytest.fixture(scope="module")
def commune(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commune]:
    spoken = noise(tmp_path_factory.mktemp("microphone") / "speech.wav", SPEECH_S, 41)
    talk = {"microphone": True, "longest_s": 60}
    buttons = [
        {"id": "noi", "pin": 5, "action": talk},
        {"id": "moi-hop", "name": "Mời họp", "pin": 8, "class": "normal", "action": dict(talk), "approved_by": "Lan"},
        {"id": "dung", "pin": 6, "action": {"stop": True}},
        {"id": "ngat", "pin": 7, "action": {"silence": True}},
    ]
    station = {"microphone": {"driver": "wav", "path": str(spoken)}, "buttons": buttons}
    with Commune([0.0, 40.0], station=station) as made:
        made.wait_ready()
        yield made


@pytest.fixture(autouse=True)
def quiet(commune: Commune) -> Iterator[None]:
    """Each test begins when all are there and nothing sounds."""
    commune.wait_ready()
    yield
    for machine in commune.machines:
        until(lambda m=machine: not owned(m), lambda m=machine: f"{m.name} is free; {m.log[-1500:]}", 90)
    commune.wait_ready()


class Speech:
    """What the microphone says, and when it said what is heard somewhere."""

    def __init__(self, commune: Commune) -> None:
        import numpy as np

        with wave.open(commune.station.config["microphone"]["path"]) as file:
            self._spoken = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(float)
        self._spectrum = np.conj(np.fft.rfft(self._spoken))

    def delay_s(self, machine: Machine, at: float) -> float | None:
        """How long ago that was spoken which is heard at wall time `at`; None: something else is heard, or nothing."""
        import numpy as np

        t0, speed, samples = machine.recording()
        first = round((at - t0) * speed)
        heard = np.frombuffer(samples[first : first + round(WINDOW_S * RATE)].tobytes(), "<i2").astype(float)
        if first < 0 or len(heard) < WINDOW_S * RATE or np.abs(heard).max() < 200:
            return None
        padded = np.zeros_like(self._spoken)
        padded[: len(heard)] = heard
        likeness = np.fft.irfft(np.conj(np.fft.rfft(padded) * self._spectrum), len(padded))
        best = int(np.argmax(likeness))
        said = np.take(self._spoken, np.arange(best, best + len(heard)), mode="wrap")
        if likeness[best] < 0.7 * np.linalg.norm(said) * np.linalg.norm(heard):
            return None
        now = at - time.time() + time.monotonic()
        return float((now * RATE - best) % len(self._spoken) / RATE)


@pytest.fixture(scope="module")
def speech(commune: Commune) -> Speech:
    return Speech(commune)


def heard(speech: Speech, machine: Machine, begin: float, end: float) -> dict[float, float]:
    """When the officer was heard there between these wall times, and how late: the middle of each half second."""
    found: dict[float, float] = {}
    at = begin
    while at + WINDOW_S < end:
        if (delay := speech.delay_s(machine, at)) is not None:
            found[at + WINDOW_S / 2] = delay
        at += WINDOW_S
    return found


def entry_of(machine: Machine, after: int) -> dict[str, Any]:
    found: dict[str, Any] = until(lambda: entries(machine)[after], lambda: f"{machine.name} has written its log")
    return found


@pytest.mark.parametrize("button", ["noi", "moi-hop"])
def test_what_the_officer_says_is_heard_at_all_clusters_while_she_holds_the_button(
    commune: Commune, speech: Speech, button: str
) -> None:
    before = {m.name: len(entries(m)) for m in commune.machines}
    pressed = time.time()
    commune.station.press(button, HELD_S)
    released = pressed + HELD_S
    for machine in commune.machines:
        until(lambda m=machine: owned(m), lambda m=machine: f"{m.name} plays; {m.log[-2000:]}")
    assert all(_mode(m) == "microphone" for m in commune.machines)
    for machine in commune.machines:
        until(lambda m=machine: not owned(m), lambda m=machine: f"{m.name} falls silent")
        entry = entry_of(machine, before[machine.name])
        assert (entry["result"], entry["iss"], entry["content"][1:]) == ("completed", "xa", []), entry
    over = time.time()
    time.sleep(1.0)
    for machine in commune.machines:
        found = heard(speech, machine, pressed, released + 2.0)
        delays = sorted(found.values())
        assert len(delays) > 0.6 * (HELD_S - CHIME_S) / WINDOW_S, (machine.name, found, machine.log[-2000:])
        print(
            f"{button}: microphone → output of {machine.name}: {delays[0]:.3f} … {delays[-1]:.3f} s, "
            f"median {delays[len(delays) // 2]:.3f} s (buffer of its card: {BUFFER_MS / 1000:g} s); first heard "
            f"{min(found) - pressed:.1f} s after the press, last {max(found) - released:+.1f} s after the release"
        )
        assert len(entries(machine)) == before[machine.name] + 1
        assert machine.heard(over + BUFFER_MS / 1000) is None


def _mode(machine: Machine) -> str:
    (zone,) = machine.status()["zones"].values()
    return str(zone["mode"])


def begin(commune: Commune, button: str, seconds: float) -> float:
    """Wall time of the press; all play."""
    pressed = time.time()
    commune.station.press(button, seconds)
    for machine in commune.machines:
        until(lambda m=machine: owned(m), lambda m=machine: f"{m.name} plays; {m.log[-2000:]}")
    return pressed


def wait_for(at: float) -> None:
    time.sleep(max(0.0, at - time.time()))


def whole(speech: Speech, machine: Machine, begin: float, end: float) -> None:
    """She is heard there all the time, and no later at the end than at the beginning."""
    found = heard(speech, machine, begin, end)
    assert len(found) >= (end - begin) / WINDOW_S - 2, (machine.name, found)
    assert max(found.values()) - min(found.values()) < 0.1, (machine.name, found)


def library_of(machine: Machine) -> int:
    """The process of the station's library."""
    pids = subprocess.run(["ip", "netns", "pids", machine.ns], capture_output=True, text=True, check=True).stdout
    (found,) = [p for p in pids.split() if b"agent.store.media_server" in Path(f"/proc/{p}/cmdline").read_bytes()]
    return int(found)


def test_a_cluster_that_loses_the_link_says_once_that_the_station_speaks_and_the_others_hear_on(
    commune: Commune, speech: Speech
) -> None:
    lost, other = commune.clusters
    before = {m.name: len(entries(m)) for m in commune.machines}
    pressed = begin(commune, "noi", 16.0)
    wait_for(pressed + 5)
    cut = time.time()
    lost.cable(plugged=False)
    try:
        entry = entry_of(lost, before[lost.name])
        ended = time.time()
        assert (entry["result"], entry["reason"]) == ("completed", "fallback")
        assert ended < pressed + 16, "the fallback is said once, not as long as she speaks"
        assert heard(speech, lost, cut - 2, cut), "it heard her before"
        words = lost.heard(cut + 2.5)
        assert words is not None, "the announcement"
        assert not heard(speech, lost, words, ended + 1)
        wait_for(pressed + 17)
    finally:
        lost.cable(plugged=True)
    whole(speech, commune.station, pressed + 3, pressed + 15.5)
    whole(speech, other, pressed + 3, pressed + 15.5)
    assert entry_of(other, before[other.name])["reason"] != "fallback"


def test_a_library_that_hangs_costs_the_clusters_her_words_and_the_station_nothing(
    commune: Commune, speech: Speech
) -> None:
    """Nobody takes what voice passes on."""
    before = {m.name: len(entries(m)) for m in commune.machines}
    library = library_of(commune.station)
    os.kill(library, signal.SIGSTOP)
    try:
        pressed = begin(commune, "noi", 14.0)
        for cluster in commune.clusters:
            assert entry_of(cluster, before[cluster.name])["reason"] == "fallback"
            assert cluster.heard(pressed + 4)
        wait_for(pressed + 15)
    finally:
        os.kill(library, signal.SIGCONT)
    whole(speech, commune.station, pressed + 3, pressed + 13.5)


def test_who_is_no_cluster_of_the_station_hears_nothing_and_a_listener_who_takes_nothing_disturbs_nobody(
    commune: Commune, speech: Speech
) -> None:
    pressed = begin(commune, "noi", 12.0)
    wait_for(pressed + 2.5)
    (play,) = _plays(commune)
    address = f"https://{NET}.2:8443/media/talk/{quote(play, safe='')}"
    own = commune.pki.identity(commune.clusters[0].name)
    context = _context(commune, own.cert, own.key)
    with urllib.request.urlopen(address, context=context, timeout=5) as slow:
        assert slow.status == 200  # and it is never read
        with pytest.raises(urllib.error.HTTPError) as unknown:
            urllib.request.urlopen(f"https://{NET}.2:8443/media/talk/none", context=context, timeout=5)
        assert unknown.value.code == 404
        stranger = commune.pki.client("xa-khac-cum-1")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(address, context=_context(commune, stranger.cert, stranger.key), timeout=5)
        assert refused.value.code == 403
        with pytest.raises((ssl.SSLError, ConnectionError, urllib.error.URLError)) as nobody:
            urllib.request.urlopen(address, context=ssl.create_default_context(cafile=str(commune.pki.ca)), timeout=5)
        assert not isinstance(nobody.value, urllib.error.HTTPError), "TLS says no, before anything is asked"
        wait_for(pressed + 13)
    for machine in commune.machines:
        whole(speech, machine, pressed + 3, pressed + 11.5)


def _plays(commune: Commune) -> list[str]:
    """The plays of the station's microphone that clusters were told of last."""
    import base64
    import json
    import sqlite3

    import msgspec

    with sqlite3.connect(f"file:{commune.station.dir / 'data' / 'tram.db'}?mode=ro", uri=True) as db:
        rows = [msgspec.msgpack.decode(v) for k, v in db.execute("SELECT key, value FROM named") if "pass/" in k]
    found = []
    for row in rows:
        body = row["payload"].split(b".")[1]
        args = json.loads(base64.urlsafe_b64decode(body + b"=" * (-len(body) % 4)))["args"]
        found += [i["stream"].removeprefix("local:") for i in args.get("items", ()) if "stream" in i]
    return found


def _context(commune: Commune, cert: Path, key: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(commune.pki.ca))
    context.load_cert_chain(cert, key)
    return context


@pytest.mark.parametrize("ends", ["dung", "ngat"])
def test_stop_and_the_key_that_silences_cut_her_off_everywhere(commune: Commune, ends: str) -> None:
    before = {m.name: len(entries(m)) for m in commune.machines}
    pressed = begin(commune, "noi", 12.0)
    wait_for(pressed + 4)
    commune.station.press(ends, 1.0)
    cut = time.time()
    for machine in commune.machines:
        until(lambda m=machine: not owned(m), f"{machine.name} falls silent")
    assert time.time() < pressed + 11
    for cluster in commune.clusters:
        entry = entry_of(cluster, before[cluster.name])
        assert entry["result"] == "interrupted"
        assert entry["reason"] in ("cancelled", "silenced"), "whichever order came first"
    wait_for(pressed + 13)
    assert [m.name for m in commune.clusters if m.heard(cut + 3)] == []


def test_the_agent_dies_while_she_speaks_the_station_goes_on_and_the_clusters_say_where_she_is_heard(
    commune: Commune, speech: Speech
) -> None:
    before = {m.name: len(entries(m)) for m in commune.machines}
    pressed = begin(commune, "noi", 16.0)
    wait_for(pressed + 5)
    commune.station.stop(signal.SIGKILL)
    try:
        for cluster in commune.clusters:
            assert entry_of(cluster, before[cluster.name])["reason"] == "fallback"
        wait_for(pressed + 17)
    finally:
        commune.station.start()
    whole(speech, commune.station, pressed + 3, pressed + 15.5)
    commune.wait_ready()
    with contextlib.suppress(AssertionError):
        until(lambda: len(entries(commune.station)) > before[STATION], "the station's log", 10)
    assert [e["result"] for e in entries(commune.station)[before[STATION] :]] == ["completed"]
    time.sleep(3)
    for cluster in commune.clusters:
        assert len(entries(cluster)) == before[cluster.name] + 1, "it is not given the talk again"
