"""What is kept in files of its own: killed before each step of writing it, it is whole, the old one or the new one.

A case is named by what is kept and the step; a step more than is named here fails.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import wave
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from agent.cli import recording
from agent.link.birth import BirthFile
from agent.model.orders import Media
from agent.model.playlog import Head
from agent.model.records import PutValue
from agent.sound import messages, speaking
from agent.store import database
from agent.store.fetcher import Fetcher
from agent.store.library import ContentLibrary, adopt, place
from agent.store.playlog import read, verify
from province.content_server import ContentServer
from province.record import Journal, Message, Record
from province.store import Province, Settings, replace_file
from tests.integration.kills import cuts
from tests.integration.store.helpers import certificate
from tests.unit.store.helpers import Events, append, chained, log_entry

OLD, NEW = b"old" * 9000, b"new" * 9000


def sound(path: Path, samples: int) -> Path:
    with wave.open(str(path), "wb") as out:
        out.setparams((1, 2, 48_000, 0, "NONE", ""))
        out.writeframes(b"\1\2" * samples)
    return path


class Case(Struct, frozen=True):
    """`before` prepares the folder; `work` is cut; `after` is the next start, which must find all in order.

    `after` may do the work once more, as the station would, and asserts what must hold whatever was cut.
    """

    before: Callable[[Path], object]
    work: Callable[[Path], object]
    after: Callable[[Path], object]
    steps: tuple[str, ...]


# birth


def _birth_before(folder: Path) -> None:
    assert BirthFile(folder / "birth")() == 1


def _birth_after(folder: Path) -> None:
    assert BirthFile(folder / "birth")() in (2, 3), "never one that was given out"


# media


def _media(folder: Path) -> Path:
    source = folder.parent / "source.wav"
    source.write_bytes(NEW)
    return source


def _adopt_after(folder: Path) -> None:
    events = Events()
    library = ContentLibrary(folder, _content(), events)
    library.start()
    try:
        media = library.adopt(_media(folder))
        path = library.path(media.sha256)
        assert path is not None
        assert path.read_bytes() == NEW
    finally:
        library.stop()
    whole = [p for p in (folder / "content").glob("??/*") if hashlib.sha256(p.read_bytes()).hexdigest() != p.name]
    assert not whole, "no file has a name that is not its hash"


def _content(**more: Any) -> Any:
    from agent.model.config import Content

    return Content(**more)


SHA = hashlib.sha256(NEW).hexdigest()


class Web:
    """A content server that the fetcher's cases share."""

    server: ContentServer
    ca: Path

    @classmethod
    def media(cls) -> Media:
        return Media(sha256=SHA, size=len(NEW), url=f"{cls.server.url}/a.wav", type="audio/wav")

    @classmethod
    def hosts(cls) -> list[str]:
        return [f"127.0.0.1:{cls.server.port}"]


def _fetch(folder: Path) -> None:
    media = Web.media()
    settings = {
        "allowed_hosts": Web.hosts(),
        "ca": str(Web.ca),
        "connect_timeout_s": 20.0,
        "read_timeout_s": 20.0,
        "window_s": 60.0,
        "idle_s": 1.0,
    }
    target = str(place(folder / "content", media.sha256))
    job = {"job": 1, "sha256": media.sha256, "size": media.size, "url": media.url, "path": target}
    assert Fetcher(settings).run(job)["code"] == "done"


