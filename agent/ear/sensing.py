"""From readings of a sensor to what is known of a zone's line, amplifier and supply. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from agent.model.config import Sensor
from agent.model.ear import Measured, Noticed
from agent.model.health import Line

QUANTITIES = {"current_ma": (-100_000.0, 100_000.0), "supply_v": (-1000.0, 1000.0), "temperature_c": (-60.0, 200.0)}
"""What a driver may give, and the range in which a value makes sense."""
CONFIRM = 2
"""So many readings in a row make a state."""


class Sensing:
    """Of one sensor. `take` a reading each period: a mapping of quantities, or the error that came instead."""

    def __init__(self, sensor: Sensor) -> None:
        self.sensor = sensor
        self.current_ma: float | None = None
        self.line = Line.UNKNOWN
        self._told: dict[str, float | str | None] = {}
        self._next: tuple[str, int] = ("", 0)
        self._alarms: dict[str, str] = {}

    def take(self, reading: Mapping[str, object] | Exception) -> Iterator[Measured | Noticed]:
        """What is news."""
        values = None if isinstance(reading, Exception) else self._sane(reading)
        if values is None:
            detail = str(reading) if isinstance(reading, Exception) else f"reads {dict(reading)!r}"[:200]
            yield from self._alarm("sensor", f"sensor {self.sensor.id}: {detail}")
            self.current_ma, self.line, self._next = None, Line.UNKNOWN, ("", 0)
            yield from self._tell(dict.fromkeys(self._told))
            return
        yield from self._alarm("sensor", None)
        self.current_ma = values.get("current_ma")
        news: dict[str, float | str | None] = {k: v for k, v in values.items() if self._moved(k, v)}
        if self._line(values.get("current_ma")):
            news["line"] = self.line.value
        yield from self._tell(news)
        yield from self._limits(values)

    def _sane(self, reading: Mapping[str, object]) -> dict[str, float] | None:
        """The reading in numbers; None where it is garbage."""
        values: dict[str, float] = {}
        for name, value in reading.items():
            if name == "line":
                if value not in (Line.NORMAL, Line.OPEN, Line.SHORT):
                    return None
                self._given = Line(str(value))
                continue
            low, high = QUANTITIES.get(name, (0.0, -1.0))
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                return None
            if not low <= value <= high:
                return None
            values[name] = float(value)
        return values

    _given: Line | None = None

    def _line(self, current_ma: float | None) -> bool:
        """Whether the state of the line is another one now."""
        state = self._given
        self._given = None
        if state is None:
            low, high = self.sensor.open_below_ma, self.sensor.short_above_ma
            if current_ma is None or not (low or high):
                return False
            short = bool(high) and current_ma > high
            state = Line.OPEN if current_ma < low else Line.SHORT if short else Line.NORMAL
        name, count = self._next
        self._next = (state.value, count + 1 if state.value == name else 1)
        if state is self.line or self._next[1] < CONFIRM:
            return False
        self.line = state
        return True

    def _moved(self, name: str, value: float) -> bool:
        """Whether a value is so far from the one last told that it is news: 2 %, or a unit in the last place shown."""
        before = self._told.get(name)
        return not isinstance(before, float) or abs(value - before) > max(0.5, abs(before) * 0.02)

    def _limits(self, values: Mapping[str, float]) -> Iterator[Noticed]:
        volts, low = values.get("supply_v"), self.sensor.low_below_v
        if volts is not None and low:
            yield from self._alarm("supply-low", f"the supply gives {volts:.1f} V" if volts < low else None)
        heat, hot = values.get("temperature_c"), self.sensor.hot_above_c
        if heat is not None and hot:
            yield from self._alarm("hot", f"{heat:.0f} °C" if heat > hot else None)

    def _tell(self, news: dict[str, float | str | None]) -> Iterator[Measured]:
        news = {k: v for k, v in news.items() if v is not None or self._told.get(k) is not None}
        if news:
            self._told |= news
            yield Measured(self.sensor.zone, news)

    def _alarm(self, what: str, detail: str | None) -> Iterator[Noticed]:
        """An alarm begins (`detail`) or is over (None)."""
        if (detail is None) == (what not in self._alarms):
            return
        if detail is None:
            del self._alarms[what]
        else:
            self._alarms[what] = detail
        yield Noticed(what, self.sensor.id, detail or "", self.sensor.zone, detail is not None)
