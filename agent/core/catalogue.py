"""Which sounds this station has: chimes, stored messages, spoken texts, fetched media. Items become cues here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct, structs

from agent.core.sentences import parts
from agent.model.config import Station
from agent.model.events import Sound
from agent.model.orders import Item, Media
from agent.model.talk import LOCAL, PATIENCE_S
from agent.model.voice import RATE
from agent.ports import Piece


class Cue(Struct, kw_only=True):
    """One item, or one part of a long text, as sound.

    Exactly one of: a `path`, a live `url`, the `microphone`, `pending`, or `failed` (why).
    """

    item: int
    content: str | None = None
    """SHA-256 for the play log: of the media file, or of the spoken, recorded or chime WAV."""
    path: str | None = None
    gain_db: float = 0.0
    level_lufs: float | None = None
    """Not measured, or live: it is levelled while it plays."""
    samples: int | None = None
    pinned: str | None = None
    url: str | None = None
    microphone: str | None = None
    """The button at which somebody speaks."""
    seconds: float | None = None
    silence_s: float = 10.0
    silence_dbfs: float = -60.0
    fallback: tuple[str, ...] = ()
    fallback_pending: bool = False
    """Something of a live item's fallback is still to come; a decoder must have it from the beginning."""
    pending: bool = False
    failed: str | None = None

    def piece(self) -> Piece:
        """For a decoder."""
        return Piece(
            item=self.item,
            path=self.path,
            url=self.url,
            gain_db=self.gain_db,
            level_lufs=self.level_lufs,
            seconds=self.seconds,
            silence_s=self.silence_s,
            silence_dbfs=self.silence_dbfs,
            fallback=self.fallback,
            talk=self.talk,
        )

    @property
    def talk(self) -> bool:
        """An officer speaks live at this cluster's station."""
        return self.url is not None and self.url.startswith(LOCAL)


def is_talk(item: Item) -> bool:
    """Whether it is what an officer says live at a cluster's station."""
    return item.stream is not None and item.stream.startswith(LOCAL)


def allowed(url: str, config: Station) -> bool:
    """Whether the configuration lets content come from there (CONTRACT section 4): HTTPS, a listed host[:port].

    What a station has added itself, or an officer says live there ("local:…"), its clusters can have from it alone.
    """
    if config.parent is not None and url.startswith(LOCAL):
        return True
    try:
        found = urlsplit(url)
        port = found.port
    except ValueError:
        return False
    host = (found.hostname or "").lower()
    names = {host, f"{host}:{port or 443}"}
    return found.scheme == "https" and not found.username and not names.isdisjoint(config.content.allowed_hosts)


def speech_key(text: str, lang: str) -> str:
    """The key under which a text is spoken once."""
    return f"{lang}:{hashlib.sha256(text.encode()).hexdigest()[:40]}"


