"""What goes wrong around a station. The tests of this file share one, and each leaves it whole."""

from __future__ import annotations

import json
from pathlib import Path
from time import sleep
from typing import Any

import pytest
from board import Board, answered, armed, relays_are_off, sounding, wait, wav
from ear import heard
from surroundings import SIREN_LINE, STOP_LINE, Surroundings, in_s, noise
from virtual import VirtualBoard

pytestmark = [pytest.mark.virtual_board, pytest.mark.gpio]
SIREN = wav(Path(__file__).resolve().parents[1] / "agent" / "voice" / "assets" / "siren.wav")


def the_button_works(board: Board) -> None:
    """Press: the siren is heard; stop: relays are off."""
    before = len(board.heard())
    board.press(SIREN_LINE)
    wait("the amplifier's relay is on", lambda: sounding(board), 30 * board.patience)
    board.release(SIREN_LINE)
    wait("the siren is heard", lambda: len(heard(board.heard()[before:], SIREN)) >= 2, 60 * board.patience, every_s=2)
    board.press(STOP_LINE)
    board.release(STOP_LINE)
    wait("relays are off after the stop button", lambda: relays_are_off(board), 60 * board.patience)


def status(board: Board) -> dict[str, Any]:
    """What the station says of itself."""
    told: dict[str, Any] = json.loads(answered(board, "tram status --json", timeout_s=60))
    return told


def broadcast(around: Surroundings, name: str, seconds: float, seed: int, **more: object) -> dict[str, Any]:
    """An emergency broadcast of a hiss."""
    item = around.media(name, noise(seconds, seed))
    return {
        "id": name,
        "title": name,
        "class": "emergency",
        "start": "now",
        "zones": ["loa-xa"],
        "items": [item],
        "resume": "drop",
        **more,
    }


@pytest.mark.network
def test_a_press_while_the_network_is_away_reaches_the_province_when_it_is_back(
    board: VirtualBoard, around: Surroundings
) -> None:
    around.wait_online(board, 180)
    wait("buttons are armed", lambda: armed(board), 60 * board.patience)
    known = len(around.watcher.export()["events"])
    board.network(up=False)
    the_button_works(board)
    assert len(around.watcher.export()["events"]) == known
    order = around.order("broadcast", broadcast(around, "trong-luc-mat-mang", 2, 11), ttl_s=3600 * 4)
    board.network(up=True)
    wait(
        "the province has the press in its log",
        lambda: any("entry" in e["body"] for e in around.watcher.export()["events"][known:]),
        400 * board.patience,
        every_s=2,
    )
    around.until(order, "done", within_s=400 * board.patience)


def test_a_full_card_silences_nothing_and_is_told(board: VirtualBoard, around: Surroundings) -> None:
    around.wait_online(board, 180)
    answered(
        board, "fallocate -l 100G /data/full || dd if=/dev/zero of=/data/full bs=1M; sync; df /data", timeout_s=120
    )
    the_button_works(board)
    order = around.order("broadcast", broadcast(around, "the-day", 20, 12), ttl_s=3600 * 4)
    wait(
        "the order is answered",
        lambda: (d := around.publisher.receipt(order).devices) and d["xa-mau"].state in {"failed", "rejected", "done"},
        180 * board.patience,
    )
    answered(board, "rm /data/full; sync")
    order = around.order("broadcast", broadcast(around, "the-trong", 2, 13), ttl_s=3600 * 4)
    around.until(order, "done", within_s=240 * board.patience)
    assert answered(board, "tram log --verify", timeout_s=60)


@pytest.mark.clock
@pytest.mark.powercut
def test_with_a_wrong_clock_after_a_power_cut_buttons_sound_and_programmes_wait_for_the_time(
    board: VirtualBoard, around: Surroundings
) -> None:
    around.wait_online(board, 180)
    wait("time is certain", lambda: status(board)["clock"]["trusted"], 180 * board.patience, every_s=2)
    board.power_cut()
    around.clock.silent = True
    board.extra = ["-rtc", "base=2011-11-11T11:11:11"]
    try:
        board.start()
        wait("buttons are armed", lambda: armed(board), 120 * board.patience)
        the_button_works(board)
        around.wait_online(board, 240)
        assert not status(board)["clock"]["trusted"]
        bulletin = noise(4, 14)
        entry = {
            "id": "tin-gio-sai",
            "title": "Bản tin",
            "class": "priority",
            "dtstart": in_s(5),
            "zones": ["loa-xa"],
            "items": [around.media("tin-gio-sai", bulletin)],
            "resume": "continue",
            "on_late": "play",
        }
        around.order("schedule", {"scope": "xa-mau", "entries": [entry]}, ttl_s=None)
        begun = len(board.heard())
        kept = "grep -q tin-gio-sai /var/lib/tram/tram.db /var/lib/tram/tram.db-wal"
        wait("the schedule is there", lambda: board.run(kept).code == 0, 120 * board.patience)
        sleep(10)
        assert len(board.heard()) == begun
        around.clock.silent = False
        wait("time is certain", lambda: status(board)["clock"]["trusted"], 400 * board.patience, every_s=2)
        wait("it sounds", lambda: heard(board.heard()[begun:], bulletin), 240 * board.patience, every_s=2)
    finally:
        around.clock.silent = False
        board.extra = []


@pytest.mark.sound
def test_a_sound_card_that_is_unplugged_and_back_sounds_again(board: VirtualBoard) -> None:
    wait("buttons are armed", lambda: armed(board), 120 * board.patience)
    board.unplug_sound()
    wait("the card is gone", lambda: "Intel" not in answered(board, "cat /proc/asound/cards"), 60 * board.patience)
    board.press(SIREN_LINE)
    wait("relays work without a card", lambda: sounding(board), 30 * board.patience)
    board.release(SIREN_LINE)
    board.press(STOP_LINE)
    board.release(STOP_LINE)
    wait("relays are off", lambda: relays_are_off(board), 60 * board.patience)
    board.plug_sound()
    wait("the card is back", lambda: "Intel" in answered(board, "cat /proc/asound/cards"), 60 * board.patience)
    stream = "cat /proc/asound/Intel/pcm0p/sub0/status"
    wait("voice has opened it again", lambda: "state" in board.run(stream).out, 120 * board.patience, every_s=2)
    the_button_works(board)
