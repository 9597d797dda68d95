"""The content library: media by hash under `{data_dir}/content/aa/<sha256>`, fetched ahead by a child process.

A file has its final name only when its SHA-256 was right, and is believed only after it was verified in this run: a
card may rot between two. One thread owns everything but `path`; the owner of the station never waits.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mimetypes
import os
import queue
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import Struct, field, structs

from agent.model.config import Content, Parent
from agent.model.events import MediaFailed, MediaReady
from agent.model.orders import Media
from agent.model.talk import LOCAL
from agent.ports import Inbox, Need
from agent.store.files import sync_folder

BLOCK = 1024 * 1024
MB = 2**20
PARENT = "parent"
"""The source that is asked first where there is one: the station of a cluster."""
HURRY_S = 60.0
"""What is due so soon is asked elsewhere as soon as the parent does not have it."""
PARENT_TRIES = 6
"""Anything else is not: a parent that is still fetching it itself saves the clusters' SIMs."""
ADOPTING = ".adopt-"
ADOPTING_S = 3600.0
_NAME = re.compile(r"[0-9a-f]{64}")
_PARENT_MEMBERS = (("url", "media"), ("ca", "ca"), ("cert", "cert"), ("key", "key"))


class Timing(Struct, frozen=True, kw_only=True):
    """How patient the library is. All in seconds; tests shorten them."""

    retry_s: float = 2.0
    """First back-off; doubles with each failure that brought nothing, with ±50 % jitter."""
    retry_max_s: float = 300.0
    idle_s: float = 5.0
    """The fetcher leaves after so long without a job."""
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 30.0
    window_s: float = 60.0
    orphan_s: float = 7 * 86_400.0
    """Partial files that nobody wants are removed at start when they are older."""


class _Wanted(Struct):
    """One hash that is wanted: its most urgent need, and where it can be had."""

    need: Need
    sources: dict[str, Media]
    refused: dict[str, str] = field(default_factory=dict)
    """Sources that will never do, with the reason."""
    tries: int = 0
    not_before: float = 0.0
    told: str | None = None
    refusals: int = 0
    """How often the parent did not have it."""
    past_parent: bool = False
    """Until the next round of tries the parent has been asked in vain."""

    @property
    def order(self) -> tuple[float, int]:
        """Soonest first; of equally soon ones the weightiest."""
        return (self.need.due, -self.need.weight)

    @property
    def source(self) -> str | None:
        """The first source that may still do."""
        left = [key for key in self.sources if key not in self.refused]
        return next((key for key in left if not (self.past_parent and key == PARENT)), None)

    def hurry(self, now: float) -> bool:
        """The parent has failed: whether another source is to be asked at once."""
        self.refusals += 1
        urgent = self.need.due - now < HURRY_S or self.refusals >= PARENT_TRIES
        self.past_parent = urgent and any(key != PARENT and key not in self.refused for key in self.sources)
        return self.past_parent


class _Job(NamedTuple):
    number: int
    sha256: str
    source: str
    cancelled: bool = False


class _Kept(NamedTuple):
    """A file in the folder."""

    path: Path
    sha256: str
    partial: bool
    size: int
    needed: float


