"""What must hold before anything else: it boots, a button sounds, a programme sounds, a power cut is survived.

The tests of this file share a station and follow each other.
"""

from __future__ import annotations

from pathlib import Path
from time import monotonic

import pytest
from board import RATE, Board, answered, armed, relays_are_off, sounding, wait, wav
from ear import heard
from surroundings import SIREN_LINE, STOP_LINE, Surroundings, in_s, noise

pytestmark = [pytest.mark.smoke, pytest.mark.gpio, pytest.mark.sound]
ASSETS = Path(__file__).resolve().parents[1] / "agent" / "voice" / "assets"
VERSE = noise(8, seed=1)
VERSES = 10
"""One small file, so that it is soon fetched, again and again: looking for it takes time on a busy machine."""


def verse_is_heard(board: Board) -> bool:
    """Whether the long programme's own sound is in what was recorded lately."""
    return len(heard(board.heard()[-20 * RATE :], VERSE)) >= 3


def test_it_boots_to_armed_buttons_with_its_relays_off(board: Board) -> None:
    wait("buttons are armed", lambda: armed(board), 120 * board.patience)
    assert relays_are_off(board)
    failed = answered(board, "systemctl list-units --state=failed --plain --no-legend").strip()
    assert not failed, failed


def test_the_root_is_read_only_and_nothing_listens(board: Board) -> None:
    assert board.run("touch /usr/x").code != 0
    assert " ro," in answered(board, "grep ' / ' /proc/mounts | tail -1")
    listening = answered(board, "ss -Hltu | grep -v '%eth\\|%en' || true").strip()
    assert not listening, listening


def test_a_pressed_button_gives_the_siren_before_there_is_a_network_or_a_province(board: Board) -> None:
    wait("buttons are armed", lambda: armed(board), 60 * board.patience)
    siren = wav(ASSETS / "siren.wav")
    board.press(SIREN_LINE)
    wait("the amplifier's relay is on", lambda: sounding(board), 20 * board.patience)
    board.release(SIREN_LINE)
    wait("the siren is heard", lambda: len(heard(board.heard(), siren)) >= 3, 60 * board.patience, every_s=2)
    board.press(STOP_LINE)
    board.release(STOP_LINE)
    wait("relays are off after the stop button", lambda: relays_are_off(board), 60 * board.patience)


def test_a_programme_signed_by_the_province_sounds_at_its_time(board: Board, around: Surroundings) -> None:
    around.wait_online(board, 180)
    bulletin = noise(6, seed=2)
    entry = {
        "id": "tin-sang",
        "title": "Bản tin sáng",
        "class": "priority",
        "dtstart": in_s(30 * board.patience),
        "zones": ["loa-xa"],
        "items": [around.media("tin-sang", bulletin)],
        "resume": "continue",
        "on_late": "play",
    }
    around.order("schedule", {"scope": "xa-mau", "entries": [entry]}, ttl_s=None)
    wait("the bulletin is heard", lambda: len(heard(board.heard(), bulletin)) >= 6, 240 * board.patience, every_s=3)
    wait("relays are off after it", lambda: relays_are_off(board), 60 * board.patience)
    wait("the province has it in its log", lambda: entries(around, "tin-sang"), 60 * board.patience)
    assert entries(around, "tin-sang")[-1]["result"] == "completed"


@pytest.mark.powercut
def test_a_programme_that_a_power_cut_interrupted_sounds_again_and_comes_to_its_end(
    board: Board, around: Surroundings
) -> None:
    around.wait_online(board)
    verse = around.media("dai", VERSE)
    around.order(
        "broadcast",
        {
            "id": "ban-tin-dai",
            "title": "Bản tin dài",
            "class": "emergency",
            "start": "now",
            "until": in_s(1800 * board.patience),
            "zones": ["loa-xa"],
            "items": [verse] * VERSES,
            "resume": "continue",
        },
        ttl_s=3600 * 6,
    )
    wait("it is heard", lambda: verse_is_heard(board), 180 * board.patience, every_s=1)
    assert sounding(board)
    board.power_cut()
    begun = monotonic()
    board.start()
    wait("buttons are armed", lambda: armed(board), 120 * board.patience)
    wait("it sounds again", lambda: verse_is_heard(board), 300 * board.patience, every_s=1)
    print(f"power back → heard again: {monotonic() - begun:.0f} s")
    wait(
        "the province has its end",
        lambda: any(e["result"] == "completed" for e in entries(around, "ban-tin-dai")),
        300 * board.patience,
    )
    verified = board.run("tram log --verify", timeout_s=60)
    assert verified.code == 0, verified.out + verified.err


def entries(around: Surroundings, bulletin: str) -> list[dict[str, object]]:
    """The play log's entries of a bulletin as the province has them."""
    found = []
    for event in around.watcher.export()["events"]:
        entry = event["body"].get("entry")
        if isinstance(entry, dict) and entry.get("bulletin") == bulletin:
            found.append(entry)
    return found