def _half_fetched(folder: Path) -> None:
    part = place(folder / "content", SHA).with_suffix(".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(NEW[:9000])


def _fetch_after(folder: Path) -> None:
    from agent.ports import Need

    events = Events()
    library = ContentLibrary(folder, _content(allowed_hosts=Web.hosts(), ca=str(Web.ca)), events)
    library.start()
    try:
        library.want([Need(media=Web.media(), due=0.0, weight=1)])
        events.wait(lambda told: any(type(e).__name__ == "MediaReady" for e in told), timeout=60)
        path = library.path(SHA)
        assert path is not None
        assert path.read_bytes() == NEW
    finally:
        library.stop()
    assert not list((folder / "content").glob("??/*.part"))


# messages


def _pin_before(folder: Path) -> None:
    messages.pin(folder, "so-tan", sound(folder / "old.wav", 4800))


def _pin(folder: Path) -> None:
    messages.pin(folder, "so-tan", sound(folder.parent / "fresh.wav", 9600))


def _pin_after(folder: Path) -> None:
    kept = messages.describe(folder / "pinned" / "so-tan.wav")
    assert kept is not None
    assert kept.samples in (4800, 9600), "voice has the old message or the new one, whole"
    _pin(folder)
    assert messages.describe(folder / "pinned" / "so-tan.wav").samples == 9600  # type: ignore[union-attr]


def _record_before(folder: Path) -> None:
    (folder / "messages").mkdir()
    sound(folder / "messages" / "so-tan.wav", 4800)


def _record(folder: Path) -> None:
    scratch = folder / "messages" / ".new-x"
    scratch.mkdir(exist_ok=True)
    fresh = sound(folder.parent / "recorded.wav", 9600)
    (scratch / "sound.wav").hardlink_to(fresh)
    recording._put(scratch / "sound.wav", folder / "messages" / "so-tan.wav")


def _record_after(folder: Path) -> None:
    found = messages.recorded(folder, ["so-tan"])
    assert found["so-tan"].samples in (4800, 9600), "the old recording or the new one, whole"


# speech


def _speak(folder: Path) -> None:
    engine = {"engine": "tests.integration.kills.engine", "resampler": "drivers.soxr"}
    job = {"text": "Mời họp", "lang": "vi", "voice": "v", "speed": 150, "path": str(folder / "speech" / "a.wav")}
    speaking.render(job | engine)


def _speech_before(folder: Path) -> None:
    (folder / "speech").mkdir()


def _speech_after(folder: Path) -> None:
    from agent.sound.speech import OfflineSpeech

    OfflineSpeech(Events(), folder / "speech", engine="tests.integration.kills.engine")
    assert not list((folder / "speech").glob("*.part")), "what a killed child left is swept up"
    whole = folder / "speech" / "a.wav"
    assert not whole.exists() or messages.describe(whole) is not None


# the store


def _writes() -> Iterator[list[Any]]:
    entries = chained(*[log_entry(bulletin=f"tin-{n}") for n in range(1, 4)])
    for n, entry in enumerate(entries, 1):
        yield [append(entry), PutValue(key="last", value=b"%d" % n)]


def _statement(sql: str) -> None:
    cuts.report(sql.split(maxsplit=1)[0].lower())


def _load(folder: Path) -> Any:
    store = database.SqliteStore(folder / "tram.db", Events())
    found = store.load()
    store.close()
    assert found.detail is None, "nothing is damaged"
    return found


def _commit(folder: Path) -> None:
    events = Events()
    store = database.SqliteStore(folder / "tram.db", events)
    store.load()
    assert store._connection is not None
    store._connection.set_trace_callback(_statement)
    for batch, writes in enumerate(_writes(), 1):
        store.submit(batch, writes)
        events.outcome(batch)
    store._connection.set_trace_callback(None)
    store.close()


def _store_after(folder: Path) -> None:
    found = _load(folder)
    assert found.log_n == int(found.values.get("last", b"0")), "a batch is there or is not"
    assert not verify(read(folder / "tram.db").entries)


def _prune(folder: Path) -> None:
    """Thirteen months later."""
    with closing(database.connect(folder / "tram.db")) as connection:
        connection.set_trace_callback(_statement)
        connection.execute("BEGIN IMMEDIATE")
        database.prune(connection, 1_900_000_000.0, lambda _: "signature")
        connection.execute("COMMIT")
        connection.set_trace_callback(None)


def _prune_after(folder: Path) -> None:
    found = _load(folder)
    log = read(folder / "tram.db")
    assert found.log_n == 3, "the chain goes on where it was"
    assert not verify(log.entries, log.checkpoint, (found.log_n, found.log_hash))
    assert len(log.entries) == 3 if log.checkpoint is None else not log.entries
    assert log.checkpoint is None or Head(log.checkpoint.n, log.checkpoint.hash) == Head(3, found.log_hash)


# the province


def _province(folder: Path) -> Province:
    return Province(folder) if (folder / "province.yaml").exists() else _made(folder)


def _made(folder: Path) -> Province:
    from agent.model.orders import Class
    from agent.trust.authorities import AuthorityEntry

    entry = AuthorityEntry(
        id="tinh", level="province", rank=100, keys=[], ops=["*"], max_class=Class.EMERGENCY, units=["84"], zones=["*"]
    )
    return Province.create(folder, [entry], settings=Settings(name="Tỉnh Mẫu"))


def _count_before(folder: Path) -> None:
    there = _made(folder)
    assert there.next_ctr("kid") == 1
    assert there.next_version("tinh", "xa", "silence") == 1


def _count_after(folder: Path) -> None:
    assert Province(folder).next_ctr("kid") in (2, 3), "one may be skipped, none is used twice"


def _version_after(folder: Path) -> None:
    assert Province(folder).next_version("tinh", "xa", "silence") in (2, 3)


def _province_media(folder: Path) -> None:
    Province(folder).media(_media(folder))


def _province_media_after(folder: Path) -> None:
    there = Province(folder)
    for kept in there.media_dir.glob("[0-9a-f]*"):
        assert hashlib.sha256(kept.read_bytes()).hexdigest() == kept.stem
    media = there.media(_media(folder))
    assert (there.media_dir / media.url.rsplit("/", 1)[1]).read_bytes() == NEW


def _replace_before(folder: Path) -> None:
    replace_file(folder / "authorities.json", OLD)


def _replace(folder: Path) -> None:
    replace_file(folder / "authorities.json", NEW)


def _replace_after(folder: Path) -> None:
    assert (folder / "authorities.json").read_bytes() in (OLD, NEW)


def _messages() -> list[Message]:
    bodies = [{"kind": "alarm", "what": "x", "detail": "", "on": True, "seq": n, "at": "…"} for n in (1, 2, 3)]
    return [
        Message("tram/1/dev/xa-mau/event", json.dumps(b).encode(), 1_790_000_000.0 + n) for n, b in enumerate(bodies)
    ]


def _journal(folder: Path) -> None:
    journal, record = Journal(folder / "record.sqlite"), Record(known=["xa-mau"])
    journal._db.set_trace_callback(_statement)
    for message in _messages():
        journal.write(message, record.take(message), record)
        journal.commit()
    journal._db.set_trace_callback(None)
    journal.close()


def _journal_after(folder: Path) -> None:
    """What the broker was told is there; the rest comes again from it and is there once."""
    journal, record = Journal(folder / "record.sqlite"), Record(known=["xa-mau"])
    journal.load(record)
    for message in _messages():
        journal.write(message, record.take(message), record)
        journal.commit()
    journal.close()
    assert [row["body"]["seq"] for row in record.export()["events"]] == [1, 2, 3]
    with closing(sqlite3.connect(folder / "record.sqlite")) as db:
        assert db.execute("SELECT count(*) FROM message").fetchone() == (3,)


def _nothing(folder: Path) -> None:
    """An empty folder."""


BATCH = ("begin", "savepoint", "insert", "insert", "release", "commit")
PRUNING = ("begin", "delete", "delete", "select", "insert", "delete", "commit")
OPEN_SYNC_RENAME = ("open", "fsync", "rename", "fsync")
CASES: dict[str, Case] = {
    "birth": Case(_birth_before, lambda f: BirthFile(f / "birth")(), _birth_after, OPEN_SYNC_RENAME),
    "adopted": Case(_nothing, lambda f: adopt(f / "content", _media(f)), _adopt_after, (*OPEN_SYNC_RENAME, "fsync")),
    "download": Case(_nothing, _fetch, _fetch_after, OPEN_SYNC_RENAME),
    "download-resumed": Case(_half_fetched, _fetch, _fetch_after, OPEN_SYNC_RENAME),
    "pinned": Case(_pin_before, _pin, _pin_after, OPEN_SYNC_RENAME),
    "recording": Case(_record_before, _record, _record_after, ("fsync", "remove", "link", "rename", "fsync")),
    "speech": Case(_speech_before, _speak, _speech_after, (*OPEN_SYNC_RENAME, "remove")),
    "store": Case(_nothing, _commit, _store_after, ("fsync", "remove", *BATCH * 3)),
    "store-pruned": Case(_commit, _prune, _prune_after, PRUNING),
    "province-counter": Case(
        _count_before, lambda f: Province(f).next_ctr("kid"), _count_after, ("open", *OPEN_SYNC_RENAME)
    ),
    "province-version": Case(
        _count_before,
        lambda f: Province(f).next_version("tinh", "xa", "silence"),
        _version_after,
        ("open", *OPEN_SYNC_RENAME),
    ),
    "province-media": Case(_made, _province_media, _province_media_after, ("open", "fsync", "rename", "remove")),
    "province-file": Case(_replace_before, _replace, _replace_after, OPEN_SYNC_RENAME),
    "province-record": Case(_nothing, _journal, _journal_after, ("begin", "insert", "commit") * 3),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    there = tmp_path / "data"
    there.mkdir()
    return there


@pytest.fixture(scope="module", autouse=True)
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where the downloads come from."""
    base = tmp_path_factory.mktemp("web")
    (base / "media").mkdir()
    (base / "media" / "a.wav").write_bytes(NEW)
    Web.ca, key = certificate(base)
    Web.server = ContentServer(base / "media", Web.ca, key)
    Web.server.start()
    yield
    Web.server.stop()


@pytest.mark.parametrize("kept", CASES)
def test_each_step_of_writing_is_named(kept: str, folder: Path) -> None:
    case = CASES[kept]
    case.before(folder)
    assert tuple(cuts.steps(case.work, folder)) == case.steps


@pytest.mark.parametrize(
    ("kept", "number"),
    [pytest.param(kept, n, id=f"{kept}-{n}-{step}") for kept, c in CASES.items() for n, step in enumerate(c.steps)],
)
def test_killed_before(kept: str, number: int, folder: Path) -> None:
    case = CASES[kept]
    case.before(folder)
    cuts.cut(case.work, folder, number)
    case.after(folder)


@pytest.mark.parametrize("kept", CASES)
def test_killed_after_the_last_step(kept: str, folder: Path) -> None:
    case = CASES[kept]
    case.before(folder)
    cuts.cut(_then_die(case.work), folder, len(case.steps))
    case.after(folder)


def _then_die(work: Callable[[Path], object]) -> Callable[[Path], object]:
    def both(folder: Path) -> None:
        work(folder)
        cuts.report("end")

    return both
