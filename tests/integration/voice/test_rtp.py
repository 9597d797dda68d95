"""RTP multicast heard by an independent receiver (ffmpeg), in a network namespace of its own."""

from __future__ import annotations

import itertools
import math
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
import wave
from array import array
from pathlib import Path

import pytest

from agent.model import voice as v
from agent.model.config import RtpOutput
from drivers.rtp_sink import RATE, RtpSink, write_sdp
from tests.integration.voice.process import Process, write_wav

CONFIG = """
device: {id: tram-thu, name: Trạm thử, unit: 84/86/xa-mau}
trust: {root_keys: roots.json, authorities: authorities.json}
data_dir: data
run_dir: run
zones:
  - id: lan
    kind: sound
    output: {driver: rtp, address: 239.192.7.1, port: 5004, interface: lo, sdp: out/lan.sdp, stereo: STEREO}
  - {id: hall, kind: sound, output: {driver: wav, path: out/station.wav, buffer_ms: 100}}
messages: [{id: tone, title: Thử, text: Thử, chime: null}]
"""
TONE = [round(8000 * math.sin(2 * math.pi * 440 * i / RATE)) for i in range(2 * RATE)]
NAMESPACE = ["unshare", "--net", "--map-root-user"]
"""A network of its own, where the loop interface is up and has a multicast route."""
PREPARE = "ip link set lo up multicast on && ip route add 224.0.0.0/4 dev lo && "


def namespaces() -> bool:
    if not shutil.which("unshare") or not shutil.which("ip") or not shutil.which("ffmpeg"):
        return False
    return subprocess.run([*NAMESPACE, "sh", "-c", PREPARE + "true"], capture_output=True, check=False).returncode == 0


needs_namespace = pytest.mark.skipif(not namespaces(), reason="needs ffmpeg, iproute2 and network namespaces")


@needs_namespace
@pytest.mark.parametrize("stereo", [False, True])
def test_an_independent_receiver_hears_exactly_what_was_sent(tmp_path: Path, stereo: bool) -> None:
    (tmp_path / "station.yaml").write_text(CONFIG.replace("STEREO", str(stereo).lower()), encoding="utf-8")
    write_wav(tmp_path / "data" / "pinned" / "tone.wav", TONE)
    script = tmp_path / "receive.sh"
    script.write_text(
        f"""{PREPARE} set -e
        {sys.executable} -m agent.voice --config station.yaml & voice=$!
        for _ in $(seq 200); do [ -S run/voice.sock ] && [ -f out/lan.sdp ] && break; sleep 0.05; done
        ffmpeg -nostdin -loglevel error -protocol_whitelist file,rtp,udp -i out/lan.sdp -t 1.5 heard.wav & ear=$!
        sleep 1.5
        {sys.executable} {Path(__file__).with_name("rtp_player.py")} run/voice.sock
        wait $ear || true
        kill $voice; wait $voice || true
        """
    )
    done = subprocess.run(
        [*NAMESPACE, "bash", str(script)],
        cwd=tmp_path,
        timeout=60,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert (tmp_path / "heard.wav").exists(), done.stderr
    with wave.open(str(tmp_path / "heard.wav"), "rb") as file:
        assert (file.getframerate(), file.getnchannels()) == (RATE, 2 if stereo else 1)
        heard = array("h", file.readframes(file.getnframes()))
    channels = [list(heard[i :: 2 if stereo else 1]) for i in range(2 if stereo else 1)]
    assert channels[0] == channels[-1]
    begin = next(i for i, s in enumerate(channels[0]) if s) - 1
    length = min(len(channels[0]) - begin, len(TONE))
    assert length > RATE // 2, done.stderr
    assert channels[0][begin : begin + length] == TONE[:length]


def test_a_network_without_a_route_is_one_fault_and_the_rest_goes_on(tmp_path: Path) -> None:
    process = Process(tmp_path, CONFIG.replace("interface: lo", "interface: nowhere0").replace("STEREO", "false"))
    write_wav(tmp_path / "data" / "pinned" / "tone.wav", TONE)
    process.start()
    process.connect()
    try:
        process.do(v.Open(play="p", zones=["lan", "hall"], pinned=["message:tone"]), v.Close(play="p"))
        fault = process.wait(v.Fault, what="sink")
        assert (fault.device, fault.on) == ("239.192.7.1:5004", True)
        assert "through nowhere0" in fault.detail
        assert {process.wait(v.Ended).reason for _ in range(2)} == {"completed"}
        faults = [e for e in process.seen if isinstance(e, v.Fault) and e.what == "sink"]
        assert len(faults) == 1
        _, channels = process.recording()
        assert any(channels[0])
    finally:
        process.end()


def heard_by(receiver: socket.socket) -> list[bytes]:
    packets = []
    while True:
        try:
            packets.append(receiver.recv(4096))
        except BlockingIOError:
            return packets


def test_packets_are_rtp_their_timestamps_are_the_clock_and_it_recovers_by_itself(tmp_path: Path) -> None:
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.setblocking(False)
    with receiver:
        receiver.bind(("127.0.0.1", 0))
        sink = RtpSink(RtpOutput(address="239.192.7.1"), ["a"])
        sink._output = RtpOutput(address="239.192.7.1", port=receiver.getsockname()[1])
        ms = 1_000_000
        now = time.monotonic_ns()
        good, bad = "127.0.0.1", "255.255.255.255"  # the second needs a permission that nobody asked for
        for address, begin in (
            (good, now),
            (good, now + 10_000 * ms),
            (bad, now + 20_000 * ms),
            (good, now + 30_000 * ms),
        ):
            sink._output = RtpOutput(address=address, port=sink._output.port)
            sink.start(begin)
            for k in range(4):
                moment = begin + (1 + 5 * k) * ms
                assert sink.room(moment)
                sink.write(array("h", [k + 1] * 240).tobytes(), moment)
                assert not sink.room(moment)
            assert sink.away is (address == bad)
        assert len(sink.take_faults()) == 1
        time.sleep(0.05)
        packets = heard_by(receiver)
    heads = [struct.unpack("!BBHII", p[:12]) for p in packets]
    assert {(h[0], h[4]) for h in heads} == {(0x80, heads[0][4])}
    assert [h[1] for h in heads] == [96 + 128, 96, 96, 96] * 3
    steps = [(b[3] - a[3]) % 2**32 for a, b in itertools.pairwise(heads)]
    assert steps[:3] == [240] * 3
    assert abs(steps[3] - (10 * RATE - 3 * 240)) <= 1
    assert packets[1][12:16] == b"\x00\x02\x00\x02"
    sink.close(0)


def test_the_description_names_what_a_receiver_needs(tmp_path: Path) -> None:
    write_sdp(
        tmp_path / "x" / "a.sdp", RtpOutput(address="239.1.2.3", port=5010, ttl=4, stereo=True), ["a"], "10.0.0.5"
    )
    lines = (tmp_path / "x" / "a.sdp").read_bytes().decode().split("\r\n")
    assert lines[0] == "v=0"
    assert {"c=IN IP4 239.1.2.3/4", "m=audio 5010 RTP/AVP 96", "a=rtpmap:96 L16/48000/2", "a=ptime:5"} <= set(lines)
