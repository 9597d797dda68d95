from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import socket
import threading
import time
from array import array

import pytest

from agent.model import voice as v
from tests.integration.voice.conftest import MESSAGE
from tests.integration.voice.process import MS, Process, write_wav


def sine(samples: int, hertz: float, amplitude: int = 8000) -> list[int]:
    return [round(amplitude * math.sin(2 * math.pi * hertz * i / 48_000)) for i in range(samples)]


def feed(voice: Process, play: str, segment: int, values: list[int]) -> None:
    """A pipe with that sound, written by a thread as a decoder would."""
    read, write = os.pipe()

    def decode() -> None:
        with contextlib.suppress(BrokenPipeError), os.fdopen(write, "wb") as file:
            file.write(array("h", values).tobytes())

    threading.Thread(target=decode).start()
    voice.do(v.Feed(play=play, segment=segment), fd=read)


def test_hello_tells_zones_pinned_sounds_and_relays(prepared: Process) -> None:
    prepared.start()
    hello = prepared.connect()
    assert hello.zones == ["hall", "hamlet"]
    assert "message:fire" in hello.pinned
    assert hello.relays == {"amplifier": False}
    assert prepared.child is not None
    assert hello.pid == prepared.child.pid


def test_a_recorded_programme_is_the_one_that_was_sent_sample_by_sample(voice: Process) -> None:
    programme = sine(30_000, 440)
    due = time.monotonic_ns() + 600 * MS
    voice.do(v.Open(play="p", zones=["hall", "hamlet"], at_ns=due))
    feed(voice, "p", 0, programme[:10_007])
    feed(voice, "p", 1, programme[10_007:])
    voice.do(v.Close(play="p"))
    started = voice.wait(v.Started, zone="hall")
    ends = [voice.wait(v.Ended), voice.wait(v.Ended)]
    origin = voice.origin_ns()
    assert voice.end() == 0
    assert started.error_ms == pytest.approx((started.at_ns - due) / MS, abs=0.001)
    assert [(e.samples, e.segments, e.underrun_samples) for e in ends] == [(30_000, [10_007, 19_993], 0)] * 2
    assert ends[0].level_dbfs == pytest.approx(20 * math.log10(8000 / 32768) - 3.01, abs=0.05)
    told, channels = voice.recording()
    assert (told["rate"], told["zones"]) == (48_000, ["hall", "hamlet"])
    for channel in channels:
        begin = next(i for i, s in enumerate(channel) if s) - 1
        assert channel[begin : begin + 30_000] == programme
        assert not any(channel[begin + 30_000 :])
        assert abs(begin - (started.at_ns - origin) * 48 / MS) < 480  # the wall clock may be slewed a little


def test_an_emergency_takes_over_without_gap_or_click(voice: Process) -> None:
    voice.do(v.Open(play="p", zones=["hall"]))
    feed(voice, "p", 0, sine(96_000, 200))
    first = voice.wait(v.Started, play="p")
    time.sleep(0.3)
    alarm = sine(24_000, 700, 9000)
    write_wav(voice.folder / "data" / "alarm.wav", alarm)
    voice.do(v.Load(name="chime:alarm", path="alarm.wav"))
    time.sleep(0.2)
    voice.do(v.Stop(play="p", reason="outranked"), v.Open(play="e", zones=["hall"], pinned=["chime:alarm"]))
    voice.do(v.Close(play="e"))
    second = voice.wait(v.Started, play="e")
    voice.wait(v.Ended, play="e")
    voice.end()
    _, (hall, _) = voice.recording()
    begin = next(i for i, s in enumerate(hall) if s) - 1
    at = begin + round((second.at_ns - first.at_ns) * 48 / MS)
    assert hall[at + 240 : at + 24_000] == alarm[240:]
    around = hall[at - 480 : at + 480]
    steepest = 8000 * 2 * math.pi * 200 / 48_000 + 9000 * 2 * math.pi * 700 / 48_000 + 8000 / 240
    assert max(abs(a - b) for a, b in itertools.pairwise(around)) <= steepest + 1
    assert max(abs(s) for s in hall[at - 1 : at + 240]) > 100


