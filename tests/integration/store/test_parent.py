"""A cluster's library and its station's: the station is asked first, and gives out only what is whole."""

from __future__ import annotations

import audioop
import contextlib
import hashlib
import http.client
import math
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from agent.model.config import ClusterLink, Content, Parent
from agent.model.events import Alarm, MediaFailed, MediaReady
from agent.model.orders import Media
from agent.model.talk import OVER, TALK_RATE
from agent.model.voice import PERIOD, RATE
from agent.ports import Need
from agent.store.library import ContentLibrary, Timing, adopt, place
from agent.store.serving import Serving
from agent.voice.main import passing_on
from province.content_server import ContentServer
from province.pki import Identity, Pki, make
from tests.integration.link.test_hub import free_port
from tests.integration.store.helpers import content, media_of
from tests.unit.store.helpers import Events

FAST = Timing(retry_s=0.02, retry_max_s=0.2, idle_s=0.3, connect_timeout_s=5, read_timeout_s=5, window_s=30)
SIZE = 400_000


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    made = make(tmp_path_factory.mktemp("pki"), ["cum-1"])
    made.server("lan")
    return made


class Commune:
    """A station's library that is served, a cluster's library, and the province's content server."""

    def __init__(self, pki: Pki, server: ContentServer, ca: Path, folder: Path) -> None:
        self.pki, self.server, self.ca = pki, server, ca
        self.station, self.cluster = folder / "station" / "content", folder / "cluster"
        self.station.mkdir(parents=True)
        self.port = free_port()
        self.events = Events()
        self.talks = folder / "talk.sock"

    @contextlib.contextmanager
    def serving(self, identity: Identity | None = None) -> Iterator[Serving]:
        lan = identity or self.pki.identity("lan")
        files = {"ca": str(self.pki.ca), "cert": str(lan.cert), "key": str(lan.key)}
        link = ClusterLink(host="127.0.0.1", media_port=self.port, group="g", **files)
        made = Serving(self.station, self.talks, link, ["cum-1"], self.events)
        made.start()
        try:
            yield made
        finally:
            made.stop()

    def wait_serving(self) -> None:
        end = time.monotonic() + 15
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                self.get("/")
                return
            time.sleep(0.02)
        raise AssertionError("it does not serve")

    def connection(self) -> http.client.HTTPSConnection:
        """The cluster's, with its certificate."""
        identity = self.pki.identity("cum-1")
        context = ssl.create_default_context(cafile=str(self.pki.ca))
        context.load_cert_chain(identity.cert, identity.key)
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=5)

    def opens(self, path: str) -> int:
        """What it is answered; what would follow is not waited for."""
        with contextlib.closing(self.connection()) as connection:
            connection.request("GET", path)
            return connection.getresponse().status

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        with contextlib.closing(self.connection()) as connection:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()

    @contextlib.contextmanager
    def library(self) -> Iterator[tuple[ContentLibrary, Events]]:
        events = Events()
        allowed = Content(allowed_hosts=[f"127.0.0.1:{self.server.port}"], ca=str(self.ca))
        identity = self.pki.identity("cum-1")
        parent = Parent(
            host="127.0.0.1",
            ca=str(self.pki.ca),
            cert=str(identity.cert),
            key=str(identity.key),
            media=f"https://127.0.0.1:{self.port}/media",
        )
        library = ContentLibrary(self.cluster, allowed, events, parent=parent, timing=FAST, reserve_mb=0)
        library.start()
        try:
            yield library, events
        finally:
            library.stop()

    def at_station(self, raw: bytes) -> Media:
        scratch = self.station.parent / "scratch.mp3"
        scratch.write_bytes(raw)
        return adopt(self.station, scratch)

    def at_province(self, raw: bytes) -> Media:
        (self.server.media / "x.mp3").write_bytes(raw)
        return media_of(raw, f"{self.server.url}/x.mp3")


