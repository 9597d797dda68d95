from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import signal
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.model.config import Content
from agent.model.events import MediaFailed, MediaReady
from agent.model.orders import Media
from agent.ports import Need
from agent.store.library import ContentLibrary, Timing, adopt, place
from province.content_server import ContentServer, Fault
from tests.integration.store.helpers import content, media_of
from tests.unit.store.helpers import Events

FAST = Timing(retry_s=0.02, retry_max_s=0.3, idle_s=0.3, connect_timeout_s=5, read_timeout_s=5, window_s=30)
SIZE = 100_000


class Bench:
    """A library on a folder, with its events."""

    def __init__(self, server: ContentServer, ca: Path, folder: Path) -> None:
        self.server = server
        self.ca = ca
        self.folder = folder

    @contextlib.contextmanager
    def library(self, max_mb: int = 64, timing: Timing = FAST, **more: Any) -> Iterator[tuple[ContentLibrary, Events]]:
        events = Events()
        allowed = Content(allowed_hosts=[f"127.0.0.1:{self.server.port}"], ca=str(self.ca), max_mb=max_mb)
        library = ContentLibrary(self.folder, allowed, events, timing=timing, **({"reserve_mb": 0} | more))
        library.start()
        try:
            yield library, events
        finally:
            library.stop()

    def put(self, name: str, size: int = SIZE) -> Media:
        raw = content(size, seed=zlib.crc32(name.encode()))
        (self.server.media / name).write_bytes(raw)
        return media_of(raw, f"{self.server.url}/{name}")

    def files(self) -> set[str]:
        return {p.name for p in (self.folder / "content").glob("??/*")}


@pytest.fixture
def bench(server: ContentServer, tls: tuple[Path, Path], tmp_path: Path) -> Bench:
    return Bench(server, tls[0], tmp_path / "data")


def ready(media: Media) -> Callable[[list[Any]], bool]:
    return lambda events: any(isinstance(e, MediaReady) and e.sha256 == media.sha256 for e in events)


def failed(media: Media) -> Callable[[list[Any]], list[MediaFailed]]:
    return lambda events: [e for e in events if isinstance(e, MediaFailed) and e.sha256 == media.sha256]


def need(media: Media, due: float = 0.0, weight: int = 0, *, pinned: bool = False) -> Need:
    return Need(media, due, weight, pinned)


def test_what_is_wanted_is_fetched_and_then_here(bench: Bench) -> None:
    media = bench.put("a.mp3")
    with bench.library() as (library, events):
        assert library.path(media.sha256) is None
        library.want([need(media)])
        (told,) = events.wait(ready(media))
        path = library.path(media.sha256)
        assert path == place(bench.folder / "content", media.sha256)
        assert told == MediaReady(media.sha256, str(path))
        assert hashlib.sha256(path.read_bytes()).hexdigest() == media.sha256