class Catalogue:
    """All sounds by name. `media_path` asks the content library; `speaks` the speech engine."""

    def __init__(
        self,
        config: Station,
        chimes: dict[str, Sound],
        media_path: Callable[[str], str | None],
        speaks: Callable[[str], bool],
    ) -> None:
        self._config = config
        self._sources = {s.id: s for s in config.sources}
        self._target = config.content.loudness_lufs
        self._media_path = media_path
        self.speaks = speaks
        self.chimes = chimes
        self.messages: dict[str, Sound] = {}
        self.spoken: dict[str, Sound] = {}
        self.unspeakable: dict[str, str] = {}
        self.lost: dict[str, str] = {}
        """Media that cannot be had: SHA-256 → why."""
        self.troubled: dict[str, str] = {}
        """Media that cannot be had for now, and is tried again: SHA-256 → why."""
        self.gains: dict[str, float] = {}
        """Media whose loudness is known: SHA-256 → dB by which it is changed."""

    def unknown(self, items: Iterable[Item]) -> str | None:
        """Why an item can never sound here (an unknown chime, message or relay), or None."""
        for item in items:
            if item.chime is not None and item.chime not in self.chimes:
                return f"no chime is called {item.chime!r}; there are {', '.join(sorted(self.chimes))}"
            if item.local is not None and item.local not in {m.id for m in self._config.stored}:
                return f"no stored message is called {item.local!r}"
            if item.relay is not None and item.relay not in self._sources:
                return f"no relay source is called {item.relay!r}"
            trouble = self.unknown(self._fallback(item))
            if trouble:
                return trouble
        return None

    def cue(self, index: int, item: Item, live_seconds: float | None = None) -> Cue:
        """The item as sound, as far as it is known now."""
        if item.chime is not None:
            sound = self.chimes.get(item.chime)
            return _of(index, sound) if sound else Cue(item=index, failed=f"no chime {item.chime!r}")
        if item.local is not None:
            sound = self.messages.get(item.local)
            return _of(index, sound) if sound else Cue(item=index, pending=True)
        if item.text is not None and item.lang is not None:
            key = speech_key(item.text, item.lang)
            if key in self.unspeakable:
                return Cue(item=index, failed=self.unspeakable[key])
            return _of(index, self.spoken[key]) if key in self.spoken else Cue(item=index, pending=True)
        if item.media is not None:
            return self._media(index, item.media)
        return self._live(index, item, live_seconds)

    @staticmethod
    def spread(items: Iterable[Item]) -> list[Item]:
        """The items as they are spoken and played: a long text is several, each of some sentences."""
        return [
            part
            for item in items
            for part in (
                [item] if item.text is None else [msgspec.structs.replace(item, text=t) for t in parts(item.text)]
            )
        ]

    def texts(self, items: Iterable[Item]) -> Iterable[tuple[str, str, str]]:
        """(key, text, lang) of what must be spoken for these items, fallbacks included."""
        for item in self.spread(items):
            if item.text is not None and item.lang is not None:
                yield speech_key(item.text, item.lang), item.text, item.lang
            yield from self.texts(self._fallback(item))

    def media(self, items: Iterable[Item]) -> Iterable[Media]:
        """The media files of these items, fallbacks included."""
        for item in items:
            if item.media is not None:
                yield item.media
            yield from self.media(self._fallback(item))

    def path(self, sha256: str) -> str | None:
        """Where a media file is, if it is here."""
        return self._media_path(sha256)

    def _media(self, index: int, media: Media) -> Cue:
        if media.type.partition("/")[0] not in ("audio", "video", "application"):
            return Cue(item=index, failed="not sound")
        if media.sha256 in self.lost:
            return Cue(item=index, content=media.sha256, failed=self.lost[media.sha256])
        path = self._media_path(media.sha256)
        samples = None if media.duration_s is None else round(media.duration_s * RATE)
        gain = self.gains.get(media.sha256)
        return Cue(
            item=index,
            content=media.sha256,
            path=path,
            samples=samples,
            pending=path is None,
            gain_db=gain or 0.0,
            level_lufs=self._target if gain is None else None,
        )

    def _live(self, index: int, item: Item, seconds: float | None) -> Cue:
        fallback = [self.cue(index, i) for i in self.spread(self._fallback(item))]
        paths = tuple(c.path for c in fallback if c.path)
        waits = any(c.pending for c in fallback)
        if item.stream is not None:
            bound = item.lease_s if seconds is None else seconds
            live = Cue(item=index, url=item.stream, seconds=bound, fallback=paths, fallback_pending=waits)
            if is_talk(item):  # as loud as at the station: what howls there must not be raised here
                return structs.replace(live, silence_s=PATIENCE_S)
            return structs.replace(live, level_lufs=self._target)
        source = self._sources.get(item.relay or "")
        if source is None:
            return Cue(item=index, failed=f"no relay source is called {item.relay!r}")
        return Cue(
            item=index,
            url=source.url,
            level_lufs=self._target,
            seconds=item.duration_s if seconds is None else seconds,
            silence_s=source.silence_s,
            silence_dbfs=source.silence_dbfs,
            fallback=paths,
            fallback_pending=waits,
        )

    def _fallback(self, item: Item) -> list[Item]:
        own = item.fallbacks()
        if own or item.relay is None:
            return own
        source = self._sources.get(item.relay)
        fallback = source.fallback if source else None
        return [] if fallback is None else fallback if isinstance(fallback, list) else [fallback]


def _of(index: int, sound: Sound) -> Cue:
    return Cue(item=index, content=sound.sha256, path=sound.path, samples=sound.samples, pinned=sound.pinned)
