"""What is heard belongs where it sounded, however late it is read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agent.ear.compare import RATE, Sound
from agent.ear.listening import Listening
from agent.ear.tape import Tape, Timeline
from agent.model.config import Monitor
from tests.unit.ear.babble import babble

S = 1_000_000_000
BLOCK = RATE // 50
SECONDS = 16
OURS, OTHERS = babble(1, SECONDS), babble(2, SECONDS)

LATE = {
    "at once": lambda _: 0.0,
    "in bursts of 1.2 s": lambda at: 1.2 - at % 1.2,
    "in bursts of 0.4 to 0.9 s": lambda at: 0.9 - at % 0.9 if at % 7 > 3 else 0.4 - at % 0.4,
    "late from the middle on": lambda at: 0.0 if at < 8 else 0.5,
}


def told(sound: Sound, late: str, lost: tuple[float, float] = (0.0, 0.0)) -> list[tuple[str, bool]]:
    """Alarms while `OURS` is sent and `sound` is on the air: each 20 ms are read `late`; some of it never."""
    sent = Tape()
    ear = Listening(Monitor(id="thu", zone="fm"), sent, 0, external=lambda: False)
    arrivals: list[tuple[float, int]] = []
    for first in range(0, len(sound) - BLOCK, BLOCK):
        at = (first + BLOCK) / RATE
        if not lost[0] <= at < lost[1]:
            arrivals.append((at + LATE[late](at), first))
    found: list[tuple[str, bool]] = []
    for second in range(1, SECONDS):
        sent.write(OURS[(second - 1) * RATE : second * RATE], (second - 1) * S)
        for at, first in _between(arrivals, second - 1, second):
            ear.hear((sound[first : first + BLOCK] * 32767).astype("<i2").tobytes(), round(at * S))
        found += [(n.what, n.on) for n in ear.turn(second * S)]
    return found


def _between(arrivals: list[tuple[float, int]], begin: float, end: float) -> Iterator[tuple[float, int]]:
    return ((at, first) for at, first in sorted(arrivals) if begin <= at < end)


@pytest.mark.parametrize("late", LATE)
def test_what_was_sent_is_recognised_though_it_is_read_late(late: str) -> None:
    assert told(OURS, late) == []


@pytest.mark.parametrize("late", LATE)
def test_a_programme_of_others_is_an_alarm_though_it_is_read_late(late: str) -> None:
    assert told(OTHERS, late) == [("air-wrong", True)]


def test_what_was_sent_is_recognised_though_some_of_it_was_lost() -> None:
    assert told(OURS, "at once", lost=(6.0, 6.7)) == []
    assert told(OURS, "in bursts of 0.4 to 0.9 s", lost=(6.0, 6.1)) == []


def places(*blocks: tuple[float, float]) -> list[float]:
    """Where blocks of so many seconds that come at so many seconds begin."""
    line = Timeline()
    return [round(line.place(round(length * RATE), round(now * S)) / S, 3) for length, now in blocks]


def test_a_block_begins_where_the_last_has_ended_and_never_later_than_it_came() -> None:
    assert places((0.1, 1.0), (0.1, 1.1)) == [0.9, 1.0]
    assert places((0.1, 1.0), (0.1, 1.4), (0.1, 1.4), (0.1, 1.4)) == [0.9, 1.0, 1.1, 1.2]
    assert places((0.1, 1.3), (0.1, 1.3), (0.1, 1.3)) == [1.2, 1.2, 1.2]


def test_what_was_lost_is_made_good_within_a_second_and_a_long_pause_at_once() -> None:
    steady = [(0.1, 1.0 + k / 10) for k in range(10)]
    later = [(0.1, 2.5 + k / 10) for k in range(15)]
    assert places(*steady, *later)[-1] == pytest.approx(later[-1][1] - 0.1)
    assert places(*steady, (0.1, 9.0))[-1] == pytest.approx(8.9)
