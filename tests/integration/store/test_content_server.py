from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
import urllib3

from province.content_server import ContentServer, Live, encode_live, encode_silence
from tests.integration.store.helpers import content

PATIENCE_S = 10


def listen(url: str) -> requests.Response:
    return requests.get(url, stream=True, timeout=PATIENCE_S)


def read_out(radio: requests.Response) -> None:
    while radio.raw.read(1000):
        pass


def test_files_are_served_with_range_and_nothing_outside_the_folder(
    server: ContentServer, tls: tuple[Path, Path]
) -> None:
    raw = content(5000)
    (server.media / "a.mp3").write_bytes(raw)
    trust = str(tls[0])
    answer = requests.get(f"{server.url}/a.mp3", headers={"Range": "bytes=1000-"}, verify=trust, timeout=PATIENCE_S)
    assert (answer.status_code, answer.content) == (206, raw[1000:])
    for name in ("missing", "..%2Fserver.key", "..%2Fmedia%2Fa.mp3"):
        assert requests.get(f"{server.url}/{name}", verify=trust, timeout=PATIENCE_S).status_code == 404


def test_a_live_stream_runs_at_its_bit_rate_and_can_be_silenced_and_cut(server: ContentServer) -> None:
    file, silence = server.media / "loop.mp3", server.media / "silence.mp3"
    file.write_bytes(b"s" * 1000)
    silence.write_bytes(b"-" * 1000)
    live = server.live["voh"] = Live(file, kbps=400, silence=silence, burst_s=0.0)
    began = time.monotonic()
    with listen(server.live_url("voh", plain=True)) as radio:
        assert radio.raw.read(30_000) == b"s" * 30_000
        assert time.monotonic() - began > 0.4  # 30 kB at 50 kB/s, a tick early at most
        live.silenced = True
        while radio.raw.read(1000) != b"-" * 1000:
            assert time.monotonic() - began < PATIENCE_S
        live.cut()
        with pytest.raises(urllib3.exceptions.ProtocolError):
            read_out(radio)
    assert listen(server.live_url("voh", plain=True)).status_code == 503
    live.restore()
    with listen(server.live_url("voh", plain=True)) as radio:
        assert radio.raw.read(100) == b"s" * 100


def test_as_a_process_it_obeys_lines_on_stdin(tls: tuple[Path, Path], tmp_path: Path) -> None:
    file = tmp_path / "a.mp3"
    file.write_bytes(b"s" * 1000)
    command = [sys.executable, "-m", "province.content_server", "--media", str(tmp_path), "--plain"]
    command += ["--cert", str(tls[0]), "--key", str(tls[1]), "--live", f"voh={file}:64"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    told = json.loads(process.stdout.readline())
    address = f"http://127.0.0.1:{told['plain_port']}/live/voh"
    with listen(address) as radio:
        assert radio.raw.read(10) == b"s" * 10
    print('{"live": "voh", "do": "cut"}', "nonsense", sep="\n", file=process.stdin, flush=True)
    assert "nonsense" in json.loads(process.stdout.readline())["error"]
    assert listen(address).status_code == 503
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0


def test_live_files_are_encoded_at_a_constant_rate(tmp_path: Path) -> None:
    silence = encode_silence(tmp_path / "silence.mp3", kbps=64, seconds=2.0)
    again = encode_live(silence, tmp_path / "live.mp3", kbps=64)
    for file in (silence, again):
        assert file.stat().st_size == pytest.approx(64_000 / 8 * 2, rel=0.1)