def test_the_relay_follows_the_play_with_warm_up_and_cool_down(voice: Process) -> None:
    due = time.monotonic_ns() + 500 * MS
    write_wav(voice.folder / "data" / "x.wav", [0, *[300] * 4800])
    voice.do(v.Load(name="chime:x", path="x.wav"))
    time.sleep(0.1)
    voice.do(v.Open(play="p", zones=["hamlet"], at_ns=due, pinned=["chime:x"]), v.Close(play="p"))
    on = voice.wait(v.RelayEvent, relay="amplifier", on=True)
    assert voice.control(do="relays") == {"ok": True, "relays": {"amplifier": True}}
    started = voice.wait(v.Started)
    ended = voice.wait(v.Ended)
    off = voice.wait(v.RelayEvent, relay="amplifier", on=False)
    assert started.at_ns - on.at_ns >= 200 * MS
    assert off.at_ns - ended.at_ns >= 200 * MS
    assert voice.control(do="relays") == {"ok": True, "relays": {"amplifier": False}}


def test_a_button_sounds_without_any_agent_and_is_told_to_the_next_one(prepared: Process) -> None:
    prepared.start()
    prepared.connect()
    assert prepared.client is not None
    prepared.client.close()
    pressed = prepared.control(do="press", button="fire", seconds=0.05)
    assert pressed["ok"]
    time.sleep(0.6)
    prepared.connect()
    assert prepared.wait(v.ButtonEvent).state == "pressed"
    started = prepared.wait(v.LocalStarted)
    assert started.submitted_ns >= pressed["at_ns"] == pytest.approx(started.pressed_ns, abs=5 * MS)
    assert prepared.wait(v.LocalEnded).samples == len(MESSAGE)
    prepared.end()
    _, (hall, _) = prepared.recording()
    begin = next(i for i, s in enumerate(hall) if s)
    assert hall[begin : begin + len(MESSAGE)] == MESSAGE


def test_a_newer_agent_replaces_the_older_and_its_plays_end(voice: Process) -> None:
    voice.do(v.Open(play="p", zones=["hall"]))
    feed(voice, "p", 0, sine(480_000, 200))
    voice.wait(v.Started)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as newer:
        newer.connect(str(voice.folder / "run" / "voice.sock"))
        newer.settimeout(5)
        assert json.loads(newer.recv(65_536))["ev"] == "hello"
    voice.wait(v.Hello)  # the client came back, being the newest now
    voice.do(v.Open(play="p2", zones=["hall"], pinned=["message:fire"]), v.Close(play="p2"))
    assert voice.wait(v.Ended, play="p2").reason == "completed"


GARBAGE = [
    b"",
    b"{",
    b"[]",
    b'{"do":"open"}',
    b'{"do":"nothing"}',
    b'{"do":"open","play":1,"zones":[]}',
    b'{"do":"levels","every_ms":1e99}',
    b"\xff" * 100,
    b"[" * 60_000,
    b'{"do":"open","play":"' + b"x" * 60_000,
]


def test_garbage_is_a_fault_and_the_station_goes_on(voice: Process) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as raw:
        raw.connect(str(voice.folder / "run" / "voice.sock"))
        for packet in GARBAGE[1:]:
            raw.send(packet)
        # A file descriptor that nobody asked for must not leak either.
        socket.send_fds(raw, [b"{"], [0])
        time.sleep(0.2)
        raw.settimeout(5)
        assert json.loads(raw.recv(65_536))["ev"] == "hello"
        assert json.loads(raw.recv(65_536))["what"] == "command"
    voice.wait(v.Hello)
    voice.do(v.Open(play="p", zones=["hall"], pinned=["message:fire"]), v.Close(play="p"))
    assert voice.wait(v.Ended, play="p").samples == len(MESSAGE)