@pytest.fixture
def commune(pki: Pki, server: ContentServer, tls: tuple[Path, Path], tmp_path: Path) -> Commune:
    return Commune(pki, server, tls[0], tmp_path)


def soon(media: Media) -> list[Need]:
    return [Need(media, 0.0, 0)]


def later(media: Media) -> list[Need]:
    return [Need(media, time.time() + 3600, 0)]


def came(events: Events) -> None:
    events.wait(lambda all_: [e for e in all_ if isinstance(e, MediaReady)])


def test_what_the_station_has_is_fetched_there_and_not_from_the_province(commune: Commune) -> None:
    raw = content(SIZE)
    commune.at_station(raw)
    media = commune.at_province(raw)
    with commune.serving(), commune.library() as (library, events):
        commune.wait_serving()
        library.want(soon(media))
        came(events)
        path = library.path(media.sha256)
    assert path is not None
    assert path.read_bytes() == raw
    assert commune.server.requests == []


def test_what_the_station_added_itself_is_to_be_had_from_it_alone(commune: Commune) -> None:
    media = commune.at_station(content(SIZE))
    assert media.url.startswith("local:")
    with commune.library() as (library, events):
        library.want(soon(media))
        events.wait(lambda all_: any(isinstance(e, MediaFailed) and not e.final for e in all_))
        with commune.serving():
            came(events)


@pytest.mark.parametrize("case", ["it does not have it", "it is gone", "it has other bytes"])
def test_what_the_station_cannot_give_is_fetched_where_the_order_says(commune: Commune, case: str) -> None:
    raw = content(SIZE)
    media = commune.at_province(raw)
    if case == "it has other bytes":
        rotten = place(commune.station, media.sha256)
        rotten.parent.mkdir(parents=True)
        rotten.write_bytes(content(SIZE, seed=9))
    with contextlib.ExitStack() as stack:
        if case != "it is gone":
            stack.enter_context(commune.serving())
            commune.wait_serving()
        library, events = stack.enter_context(commune.library())
        library.want(soon(media))
        came(events)
    assert len(commune.server.requests) == 1


def test_what_is_not_due_soon_waits_for_a_station_that_is_still_fetching_it(commune: Commune) -> None:
    raw = content(SIZE)
    media = commune.at_province(raw)
    with commune.serving(), commune.library() as (library, events):
        commune.wait_serving()
        library.want(later(media))
        events.wait(lambda all_: any(isinstance(e, MediaFailed) for e in all_))
        commune.at_station(raw)
        came(events)
    assert commune.server.requests == []


def test_a_file_is_given_out_whole_or_in_part(commune: Commune) -> None:
    raw = content(SIZE)
    media = commune.at_station(raw)
    path = f"/media/{media.sha256}"
    with commune.serving():
        commune.wait_serving()
        status, headers, body = commune.get(path)
        assert (status, headers["Content-Length"], body) == (200, str(SIZE), raw)
        status, headers, body = commune.get(path, Range="bytes=100-199")
        assert (status, headers["Content-Range"], body) == (206, f"bytes 100-199/{SIZE}", raw[100:200])
        assert commune.get(path, Range=f"bytes={SIZE - 10}-")[2] == raw[-10:]
        assert commune.get(path, Range=f"bytes={SIZE}-")[0] == 416
        assert commune.get(path, method="HEAD")[2] == b""
        for nothing in ("/", "/media/", f"/media/{media.sha256[:10]}", f"/media/{media.sha256}.part", "/media/../x"):
            assert commune.get(nothing)[0] == 404


def test_what_is_incomplete_or_has_rotted_is_not_given_out(commune: Commune) -> None:
    raw = content(SIZE)
    sha256 = hashlib.sha256(raw).hexdigest()
    target = place(commune.station, sha256)
    target.parent.mkdir(parents=True)
    target.with_suffix(".part").write_bytes(raw[:1000])
    with commune.serving():
        commune.wait_serving()
        assert commune.get(f"/media/{sha256}")[0] == 404
        target.write_bytes(raw[:-1] + b"!")
        assert commune.get(f"/media/{sha256}")[0] == 404


