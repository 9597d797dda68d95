from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.model.events import CommitFailed, Committed
from agent.store.database import LOG_KEPT_S, SqliteStore
from tests.unit.store.helpers import Events, append, chained, log_entry, one_of_each, order

OFFSETS = st.integers(0, 100 * 4096)
HITS = st.lists(st.tuples(st.one_of(st.integers(0, 300), OFFSETS), st.binary(min_size=1, max_size=64)), max_size=6)
_scratch = tempfile.TemporaryDirectory(prefix="tram-test-")
_folder = Path(_scratch.name)
_names = itertools.count()


def _sound_files() -> dict[str, bytes]:
    """A database of a killed agent: main file and write-ahead log, both with content."""
    path = _folder / "sound.db"
    events = Events()
    store = SqliteStore(path, events)
    store.load()
    store.submit(1, one_of_each())
    events.outcome(1)
    assert store._connection is not None
    store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    entries = chained(*(log_entry() for _ in range(30)))[1:]
    store.submit(2, [append(e) for e in entries] + [order(f"j{i}", ctr=i) for i in range(30)])
    events.outcome(2)
    files = {suffix: Path(f"{path}{suffix}").read_bytes() for suffix in ("", "-wal")}
    store.close()
    return files


SOUND = _sound_files()


@settings(deadline=None, max_examples=120)
@given(main=HITS, wal=HITS, cut=st.none() | st.integers(0, len(SOUND[""])), with_wal=st.booleans())
def test_no_damage_makes_opening_raise_and_the_store_works_or_says_why(
    main: list[tuple[int, bytes]], wal: list[tuple[int, bytes]], cut: int | None, with_wal: bool
) -> None:
    path = _folder / f"{next(_names)}.db"
    path.write_bytes(_hit(SOUND[""], main)[:cut])
    if with_wal:
        Path(f"{path}-wal").write_bytes(_hit(SOUND["-wal"], wal))
    events = Events()
    store = SqliteStore(path, events)
    found = store.load()
    assert found.usable
    if found.detail is not None:
        assert found.empty
        assert list(_folder.glob(f"{path.name}.damaged-*"))
    store.submit(1, [*one_of_each()[:3], order("new")])
    store.prune(2, LOG_KEPT_S + 2e9, lambda _: "sealed")
    outcome = events.outcome(1)
    events.outcome(2)
    store.close()
    if found.detail is not None:
        assert outcome == Committed(1)
    # whatever happened at work, the next start has a store that takes writes
    again = SqliteStore(path, events := Events())
    second = again.load()
    assert second.usable
    if isinstance(outcome, Committed) and second.detail is None:
        assert any(o.jti == "new" for o in second.orders)
    again.submit(3, [order("newer", ctr=99)])
    last = events.outcome(3)
    again.close()
    if isinstance(outcome, CommitFailed):
        assert last == Committed(3)
    for file in _folder.glob(f"{path.name}*"):
        file.unlink()


def _hit(raw: bytes, hits: list[tuple[int, bytes]]) -> bytes:
    out = bytearray(raw)
    for at, noise in hits:
        start = at % len(raw)
        out[start : start + len(noise)] = noise
    return bytes(out[: len(raw)])
