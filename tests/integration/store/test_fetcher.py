from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.model.orders import Media
from province.content_server import ContentServer, Fault, Live
from tests.integration.store.helpers import Child, content, media_of

SIZE = 300_000


@pytest.fixture
def put(server: ContentServer) -> Callable[..., tuple[bytes, Media]]:
    def make(name: str = "a.mp3", size: int = SIZE) -> tuple[bytes, Media]:
        raw = content(size, seed=len(name) + size)
        (server.media / name).write_bytes(raw)
        return raw, media_of(raw, f"{server.url}/{name}")

    return make


def test_a_file_is_fetched_verified_and_renamed(child: Child, put: Any, tmp_path: Path) -> None:
    raw, media = put()
    target = tmp_path / "ab" / media.sha256
    assert child.fetch(media, target) == {"job": 1, "code": "done", "detail": "", "final": False, "got": SIZE}
    assert target.read_bytes() == raw
    assert list(target.parent.iterdir()) == [target]


def test_cuts_at_any_offset_are_resumed_to_identical_bytes(
    child: Child, put: Any, server: ContentServer, tmp_path: Path
) -> None:
    rng = random.Random(7)
    raw, media = put()
    for turn in range(6):
        target = tmp_path / str(turn) / media.sha256
        got = 0
        for _ in range(4):
            cut = rng.randrange(1, SIZE // 5)
            server.faults["a.mp3"] = Fault(cut_after=cut, times=1)
            told = child.fetch(media, target)
            assert (told["code"], told["final"]) == ("broken", False)
            got += told["got"]
            assert (tmp_path / str(turn) / f"{media.sha256}.part").stat().st_size == got
        told = child.fetch(media, target)
        assert (told["code"], told["got"]) == ("done", SIZE - got)
        assert target.read_bytes() == raw


def test_a_server_that_ignores_range_makes_it_start_over(
    child: Child, put: Any, server: ContentServer, tmp_path: Path
) -> None:
    raw, media = put()
    server.faults["a.mp3"] = Fault(cut_after=100_000, times=1)
    assert child.fetch(media, tmp_path / "x")["code"] == "broken"
    server.faults["a.mp3"] = Fault(ignore_range=True)
    told = child.fetch(media, tmp_path / "x")
    assert (told["code"], told["got"]) == ("done", SIZE)
    assert (tmp_path / "x").read_bytes() == raw


def test_a_part_that_power_loss_spoiled_is_fetched_anew(child: Child, put: Any, tmp_path: Path) -> None:
    raw, media = put()
    for spoiled in (bytes(50_000), bytes(SIZE), bytes(SIZE + 5)):
        target = tmp_path / str(len(spoiled))
        Path(f"{target}.part").write_bytes(spoiled)
        assert child.fetch(media, target)["code"] == "done"
        assert target.read_bytes() == raw


def test_a_complete_part_needs_no_request(child: Child, put: Any, server: ContentServer, tmp_path: Path) -> None:
    raw, media = put()
    (tmp_path / "x.part").write_bytes(raw)
    told = child.fetch(media, tmp_path / "x")
    assert (told["code"], told["got"], server.requests) == ("done", 0, [])


BAD: dict[str, tuple[Fault, str, bool]] = {
    "wrong bytes": (Fault(wrong_bytes=True), "hash", True),
    "larger than declared": (Fault(longer=1), "size", True),
    "encoded": (Fault(encoding="gzip"), "encoding", False),
    "not there": (Fault(status=404), "http", False),
    "server error": (Fault(status=500), "http", False),
    "redirect to another host": (Fault(redirect="https://elsewhere.example/x"), "host", True),
    "redirect to a private host": (Fault(redirect="https://192.168.1.1/x"), "host", True),
    "redirect to the metadata service": (Fault(redirect="https://169.254.169.254/x"), "host", True),
    "redirect to http": (Fault(redirect="http://127.0.0.1/x"), "host", True),
    "redirect to a file": (Fault(redirect="file:///etc/passwd"), "host", True),
    "redirect to itself": (Fault(redirect="a.mp3"), "redirect", True),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_content_is_refused_with_its_code_and_never_becomes_a_file(
    child: Child, put: Any, server: ContentServer, tmp_path: Path, case: str
) -> None:
    _, media = put()
    fault, code, final = BAD[case]
    server.faults["a.mp3"] = fault
    told = child.fetch(media, tmp_path / "x")
    assert (told["code"], told["final"]) == (code, final)
    assert told["detail"]
    assert not (tmp_path / "x").exists()
    server.faults.clear()
    assert child.fetch(media, tmp_path / "x")["code"] == "done"  # and the fetcher goes on


def test_a_redirect_within_the_allowed_host_is_followed(
    child: Child, put: Any, server: ContentServer, tmp_path: Path
) -> None:
    raw, media = put()
    (server.media / "b.mp3").write_bytes(raw)
    server.faults["a.mp3"] = Fault(redirect="b.mp3")
    assert child.fetch(media, tmp_path / "x")["code"] == "done"


def test_chunked_bytes_beyond_the_declared_size_are_cut_off(
    child: Child, put: Any, server: ContentServer, tmp_path: Path
) -> None:
    raw, _ = put()
    stream = server.media / "loop.mp3"
    stream.write_bytes(raw)
    server.live["loop"] = Live(stream, kbps=8000, burst_s=2)  # no Content-Length, no end
    told = child.fetch(media_of(raw[:1000], server.live_url("loop")), tmp_path / "x")
    assert (told["code"], told["final"]) == ("size", True)
    assert not (tmp_path / "x").exists()


URLS = {
    "plain http": "http://127.0.0.1:{port}/media/a.mp3",
    "another port": "https://127.0.0.1:1/media/a.mp3",
    "another spelling of the address": "https://2130706433:{port}/media/a.mp3",
    "user and password": "https://u:p@127.0.0.1:{port}/media/a.mp3",
    "host in the user part": "https://127.0.0.1:{port}@evil.example/a.mp3",
    "no host": "https:///a.mp3",
    "bad port": "https://127.0.0.1:99999/a.mp3",
    "nonsense": "\\\\host\\share",
    "local": "local:abc",
    "ftp": "ftp://127.0.0.1/a",
}


@pytest.mark.parametrize("case", URLS)
def test_an_address_that_is_not_allowed_is_refused_without_a_request(
    child: Child, put: Any, server: ContentServer, tmp_path: Path, case: str
) -> None:
    raw, _ = put()
    told = child.fetch(media_of(raw, URLS[case].format(port=server.port)), tmp_path / "x")
    assert (told["code"], told["final"]) == ("host", True)
    assert server.requests == []


def test_an_untrusted_certificate_is_refused(put: Any, server: ContentServer, tmp_path: Path) -> None:
    _, media = put()
    child = Child([f"127.0.0.1:{server.port}"], None)
    told = child.fetch(media, tmp_path / "x")
    child.stop()
    assert (told["code"], told["final"]) == ("tls", False)
    assert server.requests == []


@pytest.mark.parametrize("ca", ["/does/not/exist.pem", __file__])
def test_an_unusable_ca_is_told_as_the_answer(put: Any, server: ContentServer, tmp_path: Path, ca: str) -> None:
    _, media = put()
    child = Child([f"127.0.0.1:{server.port}"], Path(ca))
    told = child.fetch(media, tmp_path / "x")
    child.stop()
    assert told["code"] == "tls"
    assert ca in told["detail"]


RESOLVER = """
import socket
from agent.store import fetcher
real = socket.getaddrinfo
socket.getaddrinfo = lambda host, port, **k: real("127.0.0.1" if host == "media.test" else host, port, **k)
raise SystemExit(fetcher.main())
"""


@pytest.mark.parametrize(
    ("extra", "code"), [([], "address"), (["127.0.0.1"], "done")], ids=["name only", "address listed literally"]
)
def test_a_listed_name_that_leads_to_a_private_address_is_refused_unless_the_address_is_listed(
    put: Any, server: ContentServer, tls: tuple[Path, Path], tmp_path: Path, extra: list[str], code: str
) -> None:
    raw, _ = put()
    child = Child([f"media.test:{server.port}", *extra], tls[0], run=("-c", RESOLVER))
    told = child.fetch(media_of(raw, f"https://media.test:{server.port}/media/a.mp3"), tmp_path / "x")
    child.stop()
    assert told["code"] == code
    assert bool(server.requests) == (code == "done")


def test_localhost_listed_means_this_machine(
    put: Any, server: ContentServer, tls: tuple[Path, Path], tmp_path: Path
) -> None:
    raw, _ = put()
    child = Child([f"localhost:{server.port}"], tls[0])
    told = child.fetch(media_of(raw, f"https://localhost:{server.port}/media/a.mp3"), tmp_path / "x")
    child.stop()
    assert told["code"] == "done"


def test_a_server_that_drips_is_given_up_and_what_came_is_kept(
    put: Any, server: ContentServer, tls: tuple[Path, Path], tmp_path: Path
) -> None:
    raw, media = put()
    child = Child([f"127.0.0.1:{server.port}"], tls[0], window_s=0.4)
    server.faults["a.mp3"] = Fault(bytes_per_s=5000.0)
    told = child.fetch(media, tmp_path / "x")
    assert (told["code"], told["final"]) == ("slow", False)
    assert 0 < told["got"] == (tmp_path / "x.part").stat().st_size
    server.faults["a.mp3"] = Fault(stall_after=50_000)
    assert child.fetch(media, tmp_path / "x")["code"] == "slow"
    server.faults.clear()
    assert child.fetch(media, tmp_path / "x")["code"] == "done"
    assert (tmp_path / "x").read_bytes() == raw
    child.stop()


def test_headers_that_never_end_are_given_up(tls: tuple[Path, Path], tmp_path: Path) -> None:
    import ssl

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*tls)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def drip() -> None:
        connection, _ = listener.accept()
        with context.wrap_socket(connection, server_side=True) as secure, listener:
            try:
                secure.recv(4096)
                secure.sendall(b"HTTP/1.1 200 OK\r\n")
                for n in range(1000):
                    secure.sendall(b"X-%d: y\r\n" % n)
                    time.sleep(0.05)
            except OSError:
                pass

    threading.Thread(target=drip, daemon=True).start()
    child = Child([f"127.0.0.1:{port}"], tls[0], window_s=0.4)
    told = child.fetch(media_of(b"x", f"https://127.0.0.1:{port}/a"), tmp_path / "x")
    child.stop()
    assert told["code"] == "slow"


def test_a_job_is_cancelled_at_once_and_resumed_later(
    child: Child, put: Any, server: ContentServer, tmp_path: Path
) -> None:
    raw, media = put()
    server.faults["a.mp3"] = Fault(stall_after=100_000)
    job = child.start(media, tmp_path / "x")
    wait_for(lambda: size_of(tmp_path / "x.part") > 50_000)
    child.send({"cancel": job})
    assert child.answer()["code"] == "cancelled"
    server.faults.clear()
    told = child.fetch(media, tmp_path / "x")
    assert told["code"] == "done"
    assert told["got"] < SIZE
    assert (tmp_path / "x").read_bytes() == raw


def test_kill_9_in_mid_download_then_resume(
    put: Any, server: ContentServer, tls: tuple[Path, Path], tmp_path: Path
) -> None:
    raw, media = put()
    for stall in (20_000, 100_000, 299_999):
        target = tmp_path / str(stall)
        server.faults["a.mp3"] = Fault(stall_after=stall, times=1)
        child = Child([f"127.0.0.1:{server.port}"], tls[0])
        child.start(media, target)
        wait_for(lambda t=target, s=stall: size_of(Path(f"{t}.part")) > s - 16_384)
        os.kill(child.process.pid, signal.SIGKILL)
        child.stop()
        assert not target.exists()
        again = Child([f"127.0.0.1:{server.port}"], tls[0])
        told = again.fetch(media, target)
        again.stop()
        assert told["code"] == "done"
        assert told["got"] < SIZE
        assert target.read_bytes() == raw


def test_the_fetcher_leaves_when_idle_and_when_its_owner_dies(
    put: Any, server: ContentServer, tls: tuple[Path, Path], tmp_path: Path
) -> None:
    _, media = put()
    idle = Child([f"127.0.0.1:{server.port}"], tls[0], idle_s=0.2)
    assert idle.fetch(media, tmp_path / "x")["code"] == "done"
    assert idle.process.wait(10) == 0
    server.faults["a.mp3"] = Fault(stall_after=10)
    busy = Child([f"127.0.0.1:{server.port}"], tls[0])
    busy.start(media, tmp_path / "y")
    assert busy.process.stdin is not None
    busy.process.stdin.close()
    assert busy.process.wait(10) == 0


def test_a_full_disk_is_told_as_such(child: Child, put: Any, small_disk: Path) -> None:
    _, media = put(size=2_000_000)
    told = child.fetch(media, small_disk / "x")
    assert (told["code"], told["final"]) == ("disk-full", False)
    assert not (small_disk / "x").exists()


def stream(*arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "agent.store.fetcher", "--stream", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def source(url: str, *more: str) -> subprocess.Popen[bytes]:
    return stream(url, f"--source={url}", *more)


@pytest.fixture
def live(server: ContentServer) -> Live:
    file = server.media / "loop.mp3"
    file.write_bytes(content(20_000))
    server.live["voh"] = Live(file, kbps=800)
    return server.live["voh"]


def test_a_relay_source_of_the_configuration_is_streamed_even_over_plain_http(
    server: ContentServer, live: Live
) -> None:
    relay = source(server.live_url("voh", plain=True))
    assert relay.stdout is not None
    heard = relay.stdout.read(60_000)
    start = heard[:64]
    twice = live.sound + live.sound
    at = twice.index(start)
    assert heard == (live.sound * 5)[at : at + 60_000]
    relay.stdout.close()
    assert relay.wait(10) == 0  # the listener went away


def test_a_cut_stream_ends_with_a_reason_for_the_caller(server: ContentServer, live: Live) -> None:
    relay = source(server.live_url("voh", plain=True))
    assert relay.stdout is not None
    relay.stdout.read(1000)
    live.cut()
    _, told = relay.communicate(timeout=10)
    assert relay.returncode == 4
    assert json.loads(told.splitlines()[-1])["code"] == "broken"
    gone = source(server.live_url("voh", plain=True))
    _, told = gone.communicate(timeout=10)
    assert (gone.returncode, json.loads(told.splitlines()[-1])["code"]) == (4, "http")


def test_a_stream_that_sends_nothing_is_given_up(server: ContentServer, live: Live) -> None:
    live.silenced = True  # without a silent file: connected, but no bytes
    relay = source(server.live_url("voh", plain=True), "--read-timeout", "0.5")
    _, told = relay.communicate(timeout=10)
    assert relay.returncode == 4
    assert "timed out" in json.loads(told.splitlines()[-1])["detail"]


def test_a_stream_of_an_order_needs_https_and_an_allowed_host(
    server: ContentServer, live: Live, tls: tuple[Path, Path]
) -> None:
    for told_to in ([], ["--source=http://127.0.0.1/other"]):  # what another source may, an order's stream may not
        refused = stream(server.live_url("voh", plain=True), *told_to)
        _, told = refused.communicate(timeout=10)
        assert (refused.returncode, json.loads(told.splitlines()[-1])["final"]) == (3, True)
    listed = stream(server.live_url("voh"), "--allow", f"127.0.0.1:{server.port}", "--ca", str(tls[0]))
    assert listed.stdout is not None
    assert listed.stdout.read(100)
    listed.stdout.close()
    assert listed.wait(10) == 0


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
