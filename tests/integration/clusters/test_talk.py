"""The station's live microphone at its clusters: heard while she speaks, gone when she lets go, and nobody else's."""

from __future__ import annotations

import time
import wave
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.clusters.commune import BUFFER_MS, RATE, Commune, Machine, noise, possible, until
from tests.integration.clusters.test_commune import _entries, _owned

pytestmark = [
    pytest.mark.broker,
    pytest.mark.xdist_group("commune"),
    pytest.mark.skipif(possible() is not None, reason=f"network namespaces: {possible()}"),
]
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
        until(lambda m=machine: not _owned(m), lambda m=machine: f"{m.name} is free; {m.log[-1500:]}", 90)
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
    found: dict[str, Any] = until(lambda: _entries(machine)[after], lambda: f"{machine.name} has written its log")
    return found


@pytest.mark.parametrize("button", ["noi", "moi-hop"])
def test_what_the_officer_says_is_heard_at_all_clusters_while_she_holds_the_button(
    commune: Commune, speech: Speech, button: str
) -> None:
    before = {m.name: len(_entries(m)) for m in commune.machines}
    pressed = time.time()
    commune.station.press(button, HELD_S)
    released = pressed + HELD_S
    for machine in commune.machines:
        until(lambda m=machine: _owned(m), lambda m=machine: f"{m.name} plays; {m.log[-2000:]}")
    assert all(_mode(m) == "microphone" for m in commune.machines)
    for machine in commune.machines:
        until(lambda m=machine: not _owned(m), lambda m=machine: f"{m.name} falls silent")
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
        assert len(_entries(machine)) == before[machine.name] + 1
        assert machine.heard(over + BUFFER_MS / 1000) is None


def _mode(machine: Machine) -> str:
    (zone,) = machine.status()["zones"].values()
    return str(zone["mode"])