def test_one_who_shows_no_certificate_of_ours_gets_nothing(commune: Commune, tmp_path: Path) -> None:
    foreign = make(tmp_path / "foreign", ["cum-1"]).identity("cum-1")
    with commune.serving():
        commune.wait_serving()
        for identity in (None, foreign):
            context = ssl.create_default_context(cafile=str(commune.pki.ca))
            if identity is not None:
                context.load_cert_chain(identity.cert, identity.key)
            connection = http.client.HTTPSConnection("127.0.0.1", commune.port, context=context, timeout=5)
            with contextlib.closing(connection), pytest.raises(OSError):  # noqa: PT011 - however TLS says no
                _answer(connection)


def _answer(connection: http.client.HTTPSConnection) -> http.client.HTTPResponse:
    connection.request("GET", "/")
    return connection.getresponse()


def test_strangers_who_only_connect_do_not_shut_the_clusters_out_for_good(commune: Commune) -> None:
    media = commune.at_station(content(1000))
    with commune.serving(), contextlib.ExitStack() as crowd:
        commune.wait_serving()
        for _ in range(100):
            crowd.enter_context(socket.create_connection(("127.0.0.1", commune.port), 5))
        with pytest.raises(OSError):  # noqa: PT011 - closed, or reset
            commune.get(f"/media/{media.sha256}")
        crowd.close()
        commune.wait_serving()
        assert commune.get(f"/media/{media.sha256}")[0] == 200


def test_a_server_that_dies_is_started_again_and_one_that_cannot_begin_is_an_alarm(commune: Commune) -> None:
    with commune.serving() as serving:
        commune.wait_serving()
        pid = serving.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        events = commune.events.wait(lambda all_: all_ if len(all_) >= 2 else None)
        assert [(e.what, e.on) for e in events if isinstance(e, Alarm)][:2] == [
            ("cluster-media", True),
            ("cluster-media", False),
        ]
    missing = Identity(commune.station / "no.crt", commune.station / "no.key")
    with commune.serving(missing):
        commune.events.wait(lambda all_: [e for e in all_[2:] if isinstance(e, Alarm) and e.on])
    assert "No such file" in commune.events.of(Alarm)[-1].detail


# what an officer says live

PLAY = "xa/button-noi#7.1"
SAMPLES = array("h", (round(12_000 * math.sin(2 * math.pi * 440 * i / RATE)) for i in range(RATE)))


def speak(commune: Commune, *, seconds: float = 1.0, end: bool = True) -> None:
    """What voice does: a period of 5 ms after the other, a little faster than in real time."""
    pass_on = passing_on(str(commune.talks))
    pass_on(PLAY, bytes(2 * PERIOD))
    for n in range(round(seconds * RATE / PERIOD)):
        at = n * PERIOD % RATE
        pass_on(PLAY, SAMPLES[at : at + PERIOD].tobytes())
        time.sleep(0.004)
    if end:
        pass_on(PLAY, b"")