class ContentLibrary:
    """`agent.ports.Library` on a folder.

    `post` receives MediaReady for every hash that is newly wanted and present or fetched, and MediaFailed when it
    cannot be had for now (told again only when the reason changes) or at all (`final`). Retries go on with jittered
    back-off while wanted. `parent`: the station that is asked before an order's own address. `reserve_mb`: so much of
    the disk is always left for the database.
    """

    def __init__(
        self,
        data_dir: Path | str,
        content: Content,
        post: Inbox,
        *,
        parent: Parent | None = None,
        timing: Timing | None = None,
        reserve_mb: float = 64,
    ) -> None:
        self.folder = Path(data_dir) / "content"
        self._parent = parent if parent is not None and parent.media is not None else None
        self._content = content
        self._post = post
        self._timing = timing or Timing()
        self._reserve = int(reserve_mb * MB)
        self._verified: dict[str, Path] = {}
        self._unsure: set[str] = set()
        """Wanted and present, but not yet verified in this run."""
        self._wanted: dict[str, _Wanted] = {}
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._child: subprocess.Popen[bytes] | None = None
        self._job: _Job | None = None
        self._numbers = 0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Remove what earlier runs left unfinished and begin to work on what is wanted."""
        self._thread = threading.Thread(target=self._run, name="library", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the fetcher (partial files stay) and the thread. May be called twice."""
        if self._thread is not None:
            self._inbox.put(None)
            self._thread.join()
            self._thread = None

    def want(self, needs: Sequence[Need]) -> None:
        """Replace the list of what is needed; returns at once."""
        self._inbox.put(partial(self._want, tuple(needs)))

    def path(self, sha256: str) -> Path | None:
        """The file, complete and verified in this run, or None. Callable from any thread."""
        path = self._verified.get(sha256)
        return path if path is not None and path.exists() else None

    def adopt(self, file: Path, type_: str | None = None) -> Media:
        """Copy a local file in, durably, and return it as Media whose URL is "local:<sha256>".

        Blocks for the copying: not for the owner's thread. Raises OSError (disk full) or ValueError (empty).
        """
        media = adopt(self.folder, file, type_)
        self._verified[media.sha256] = place(self.folder, media.sha256)
        return media

    # what follows runs in the library's own thread

    def _run(self) -> None:
        self._attempt(self._clean)
        while True:
            try:
                task = self._inbox.get(timeout=self._patience())
            except queue.Empty:
                task = _nothing
            if task is None:
                break
            self._attempt(task)
            self._attempt(self._step)
        self._leave()

    def _attempt(self, task: Callable[[], None]) -> None:
        """A disk that fails costs what is wanted now, not the library."""
        try:
            task()
        except OSError as error:
            for sha256, wanted in self._wanted.items():
                if self._missing(sha256, wanted):
                    self._fail(sha256, wanted, f"{self.folder} cannot be used: {error.strerror or error}")

    def _patience(self) -> float | None:
        """How long there is nothing to do. None: until something comes in."""
        if self._unsure:
            return 0.0
        waiting = [w.not_before for sha256, w in self._wanted.items() if self._missing(sha256, w)]
        if self._job is not None or not waiting:
            return None
        return max(0.0, min(waiting) - time.monotonic())

    def _missing(self, sha256: str, wanted: _Wanted) -> bool:
        """To be fetched."""
        return sha256 not in self._verified and sha256 not in self._unsure and wanted.source is not None

    def _want(self, needs: tuple[Need, ...]) -> None:
        former, self._wanted = self._wanted, {}
        for need in sorted(needs, key=lambda n: (n.due, -n.weight)):
            sha256 = need.media.sha256
            wanted = self._wanted.get(sha256)
            if wanted is None:
                wanted = self._wanted[sha256] = former.get(sha256) or _Wanted(need, {})
                wanted.need, wanted.sources = need, {}
                if self._parent is not None:
                    wanted.sources[PARENT] = structs.replace(need.media, url=f"{self._parent.media}/{sha256}")
            elif need.pinned:
                wanted.need = structs.replace(wanted.need, pinned=True)
            if self._parent is None or not need.media.url.startswith(LOCAL):  # the parent's own: only it has that
                wanted.sources[f"{need.media.size} {need.media.url}"] = need.media
        self._unsure &= self._wanted.keys()
        for sha256, wanted in self._wanted.items():
            path = place(self.folder, sha256)
            present = path.exists()
            if not present:
                self._verified.pop(sha256, None)
            if sha256 in self._verified:
                if sha256 not in former:
                    self._ready(sha256)
            elif present:
                self._unsure.add(sha256)
            else:
                self._refuse_local(sha256, wanted)

    def _refuse_local(self, sha256: str, wanted: _Wanted) -> None:
        for key, media in wanted.sources.items():
            if media.url.startswith(LOCAL) and key not in wanted.refused:
                self._refuse(sha256, wanted, key, f"{sha256[:8]}… was added on this station and is gone from its disk")

    def _ready(self, sha256: str) -> None:
        path = self._verified[sha256]
        with contextlib.suppress(OSError):
            os.utime(path)  # last needed: what eviction goes by
        wanted = self._wanted.get(sha256)
        if wanted is not None:
            wanted.tries, wanted.not_before, wanted.told = 0, 0.0, None
            self._post(MediaReady(sha256, str(path)))

    def _refuse(self, sha256: str, wanted: _Wanted, source: str, detail: str) -> None:
        """This source will never do; the last one's refusal is final."""
        wanted.refused[source] = detail
        if wanted.source is None:
            self._post(MediaFailed(sha256, detail, final=True))

    def _fail(self, sha256: str, wanted: _Wanted, detail: str, *, progress: bool = False) -> None:
        """Not now; again after a while."""
        wanted.past_parent = False
        wanted.tries = 1 if progress else wanted.tries + 1
        delay = min(self._timing.retry_max_s, self._timing.retry_s * 2 ** min(wanted.tries - 1, 20))
        wanted.not_before = time.monotonic() + delay * random.uniform(0.5, 1.5)  # noqa: S311 - jitter
        if detail != wanted.told:
            wanted.told = detail
            self._post(MediaFailed(sha256, detail, final=False))

    def _step(self) -> None:
        """Keep the fetcher busy with the most urgent missing file; meanwhile verify a present one."""
        now = time.monotonic()
        due = [(w.order, s) for s, w in self._wanted.items() if self._missing(s, w) and w.not_before <= now]
        if self._job is not None:
            current = self._wanted.get(self._job.sha256)
            if not self._job.cancelled and (current is None or (due and min(due)[0] < current.order)):
                self._job = self._job._replace(cancelled=True)
                self._tell({"cancel": self._job.number})
        elif due:
            _, sha256 = min(due)
            self._fetch(sha256, self._wanted[sha256])
        if self._unsure:
            self._verify(min(self._unsure, key=lambda s: (self._wanted[s].order, s)))

    def _verify(self, sha256: str) -> None:
        path = place(self.folder, sha256)
        self._unsure.discard(sha256)
        with path.open("rb") as file:
            intact = hashlib.file_digest(file, "sha256").hexdigest() == sha256
        if intact:
            self._verified[sha256] = path
            self._ready(sha256)
        else:
            path.unlink()
            self._refuse_local(sha256, self._wanted[sha256])

    def _fetch(self, sha256: str, wanted: _Wanted) -> None:
        source = wanted.source
        if source is None:
            return
        media = wanted.sources[source]
        shortage = self._make_room(sha256, wanted, media.size)
        if shortage > 0:
            detail = f"no room for {_mb(media.size)}: {_mb(shortage)} more would be needed, and nothing may give way"
            self._fail(sha256, wanted, detail)
            return
        self._numbers += 1
        self._job = _Job(self._numbers, sha256, source)
        target = str(place(self.folder, sha256))
        self._tell({"job": self._numbers, "sha256": sha256, "size": media.size, "url": media.url, "path": target})

    def _make_room(self, sha256: str, wanted: _Wanted, size: int) -> int:
        """Evict what may go, least recently needed first, until `size` fits. Returns the bytes that stay short.

        Nothing is evicted when that would not be enough. What is wanted gives way only to what is due sooner, never
        when pinned.
        """
        kept = list(self._kept())
        size -= sum(f.size for f in kept if f.sha256 == sha256)
        room = self._content.max_mb * MB - sum(f.size for f in kept)
        shortage = size - min(room, shutil.disk_usage(self.folder).free - self._reserve)
        if shortage <= 0:
            return 0
        unwanted = [f for f in kept if f.sha256 not in self._wanted]
        unwanted.sort(key=lambda f: (not f.partial, f.needed))
        later = [f for f in kept if f.sha256 in self._wanted and self._gives_way(self._wanted[f.sha256], wanted)]
        later.sort(key=lambda f: self._wanted[f.sha256].order, reverse=True)
        victims = [*unwanted, *later]
        if sum(f.size for f in victims) < shortage:
            return shortage - sum(f.size for f in victims)
        for victim in victims:
            if shortage <= 0:
                break
            self._evict(victim)
            shortage -= victim.size
        return 0

    @staticmethod
    def _gives_way(holder: _Wanted, newcomer: _Wanted) -> bool:
        return not holder.need.pinned and holder.order > newcomer.order

    def _evict(self, victim: _Kept) -> None:
        victim.path.unlink(missing_ok=True)
        self._unsure.discard(victim.sha256)
        known = self._verified.pop(victim.sha256, None)
        holder = self._wanted.get(victim.sha256)
        if holder is not None and known is not None:
            self._fail(victim.sha256, holder, "it gave way to something due sooner: the disk has no room for both")

    def _kept(self) -> Iterator[_Kept]:
        for path in self.folder.glob("??/*"):
            name, dot, rest = path.name.partition(".")
            if _NAME.fullmatch(name) and rest in {"", "part"}:
                with contextlib.suppress(FileNotFoundError):
                    told = path.stat()
                    yield _Kept(path, name, bool(dot), told.st_size, told.st_mtime)

    def _clean(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        now = time.time()
        for stray in self.folder.glob(f"{ADOPTING}*"):
            with contextlib.suppress(FileNotFoundError):
                if stray.stat().st_mtime < now - ADOPTING_S:  # younger: another process may be at it
                    stray.unlink()
        old = now - self._timing.orphan_s
        for file in self._kept():
            if file.size == 0 or (file.partial and file.needed < old):
                file.path.unlink()

    # the fetcher

    def _tell(self, message: dict[str, Any]) -> None:
        if self._child is None:
            self._child = self._hire()
        assert self._child.stdin is not None  # noqa: S101 - it was asked for
        with contextlib.suppress(BrokenPipeError):  # it has just left: _gone follows
            self._child.stdin.write(json.dumps(message).encode() + b"\n")
            self._child.stdin.flush()

    def _hire(self) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            [sys.executable, "-m", "agent.store.fetcher"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        threading.Thread(target=self._listen, args=(child,), name="fetcher", daemon=True).start()
        assert child.stdin is not None  # noqa: S101 - it was asked for
        settings = {
            "allowed_hosts": self._content.allowed_hosts,
            "ca": self._content.ca,
            "idle_s": self._timing.idle_s,
            "connect_timeout_s": self._timing.connect_timeout_s,
            "read_timeout_s": self._timing.read_timeout_s,
            "window_s": self._timing.window_s,
            "parent": None
            if self._parent is None
            else {name: getattr(self._parent, member) for name, member in _PARENT_MEMBERS},
        }
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(json.dumps(settings).encode() + b"\n")
        return child

    def _listen(self, child: subprocess.Popen[bytes]) -> None:
        """In a thread of its own: pass the fetcher's answers on."""
        assert child.stdout is not None  # noqa: S101 - it was asked for
        for line in child.stdout:
            self._inbox.put(partial(self._answered, line))
        self._inbox.put(partial(self._gone, child))

    def _answered(self, line: bytes) -> None:
        told = json.loads(line)
        job = self._job
        if job is None or told["job"] != job.number:
            return
        self._job = None
        if told["code"] == "done":
            self._verified[job.sha256] = place(self.folder, job.sha256)
            self._ready(job.sha256)
            return
        wanted = self._wanted.get(job.sha256)
        if told["code"] == "disk-full":
            self._give_back(job.sha256)
        if wanted is None or told["code"] == "cancelled":
            return
        if told["final"]:
            self._refuse(job.sha256, wanted, job.source, told["detail"])
        elif job.source == PARENT and told["got"] == 0 and wanted.hurry(time.time()):
            return
        else:
            self._fail(job.sha256, wanted, told["detail"], progress=told["got"] > 0)

    def _give_back(self, sha256: str) -> None:
        """A full disk stops the database too: the partial file gives its room back."""
        place(self.folder, sha256).with_suffix(".part").unlink(missing_ok=True)

    def _gone(self, child: subprocess.Popen[bytes]) -> None:
        code = child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        if self._child is not child:
            return
        job, self._child, self._job = self._job, None, None
        wanted = None if job is None else self._wanted.get(job.sha256)
        if code != 0 and job is not None and wanted is not None:
            self._fail(job.sha256, wanted, f"the fetcher ended unexpectedly ({code})")

    def _leave(self) -> None:
        child = self._child
        if child is None or child.stdin is None:
            return
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def place(folder: Path, sha256: str) -> Path:
    """Where a hash's file is, or would be, in the content folder."""
    return folder / sha256[:2] / sha256


def adopt(folder: Path, file: Path, type_: str | None = None) -> Media:
    """Copy a local file into a content folder: temporary file, hash, fsync, rename, fsync of the folder.

    `type_` defaults to what the name says. Raises OSError, or ValueError when the file is empty.
    """
    if file.stat().st_size == 0:
        raise ValueError(f"{file} is empty")
    folder.mkdir(parents=True, exist_ok=True)
    hasher, size = hashlib.sha256(), 0
    handle, temporary = tempfile.mkstemp(prefix=ADOPTING, dir=folder)
    try:
        with os.fdopen(handle, "wb") as copy, file.open("rb") as source:
            while block := source.read(BLOCK):
                hasher.update(block)
                size += len(block)
                copy.write(block)
            copy.flush()
            os.fchmod(copy.fileno(), 0o644)  # decoders run as other users
            os.fsync(copy.fileno())
        sha256 = hasher.hexdigest()
        target = place(folder, sha256)
        target.parent.mkdir(exist_ok=True)
        os.rename(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    for changed in (target.parent, folder):
        sync_folder(changed)
    kind = type_ or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return Media(sha256=sha256, size=size, url=LOCAL + sha256, type=kind)


def _nothing() -> None:
    """A time to act has come."""


def _mb(size: int) -> str:
    return f"{size / MB:.1f} MB"