@pytest.mark.parametrize(("how", "code"), [("terminate", 0), ("kill", -9)])
def test_a_recording_survives_a_restart_on_the_same_timeline(voice: Process, how: str, code: int) -> None:
    voice.do(v.Open(play="p", zones=["hall"], pinned=["message:fire"]), v.Close(play="p"))
    first = voice.wait(v.Started)
    voice.wait(v.Ended)
    time.sleep(0.05)
    assert voice.end(how) == code
    told, _ = voice.recording()
    voice.start()
    voice.connect()
    voice.do(v.Open(play="p", zones=["hall"], pinned=["message:fire"]), v.Close(play="p"))
    second = voice.wait(v.Started)
    voice.wait(v.Ended)
    time.sleep(0.05)
    voice.end()
    again, (hall, _) = voice.recording()
    assert again == told
    begin = next(i for i, s in enumerate(hall) if s)
    assert hall[begin : begin + len(MESSAGE)] == MESSAGE
    begin = next(i for i in range(begin + len(MESSAGE), len(hall)) if hall[i])
    assert hall[begin : begin + len(MESSAGE)] == MESSAGE
    apart = begin - next(i for i, s in enumerate(hall) if s)
    assert abs(apart - (second.at_ns - first.at_ns) * 48 / MS) < 480


def test_a_killed_recording_is_readable_at_once(voice: Process) -> None:
    voice.do(v.Open(play="p", zones=["hall"]))
    feed(voice, "p", 0, sine(480_000, 200))
    voice.wait(v.Started)
    time.sleep(1.6)
    voice.end("kill")
    _, (hall, hamlet) = voice.recording()
    assert len(hall) == len(hamlet) >= 48_000
    assert any(hall)


def test_only_one_voice_runs_for_a_station(voice: Process) -> None:
    other = Process(voice.folder)
    other.start()
    assert other.child is not None
    assert other.child.wait(10) == 1
    voice.do(v.Open(play="p", zones=["hall"], pinned=["message:fire"]), v.Close(play="p"))
    assert voice.wait(v.Ended).reason == "completed"


def test_a_bad_configuration_is_exit_1(tmp_path: object, prepared: Process) -> None:
    (prepared.folder / "station.yaml").write_text("zones: nonsense")
    prepared.child = None
    process = Process(prepared.folder, "zones: nonsense")
    process.start()
    assert process.child is not None
    assert process.child.wait(10) == 1


def test_systemd_is_told_when_ready_and_fed(prepared: Process) -> None:
    path = prepared.folder / "notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(path))
        systemd.settimeout(10)
        prepared.start(NOTIFY_SOCKET=str(path), WATCHDOG_USEC="200000")
        assert systemd.recv(100) == b"READY=1"
        assert systemd.recv(100) == b"WATCHDOG=1"
        assert systemd.recv(100) == b"WATCHDOG=1"


@pytest.mark.parametrize(
    ("line", "ok"),
    [
        ('{"do":"press","button":"fire","seconds":0.01}', True),
        ('{"press":{"button":"fire","seconds":0.01}}', True),
        ('{"do":"set","sensor":"temperature","value":41.5}', True),
        ('{"do":"line","zone":"hall","state":"open"}', True),
        ('{"do":"sensors"}', True),
        ('{"do":"line","zone":"hall","state":"melted"}', False),
        ('{"do":"line","zone":"nowhere","state":"open"}', False),
        ('{"do":"press","button":"nobody"}', False),
        ('{"do":"press","button":"fire","seconds":-1}', False),
        ('{"do":"press","button":"fire","seconds":"x"}', False),
        ('{"do":"jump"}', False),
        ("[1]", False),
        ("not json", False),
    ],
)
def test_the_control_socket_answers_every_line(tmp_path: object, line: str, ok: bool) -> None:
    from agent.model.config import Action, Button
    from drivers.virtual_gpio import ControlServer, VirtualFactory

    button = Button(id="fire", pin=6, action=Action(stop=True))
    server = ControlServer(f"{tmp_path}/control.sock", VirtualFactory(), [], [button], ["hall"])
    try:
        answer = server.answer(line.encode())
        assert answer["ok"] is ok
        assert ok or answer["error"]
    finally:
        server.close()
