"""Whether a programme could sound or be shown now: its content, the rules of its zone, clock, disk and silence."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from agent.core import commands as do
from agent.core import rules
from agent.core.catalogue import Cue, allowed
from agent.core.gate import LEAD_S
from agent.core.outcomes import Outcomes
from agent.core.programme import By, Programme, Stage
from agent.model import config as conf
from agent.model import events as ev
from agent.model import loudness, orders
from agent.model import voice as vo
from agent.model.orders import Item
from agent.model.records import DropValue, PutValue
from agent.model.talk import LOCAL
from agent.model.time import Instant
from agent.ports import Need

LATE_S = 5.0
"""A scheduled start this late is late (`on_late` decides)."""
WANTS_KEPT_NS = 60 * 10**9
FALLBACK_S = 3.0
"""So long a relay that is to begin at once waits for its fallback; one with a time to begin never waits beyond it."""
BRIDGE_S = 10.0
"""So long the siren of an emergency bridges what cannot be had for now; then the alert goes on without it."""
SOME_DAY = 4e9
"""Due time of what clusters will want by a schedule that is not this station's own."""
DRILL_CHIME = "drill"
LOUDNESS = "loudness/"
"""Named values: how loud media is, "lufs peak"."""
MEASURE_NS = 5 * 10**9
"""So long a programme waits for its content to be measured; an emergency does not."""


