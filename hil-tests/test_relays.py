"""Relays are off in every exit, and the buttons come back. The tests of this file share a station.

What a released line does is decided by a resistor on a real board, and by the simulator's pull on the virtual one.
"""

from __future__ import annotations

import pytest
from board import Board, answered, armed, relays_are_off, sounding, wait
from surroundings import SIREN_LINE, STOP_LINE
from virtual import VirtualBoard

pytestmark = pytest.mark.gpio

ENDS = {
    "a crash": "systemctl kill --kill-whom=main --signal=SEGV tram-voice",
    "being killed": "systemctl kill --kill-whom=main --signal=KILL tram-voice",
    "a hang, which the watchdog ends": "systemctl kill --kill-whom=main --signal=STOP tram-voice",
    "an order to stop": "systemctl restart --no-block tram-voice",
}


def sound_the_siren(board: Board) -> None:
    """Have the emergency button's message play, relays on."""
    wait("buttons are armed", lambda: armed(board), 120 * board.patience)
    board.press(SIREN_LINE)
    wait("relays are on", lambda: sounding(board), 30 * board.patience)
    board.release(SIREN_LINE)


def main_pid(board: Board) -> int:
    return int(answered(board, "systemctl show --value --property=MainPID tram-voice"))


@pytest.mark.parametrize("command", ENDS.values(), ids=ENDS.keys())
def test_relays_are_off_and_buttons_back_after(board: Board, command: str) -> None:
    sound_the_siren(board)
    before = main_pid(board)
    answered(board, command)
    wait("relays are off", lambda: relays_are_off(board), 60 * board.patience)
    wait("another voice is armed", lambda: armed(board) and main_pid(board) not in {0, before}, 60 * board.patience)
    assert relays_are_off(board)


def test_relays_are_off_after_the_stop_of_everything(board: Board) -> None:
    sound_the_siren(board)
    answered(board, "systemctl stop tram-agent tram-voice", timeout_s=60)
    assert relays_are_off(board)
    answered(board, "systemctl start tram-voice tram-agent", timeout_s=90)


def test_a_button_that_was_stuck_through_the_start_of_voice_does_not_sound_but_the_next_press_does(
    board: Board,
) -> None:
    answered(board, "systemctl stop tram-voice", timeout_s=60)
    board.press(SIREN_LINE)
    answered(board, "systemctl start tram-voice", timeout_s=90)
    wait("buttons are armed", lambda: armed(board), 60 * board.patience)
    board.release(SIREN_LINE)
    sound_the_siren(board)
    board.press(STOP_LINE)
    board.release(STOP_LINE)
    wait("relays are off", lambda: relays_are_off(board), 60 * board.patience)


@pytest.mark.virtual_board
def test_relays_are_off_and_buttons_back_after_a_kernel_panic(board: VirtualBoard) -> None:
    sound_the_siren(board)
    boot = answered(board, "cat /proc/sys/kernel/random/boot_id")
    board.run("echo 1 >/proc/sys/kernel/sysrq; (sleep 1; echo c >/proc/sysrq-trigger) >/dev/null 2>&1 &")
    wait("the console tells of the panic", lambda: "Kernel panic" in board.console(), 60 * board.patience)
    board.wait_for_agent(900)
    assert answered(board, "cat /proc/sys/kernel/random/boot_id") != boot
    wait("buttons are armed", lambda: armed(board), 120 * board.patience)
    assert relays_are_off(board)


HANGS = {
    "process 1 hangs": "echo 1 >/sys/fs/cgroup/init.scope/cgroup.freeze",
    "the kernel has died": "sysctl -w kernel.panic=0 kernel.sysrq=1;"
    " (sleep 1; echo c >/proc/sysrq-trigger) >/dev/null 2>&1 &",
}
"""The last one ends without a start of its own: only the watchdog is left."""


@pytest.mark.virtual_board
@pytest.mark.watchdog
@pytest.mark.parametrize("command", HANGS.values(), ids=HANGS.keys())
def test_a_machine_that_hangs_is_reset_by_its_watchdog(board: VirtualBoard, command: str) -> None:
    wait("buttons are armed", lambda: armed(board), 120 * board.patience)
    boot = answered(board, "cat /proc/sys/kernel/random/boot_id")
    assert "i6300esb" in answered(board, "cat /sys/class/watchdog/watchdog*/identity | tr A-Z a-z")
    board.run(command)
    board.wait_for_reset(180 * board.patience)
    board.wait_for_agent(900)
    assert answered(board, "cat /proc/sys/kernel/random/boot_id") != boot
    wait("buttons are armed", lambda: armed(board), 120 * board.patience)
    assert relays_are_off(board)