def test_200_wanted_files_come_in_the_order_in_which_they_are_due(bench: Bench) -> None:
    rng = random.Random(3)
    needs = [need(bench.put(f"{n}.mp3", 500 + n), due=1000.0 + n // 2, weight=n % 2) for n in range(200)]
    shuffled = needs.copy()
    rng.shuffle(shuffled)
    with bench.library() as (library, events):
        library.want(shuffled)
        events.wait(lambda all_: len(all_) == 200)
        wished = sorted(needs, key=lambda n: (n.due, -n.weight))
        assert [e.sha256 for e in events.of(MediaReady)] == [n.media.sha256 for n in wished]


def test_what_is_present_is_verified_once_and_reported_after_a_restart(bench: Bench) -> None:
    media = bench.put("a.mp3")
    with bench.library() as (library, events):
        library.want([need(media)])
        events.wait(ready(media))
    asked = len(bench.server.requests)
    with bench.library() as (library, events):
        assert library.path(media.sha256) is None  # not believed before it was verified
        library.want([need(media)])
        events.wait(ready(media))
        library.want([])
        library.want([need(media)])
        events.wait(lambda all_: len(all_) == 2)
    assert len(bench.server.requests) == asked


def test_a_file_that_rotted_on_the_card_is_fetched_anew(bench: Bench) -> None:
    media = bench.put("a.mp3")
    target = place(bench.folder / "content", media.sha256)
    target.parent.mkdir(parents=True)
    target.write_bytes(bytes(SIZE))
    with bench.library() as (library, events):
        library.want([need(media)])
        assert events.wait(ready(media)) == [MediaReady(media.sha256, str(target))]
        assert hashlib.sha256(target.read_bytes()).hexdigest() == media.sha256


def test_a_wrong_hash_never_becomes_ready_and_is_final(bench: Bench) -> None:
    media = bench.put("a.mp3")
    bench.server.faults["a.mp3"] = Fault(wrong_bytes=True)
    with bench.library() as (library, events):
        library.want([need(media)])
        (told,) = failed(media)(events.wait(failed(media)))
        assert told.final
        assert "SHA-256" in told.detail
        assert library.path(media.sha256) is None
        assert bench.files() == set()


def test_a_host_that_is_not_allowed_is_final_and_another_issuer_s_address_is_tried(bench: Bench) -> None:
    media = bench.put("a.mp3")
    strange = Media(media.sha256, media.size, "https://elsewhere.example/a.mp3", media.type)
    wrong_size = Media(media.sha256, media.size - 1, media.url, media.type)
    with bench.library() as (library, events):
        library.want([need(strange)])
        (told,) = failed(media)(events.wait(failed(media)))
        assert told.final
        assert "elsewhere.example" in told.detail
        library.want([need(strange), need(wrong_size), need(media, due=5)])
        events.wait(ready(media))


def test_a_broken_connection_is_retried_with_resume_until_it_is_whole(bench: Bench) -> None:
    media = bench.put("a.mp3")
    bench.server.faults["a.mp3"] = Fault(cut_after=30_000, times=3)
    with bench.library() as (library, events):
        library.want([need(media)])
        told = events.wait(ready(media))
    assert {e.final for e in told if isinstance(e, MediaFailed)} == {False}
    assert [r.range for r in bench.server.requests][1:] != [None, None, None]


def test_the_same_trouble_is_told_once_however_often_it_is_retried(bench: Bench) -> None:
    media = bench.put("a.mp3")
    bench.server.faults["a.mp3"] = Fault(status=503, times=4)
    with bench.library() as (library, events):
        library.want([need(media)])
        told = events.wait(ready(media))
        assert [type(e) for e in told] == [MediaFailed, MediaReady]
        assert "503" in told[0].detail
    assert len(bench.server.requests) == 5


def test_an_emergency_goes_before_a_download_under_way_which_resumes_later(bench: Bench) -> None:
    big, alert = bench.put("big.mp3"), bench.put("alert.mp3", 1000)
    bench.server.faults["big.mp3"] = Fault(stall_after=50_000, times=1)
    with bench.library() as (library, events):
        library.want([need(big, due=100.0)])
        wait_for_part(bench, big, 40_000)
        library.want([need(big, due=100.0), need(alert, due=1.0, weight=2)])
        events.wait(ready(big))
        assert [e.sha256 for e in events.of(MediaReady)] == [alert.sha256, big.sha256]
        assert events.of(MediaFailed) == []


def test_what_is_no_longer_wanted_stops_downloading(bench: Bench) -> None:
    big, other = bench.put("big.mp3"), bench.put("other.mp3")
    bench.server.faults["big.mp3"] = Fault(stall_after=50_000)
    with bench.library() as (library, events):
        library.want([need(big)])
        wait_for_part(bench, big, 40_000)
        library.want([need(other, due=9.0)])
        assert events.wait(ready(other)) == events.of(MediaReady)


def test_the_fetcher_is_there_only_while_there_is_something_to_do(bench: Bench) -> None:
    first, second = bench.put("a.mp3"), bench.put("b.mp3")
    with bench.library() as (library, events):
        assert library._child is None
        library.want([need(first)])
        events.wait(ready(first))
        wait(lambda: library._child is None)
        library.want([need(first), need(second)])
        events.wait(ready(second))


def test_kill_9_of_the_fetcher_in_mid_download_is_survived(bench: Bench) -> None:
    media = bench.put("a.mp3")
    bench.server.faults["a.mp3"] = Fault(stall_after=60_000, times=1)
    with bench.library() as (library, events):
        library.want([need(media)])
        wait_for_part(bench, media, 50_000)
        assert library._child is not None
        os.kill(library._child.pid, signal.SIGKILL)
        told = events.wait(ready(media))
        assert [e.final for e in told if isinstance(e, MediaFailed)] == [False]
    assert bench.server.requests[-1].range is not None


def test_a_download_goes_on_after_the_agent_was_restarted(bench: Bench) -> None:
    media = bench.put("a.mp3")
    bench.server.faults["a.mp3"] = Fault(stall_after=60_000, times=1)
    with bench.library() as (library, _):
        library.want([need(media)])
        wait_for_part(bench, media, 50_000)
    with bench.library() as (library, events):
        library.want([need(media)])
        events.wait(ready(media))
    assert bench.server.requests[-1].range is not None


def test_adopt_copies_a_file_in_and_names_it_by_its_hash(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "Mời họp.wav"
    file.write_bytes(content(5000))
    with bench.library() as (library, events):
        media = library.adopt(file)
        assert (media.size, media.type, media.url) == (5000, "audio/x-wav", f"local:{media.sha256}")
        path = library.path(media.sha256)
        assert path is not None
        assert path.read_bytes() == file.read_bytes()
        library.want([need(media)])
        events.wait(ready(media))
    assert not list(bench.folder.glob("content/.adopt-*"))
    empty = tmp_path / "empty.wav"
    empty.touch()
    with pytest.raises(ValueError, match=r"empty\.wav"):
        adopt(bench.folder / "content", empty)


def test_what_another_process_adopted_is_found_when_wanted_and_its_loss_is_final(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    file.write_bytes(content(5000))
    with bench.library() as (library, events):
        media = adopt(bench.folder / "content", file)
        library.want([need(media)])
        events.wait(ready(media))
        place(library.folder, media.sha256).unlink()
        assert library.path(media.sha256) is None
        library.want([need(media)])
        (told,) = failed(media)(events.wait(failed(media)))
        assert told.final


def test_the_least_recently_needed_gives_way_and_what_is_wanted_or_pinned_stays(bench: Bench) -> None:
    size = 5 * 2**20
    old, older, pinned, fresh = (bench.put(f"{n}.mp3", size) for n in ("old", "older", "pinned", "fresh"))
    with bench.library(max_mb=16) as (library, events):
        library.want([need(old), need(older), need(pinned)])
        events.wait(lambda all_: len(all_) == 3)
        os.utime(place(library.folder, older.sha256), (1, 1))
        library.want([need(pinned, pinned=True), need(fresh)])
        events.wait(ready(fresh))
        assert bench.files() == {old.sha256, pinned.sha256, fresh.sha256}
        assert library.path(older.sha256) is None


def test_a_full_library_refuses_what_is_later_and_lets_a_sooner_one_in(bench: Bench) -> None:
    size = 5 * 2**20
    first, second, third, late, soon = (bench.put(f"{n}.mp3", size) for n in ("1", "2", "3", "late", "soon"))
    held = [need(first, 10), need(second, 20), need(third, 30, pinned=True)]
    with bench.library(max_mb=16) as (library, events):
        library.want(held)
        events.wait(lambda all_: len(all_) == 3)
        library.want([*held, need(late, 99)])
        (told,) = failed(late)(events.wait(failed(late)))
        assert not told.final
        assert "no room for 5.0 MB" in told.detail
        assert bench.files() == {first.sha256, second.sha256, third.sha256}
        library.want([*held, need(soon, 5)])
        events.wait(ready(soon))
        assert bench.files() == {first.sha256, third.sha256, soon.sha256}  # the latest that is not pinned went
        (told, *_) = failed(second)(events.all)
        assert not told.final


def test_a_full_disk_is_told_pinned_files_stay_and_it_goes_on_when_there_is_room(
    server: ContentServer, tls: tuple[Path, Path], small_disk: Path
) -> None:
    bench = Bench(server, tls[0], small_disk)
    pinned, big = bench.put("pinned.mp3", 300_000), bench.put("big.mp3", 500_000)
    filler = small_disk / "filler"
    with bench.library() as (library, events):
        library.want([need(pinned, pinned=True)])
        events.wait(ready(pinned))
        filler.write_bytes(bytes(500_000))
        library.want([need(pinned, pinned=True), need(big)])
        (told, *_) = failed(big)(events.wait(failed(big)))
        assert "no room" in told.detail
        assert not told.final
        assert library.path(pinned.sha256) is not None
        filler.unlink()
        events.wait(ready(big))


def test_a_disk_that_fills_up_during_a_download_gives_the_partial_file_back(
    server: ContentServer, tls: tuple[Path, Path], small_disk: Path
) -> None:
    bench = Bench(server, tls[0], small_disk)
    big = bench.put("big.mp3", 600_000)
    server.faults["big.mp3"] = Fault(bytes_per_s=1_000_000, times=1)
    filler = small_disk / "filler"
    with bench.library(timing=Timing(retry_s=30)) as (library, events):
        library.want([need(big)])
        wait_for_part(bench, big, 90_000)
        with contextlib.suppress(OSError), filler.open("wb") as f:
            f.write(bytes(2**20))
        (told, *_) = failed(big)(events.wait(failed(big)))
        assert "cannot be written" in told.detail
        assert bench.files() == set()


def test_a_folder_that_cannot_be_used_is_told_not_thrown(bench: Bench) -> None:
    media = bench.put("a.mp3")
    bench.folder.parent.mkdir(exist_ok=True)
    bench.folder.write_text("in the way")
    with bench.library() as (library, events):
        library.want([need(media)])
        (told, *_) = failed(media)(events.wait(failed(media)))
        assert "cannot be used" in told.detail
        assert not told.final
        bench.folder.unlink()
        bench.folder.mkdir()
        (bench.folder / "content").mkdir()
        events.wait(ready(media))


def test_leftovers_of_earlier_runs_are_removed_at_start(bench: Bench) -> None:
    media = bench.put("a.mp3")
    folder = bench.folder / "content" / "aa"
    folder.mkdir(parents=True)
    half = bench.folder / "content" / ".adopt-x"
    half.write_bytes(b"half")
    os.utime(half, (1, 1))
    (bench.folder / "content" / ".adopt-y").write_bytes(b"another process is at it")
    old, young, empty = folder / ("aa" * 32 + ".part"), folder / ("ab" * 32 + ".part"), folder / ("ac" * 32)
    old.write_bytes(b"x")
    os.utime(old, (1, 1))
    young.write_bytes(b"x")
    empty.touch()
    with bench.library() as (library, events):
        library.want([need(media)])
        events.wait(ready(media))
    assert bench.files() == {young.name, media.sha256}
    assert [p.name for p in bench.folder.glob("content/.adopt-*")] == [".adopt-y"]
    shutil.rmtree(bench.folder)


def wait_for_part(bench: Bench, media: Media, size: int) -> None:
    part = Path(f"{place(bench.folder / 'content', media.sha256)}.part")
    wait(lambda: part.exists() and part.stat().st_size >= size)


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
