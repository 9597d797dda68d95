"""From one judgement a second to alarms that do not flutter. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import tzinfo

from agent.core import rules
from agent.ear.compare import Heard, Judgement
from agent.model.config import Monitor, Zone
from agent.model.ear import Noticed

WORDS = {Heard.DEAD: "air-dead", Heard.WRONG: "air-wrong", Heard.FOREIGN: "air-foreign"}
DETAILS = {
    "air-dead": "what was sent is not on the air: the receiver gives silence or noise",
    "air-wrong": "something else is on the air than what was sent",
    "air-foreign": "something is on the air though nothing was sent",
    "speaker-silent": "what was sent does not come out of the loudspeaker",
    "howl": "a tone stands that nobody sent",
}
RAISE = {"air": 3, "microphone": 8}
"""So many judgements in a row make an alarm: a receiver is quick, a street is noisy."""
CLEAR = 2


AFTER_S = 15.0
"""So long beyond its hours and its amplifier's cool-down an external source is not foreign yet."""


def may_be_heard(zone: Zone, at: float, tz: tzinfo) -> bool:
    """Whether an external source may be heard in the idle zone at the epoch second `at`, so that nothing is foreign."""
    if zone.idle.source != "external":
        return False
    late = at - AFTER_S - sum(step.cool_down_s for step in zone.idle.power)
    return not zone.idle.power or any(rules.inside(zone.idle.hours, t, tz) for t in (at, late))


class Watch:
    """Of one receiver or microphone."""

    def __init__(self, monitor: Monitor, *, external: Callable[[], bool]) -> None:
        """`external`: whether an external source may be heard now (`may_be_heard`)."""
        self.monitor = monitor
        self._external = external
        self._alarm: str | None = None
        self._suspect: str | None = None
        self._bad = 0
        self._good = 0
        self._howl = 0
        self.howling = False

    def judge(self, judgement: Judgement, howl_hz: float | None) -> Iterator[Noticed]:
        """One second has passed."""
        yield from self._hear_howl(howl_hz)
        word = self._word(judgement.heard)
        if judgement.heard is Heard.UNCLEAR:
            return
        if word is None:
            self._bad, self._suspect = 0, None
            self._good += 1
            if self._alarm is not None and self._good >= CLEAR:
                yield self._tell(self._alarm, "", on=False)
                self._alarm = None
            return
        self._good = 0
        self._bad = self._bad + 1 if word == self._suspect else 1
        self._suspect = word
        if self._bad >= RAISE[self.monitor.kind] and word != self._alarm:
            if self._alarm is not None:
                yield self._tell(self._alarm, "", on=False)
            self._alarm = word
            score = "" if judgement.score is None else f" (likeness {judgement.score:.2f})"
            yield self._tell(word, DETAILS[word] + score)

    def _word(self, heard: Heard) -> str | None:
        if self.monitor.kind == "microphone":
            return "speaker-silent" if heard in (Heard.DEAD, Heard.WRONG) else None
        if heard is Heard.FOREIGN and self._external():
            return None
        return WORDS.get(heard)

    def _hear_howl(self, hertz: float | None) -> Iterator[Noticed]:
        self._howl = self._howl + 1 if hertz is not None else 0
        if hertz is not None and self._howl >= RAISE["air"] and not self.howling:
            self.howling = True
            yield self._tell("howl", f"{DETAILS['howl']}: {hertz:.0f} Hz")
        elif hertz is None and self.howling:
            self.howling = False
            yield self._tell("howl", "", on=False)

    def _tell(self, what: str, detail: str, *, on: bool = True) -> Noticed:
        return Noticed(what, self.monitor.id, detail, self.monitor.zone, on)