def listen(commune: Commune, name: str = PLAY, parent: bool = True) -> subprocess.Popen[bytes]:
    """What a cluster's agent starts for its decoder."""
    identity = commune.pki.identity("cum-1")
    station = ["--parent", f"https://127.0.0.1:{commune.port}/media", commune.pki.ca, identity.cert, identity.key]
    command = [sys.executable, "-m", "agent.store.fetcher", *(station if parent else []), "--stream"]
    return subprocess.Popen([*command, f"local:{name}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def begun(commune: Commune) -> None:
    """The talk is on: a cluster can come."""
    send = passing_on(str(commune.talks))
    end = time.monotonic() + 15
    while time.monotonic() < end:
        send(PLAY, bytes(2 * PERIOD))
        with contextlib.suppress(OSError, http.client.HTTPException):
            if commune.opens(f"/media/talk/{quote(PLAY, safe='')}") == 200:
                return
        time.sleep(0.05)
    raise AssertionError("nobody listens to voice")


def listening(commune: Commune) -> subprocess.Popen[bytes]:
    """A cluster that hears the talk already."""
    begun(commune)
    cluster = listen(commune)
    assert cluster.stdout is not None
    assert cluster.stdout.read(100)
    return cluster


def test_a_cluster_hears_a_talk_from_when_it_comes_to_its_end_and_knows_that_it_was_the_end(commune: Commune) -> None:
    with commune.serving():
        commune.wait_serving()
        cluster = listening(commune)
        speak(commune)
        heard = array("h", cluster.stdout.read())
        assert cluster.wait(10) == OVER
        loud = [s for s in heard if abs(s) > 500]
        assert len(loud) == pytest.approx(TALK_RATE, rel=0.1)
        assert audioop.rms(array("h", heard[-TALK_RATE // 2 : -TALK_RATE // 10]).tobytes(), 2) == pytest.approx(
            8485, rel=0.02
        )
        late = listen(commune)  # voice says no more of it; it is over
        assert late.communicate(timeout=10)[0] == b""
        assert late.returncode == OVER


def test_a_talk_that_is_torn_off_is_not_taken_for_its_end(commune: Commune) -> None:
    with commune.serving() as serving:
        commune.wait_serving()
        cluster = listening(commune)
        assert serving.pid is not None
        os.kill(serving.pid, signal.SIGKILL)
        assert cluster.wait(10) == 4
    with commune.serving():
        commune.wait_serving()
        cluster = listening(commune)
        speak(commune, seconds=0.1, end=False)
        cluster.communicate(timeout=20)
        assert cluster.returncode == 4, "voice is gone"


@pytest.mark.parametrize(("parent", "code"), [(True, 4), (False, 3)], ids=["no such talk", "no station"])
def test_what_nobody_says_is_not_heard(commune: Commune, parent: bool, code: int) -> None:
    with commune.serving():
        commune.wait_serving()
        begun(commune)
        cluster = listen(commune, "another", parent)
        assert cluster.communicate(timeout=20)[0] == b""
        assert cluster.returncode == code


@pytest.mark.parametrize("clusters", [20, 102])
def test_so_many_clusters_hear_the_same(commune: Commune, clusters: int) -> None:
    """Each has a thread of its own at the station; it is made smaller once."""
    seconds = 4.0
    with commune.serving() as serving:
        commune.wait_serving()
        begun(commune)
        before = _cpu_s(serving.pid)
        heard = [b""] * clusters
        threads = [threading.Thread(target=_listen, args=(commune, heard, n)) for n in range(clusters)]
        for thread in threads:
            thread.start()
        _until(lambda: all(len(h) > 0 for h in heard), "all listen")
        connected = _cpu_s(serving.pid)
        began = time.monotonic()
        speak(commune, seconds=seconds)
        for thread in threads:
            thread.join(20)
        took, spent = time.monotonic() - began, _cpu_s(serving.pid) - connected
        loud = sorted(sum(abs(s) > 500 for s in array("h", h)) / TALK_RATE for h in heard)
        print(
            f"{clusters} clusters: {1000 * (connected - before) / clusters:.1f} ms of the station's processor for each "
            f"to come, then {100 * spent / took:.0f} % of one processor; each heard {loud[0]:.2f} … {loud[-1]:.2f} s "
            f"of {seconds:g} s"
        )
        assert loud[0] > 0.85 * seconds


def _listen(commune: Commune, heard: list[bytes], n: int) -> None:
    while True:
        with contextlib.suppress(OSError), contextlib.closing(commune.connection()) as connection:
            connection.request("GET", f"/media/talk/{quote(PLAY, safe='')}")
            answer = connection.getresponse()
            while block := answer.read1(4096):
                heard[n] += block
            return


def _cpu_s(pid: int | None) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _until(what: Callable[[], bool], why: str) -> None:
    end = time.monotonic() + 30
    while not what():
        assert time.monotonic() < end, why
        time.sleep(0.05)