class Readiness(Outcomes):
    """Knows what of a programme is there, asks for what is missing, and says whether a part may start."""

    def _may_start(self, p: Programme, zone: str, now: Instant) -> bool:
        if self._ending:
            return False
        if not p.overrides and (not now.trusted or self.storage_bad is not None):
            return False
        if self._silenced(p, zone, now):
            return False
        if not p.overrides and rules.barred(self._zones[zone], max(now.wall, self._due(p)), self.tz):
            return False
        if self._zones[zone].kind == "screen":
            if not shows(p.items):
                return any(part.stage is Stage.PLAYING for z, part in p.parts.items() if self._zones[z].kind == "sound")
            if p.overrides:
                return True
            pictures = self._pictures(p)
            if any(cue.pending for cue in pictures):
                return now.wall >= self._due(p) + LATE_S and len(pictures) < len(shown_items(p.items))
            return not self._unshowable(p)
        if p.overrides or p.by is By.BUTTON:
            return self.voice_up
        cues = self._cues(p, zone)
        if all(c.failed is not None for c in cues):
            return False
        if any(now.mono_ns - self._measuring.get(c.content or "", -MEASURE_NS) < MEASURE_NS for c in cues):
            return False
        opens = max(self._due(p) - self._lead[zone], p.received_at + FALLBACK_S)
        if now.wall < opens and any(c.fallback_pending for c in cues):
            return False
        return self.voice_up and (not any(c.pending for c in cues) or self._give_up(p, now))

    def _pictures(self, p: Programme) -> list[Cue]:
        """Where the programme's pictures are, as far as it is known now."""
        return [self._picture(i.media) for i in p.items if i.media is not None and is_shown(i)]

    def _picture(self, media: orders.Media) -> Cue:
        return self.catalogue.cue(0, Item(media=msgspec.structs.replace(media, type="audio/file")))

    def _content_lost(self, p: Programme, zone: str) -> bool:
        """Whether nothing of a programme can be had for a zone any more."""
        if self._zones[zone].kind == "sound":
            return all(cue.failed is not None for cue in self._cues(p, zone))
        return not p.overrides and shows(p.items) and self._unshowable(p)

    def _unshowable(self, p: Programme) -> bool:
        """Whether all that a board was to show of it is lost."""
        pictures = self._pictures(p)
        return len(pictures) == len(shown_items(p.items)) and all(cue.failed is not None for cue in pictures)

    def _give_up(self, p: Programme, now: Instant) -> bool:
        """A scheduled programme with a fallback does not wait for missing content beyond its start."""
        return bool(p.fallback) and now.wall >= self._due(p) - LEAD_S

    def _cues(self, p: Programme, zone: str, live_seconds: float | None = None) -> list[Cue]:
        """The programme as sound. A drill is marked before and after."""
        items = [i for i in p.items if self._sounds(i)]
        cues = [self.catalogue.cue(i, item, live_seconds) for i, item in enumerate(self.catalogue.spread(items))]
        talker = self._talker(p)
        if talker is not None:
            cues[-1] = Cue(item=len(cues) - 1, microphone=talker.id)
        if p.overrides and self._now.wall >= self._due(p) + BRIDGE_S:
            cues = [self._given_up(c) for c in cues]
        missing = [c for c in cues if c.pending or c.failed]
        if p.fallback and missing and len(missing) == len(cues):
            cues = [self.catalogue.cue(i, item) for i, item in enumerate(self.catalogue.spread(p.fallback))]
        if p.drill:
            mark = self.catalogue.cue(0, Item(chime=DRILL_CHIME))
            cues = [mark, *cues, mark]
            for index, cue in enumerate(cues):
                cues[index] = msgspec.structs.replace(cue, item=index)
        return cues

    def _talker(self, p: Programme) -> conf.Button | None:
        """The everyday button at whose microphone somebody speaks in this programme."""
        return self._spoken_at(p) if p.by is By.ORDER else None

    def _given_up(self, cue: Cue) -> Cue:
        """The cue, or its failure where its content has failed to come so far."""
        why = self.catalogue.troubled.get(cue.content or "")
        return cue if not cue.pending or why is None else msgspec.structs.replace(cue, pending=False, failed=why)

    @staticmethod
    def _sounds(item: Item) -> bool:
        return item.media is None or not item.media.type.startswith("image/")

    def _content_changed(self) -> None:
        """Emergencies that are on grow by what has come."""
        for play in [*self.plays.values(), *self._prepared.values()]:
            p = self.programmes.get(play.key)
            if p is None or play.closed or not play.urgent:
                continue
            zone = next((z for z in p.parts if self._zones[z].kind == "sound"), None)
            if zone is not None:
                play.cues = self._cues(p, zone)
                self._urgent = True
                play.grow(self._act.append, self._now.wall)

    def _still_spoken(self, detail: str) -> bool:
        """Whether a pinned sound that voice misses is a stored message that has not been spoken yet."""
        waiting = {m.id for m in self.config.stored} - self.catalogue.messages.keys()
        return any(detail.startswith(f"message:{name}:") for name in waiting)

    def _spoken(self, event: ev.SpeechReady) -> None:
        sound = ev.Sound(event.path, event.sha256, round(event.seconds * vo.RATE))
        if event.key.startswith("message:"):
            name = event.key.removeprefix("message:")
            if name not in self.catalogue.messages:
                self.catalogue.messages[name] = msgspec.structs.replace(sound, pinned=event.key)
                self._act.append(do.PinMessage(name, event.path))
        else:
            self.catalogue.spoken[event.key] = sound
        self._content_changed()

    def _media_failed(self, event: ev.MediaFailed, now: Instant) -> None:
        if event.final:
            self.catalogue.lost[event.sha256] = event.detail
        else:
            self.catalogue.troubled[event.sha256] = event.detail
        self.ledger.alarm("content", event.detail, now.wall)
        self._content_changed()

    def _measure(self, sha256: str, path: str, now: Instant) -> None:
        """Have the loudness of a file measured, once."""
        if self.config.content.loudness_lufs is None or sha256 in self.catalogue.gains or sha256 in self._measuring:
            return
        self._measuring[sha256] = now.mono_ns
        self._act.append(do.Measure(sha256, path))

    def _measured(self, event: ev.Measured, now: Instant) -> None:
        self._measuring.pop(event.sha256, None)
        if event.detail:
            self.ledger.alarm("loudness", f"{event.sha256[:8]}: {event.detail}", now.wall)
        elif event.lufs is not None:
            self.ledger.write(
                PutValue(key=LOUDNESS + event.sha256, value=f"{event.lufs:.2f} {event.peak:.2f}".encode())
            )
        self._know_loudness(event.sha256, event.lufs, event.peak)

    def _restore_loudness(self, key: str, value: bytes) -> None:
        """What was measured before the boot; of media that is gone it is forgotten."""
        sha256 = key.removeprefix(LOUDNESS)
        if self.catalogue.path(sha256) is not None:
            lufs, peak = value.split()
            self._know_loudness(sha256, float(lufs), float(peak))
        else:
            self.ledger.write(DropValue(key=key))

    def _know_loudness(self, sha256: str, lufs: float | None, peak: float) -> None:
        target = self.config.content.loudness_lufs
        if target is not None:
            self.catalogue.gains[sha256] = loudness.gain(lufs, peak, target)

    def _want(self, now: Instant) -> None:
        """Say what media is needed, when that may have changed: programmes, schedules, or a minute of time."""
        if now.trusted:
            self._act.extend(self.calendar.expansions(now.wall))
        if now.mono_ns < self._wants_old_ns:
            return
        self._wants_old_ns = now.mono_ns + WANTS_KEPT_NS
        needs: dict[tuple[str, str], Need] = {}
        self._media = {key: known for key, known in self._media.items() if key in self.programmes}
        for p in self.programmes.values():
            for media in self._media_of(p):
                source = (media.sha256, media.url)
                former = needs.get(source)
                if former is None or self._due(p) < former.due:
                    needs[source] = Need(media, self._due(p), p.class_.weight, pinned=True)
        for _, entry, start in self.calendar.coming():
            for media in self.catalogue.media([*entry.items, *orders.as_items(entry.fallback)]):
                source = (media.sha256, media.url)
                if source not in needs and allowed(media.url, self.config):
                    needs[source] = Need(media, start, entry.class_.weight, pinned=start < now.wall + 86400.0)
        # What the clusters are to fetch here, once for all of them.
        for media, soon in [*((m, True) for m in self.shared.values()), *self.passing.media()]:
            if allowed(media.url, self.config) or media.url.startswith(LOCAL):
                need = Need(media, 0.0 if soon else SOME_DAY, 1 if soon else 0, pinned=soon)
                needs.setdefault((media.sha256, media.url), need)
        wanted = tuple(needs[k] for k in sorted(needs))
        if wanted != self._wants:
            self._wants = wanted
            still = {need.media.sha256 for need in wanted}
            self.catalogue.troubled = {k: why for k, why in self.catalogue.troubled.items() if k in still}
            self._act.append(do.Want(wanted))

    def _media_of(self, p: Programme) -> tuple[orders.Media, ...]:
        """Its media files. They are asked for after every event, and the items of a programme never change."""
        known = self._media.get(p.key)
        if known is None or known[0] is not p.items:
            known = self._media[p.key] = p.items, tuple(self.catalogue.media([*p.items, *p.fallback]))
        return known[1]

    def _expect(self, p: Programme) -> None:
        """Have the programme's texts spoken; its media is asked for by `_want`, from a new address anew."""
        asked = {(need.media.sha256, need.media.url) for need in self._wants}
        for media in self._media_of(p):
            if (media.sha256, media.url) not in asked:
                self.catalogue.lost.pop(media.sha256, None)
            path = self.catalogue.path(media.sha256)
            if path is not None:
                self._measure(media.sha256, path, self._now)
        if any(self._zones[z].kind == "sound" for z in p.parts if z in self._zones):
            self._speak([*p.items, *p.fallback], urgent=p.overrides)

    def _speak(self, items: Iterable[Item], *, urgent: bool = False) -> None:
        urgency = 2 if urgent else 0
        for key, text, lang in self.catalogue.texts(items):
            if key not in self.catalogue.spoken and self.catalogue.speaks(lang):
                self._act.append(do.Speak(key, text, lang, urgency))
                urgency = min(urgency, 1)

    def _voiceless(self, p: Programme) -> str | None:
        """A language of the programme's texts that no voice speaks: its sound zones are refused, its boards are not."""
        return next((lang for _, _, lang in self.catalogue.texts(p.items) if not self.catalogue.speaks(lang)), None)


def shown_items(items: Iterable[Item]) -> list[Item]:
    """What a board has of its own to show: texts, pictures and films."""
    return [i for i in items if is_shown(i)]


def is_shown(item: Item) -> bool:
    """Whether a board shows it. A film is heard as well."""
    return item.text is not None or (item.media is not None and item.media.type.startswith(("image/", "video/")))


def shows(items: Iterable[Item]) -> bool:
    """Whether a board has something of its own to show."""
    return bool(shown_items(items))
