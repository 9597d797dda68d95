"""Figures of the whole system: how soon the buttons are armed, how much is written when nothing happens.

Printed as JSON lines, for docs/image.md; ratios and bytes are asserted, never a time.
"""

from __future__ import annotations

import json
from pathlib import Path
from time import sleep

import pytest
from board import answered, armed, wait
from surroundings import Surroundings
from virtual import VirtualBoard

pytestmark = pytest.mark.virtual_board
BOOTS = 3
RATIO = 1.25
IDLE_S = 900.0
SETTLE_S = 240.0
MB_A_DAY = 1.0
ROOT = Path(__file__).resolve().parents[1]
BARE = " ".join(
    f"systemd.mask={unit.name}"
    for pattern in ("systemd/units/tram-*", "image-build/**/systemd/system/tram-*")
    for unit in sorted(ROOT.glob(pattern))
    if unit.is_file() and "@" not in unit.name
)
"""The kernel's command line for a system without any unit of ours."""


def reached_s(board: VirtualBoard, unit: str) -> float:
    """Seconds from the start of the kernel until `unit` was active."""
    told = answered(board, f"systemctl show --value --property=ActiveEnterTimestampMonotonic {unit}").strip()
    return int(told) / 1e6


def test_buttons_are_armed_hardly_later_than_the_bare_system_is_up(
    image: Path, folder: Path, commissioned: Path
) -> None:
    """The least of some boots each, taken in turns: whatever else runs on this machine only adds."""
    ours, bare = [], []
    for number in range(BOOTS):
        for name, append in (("armed", ""), ("bare", BARE)):
            board = VirtualBoard(image, folder / f"{name}-{number}", commissioned)
            board.append = append
            try:
                board.start()
                if append:
                    wait("it is up", lambda b=board: reached_s(b, "multi-user.target") > 0, 300 * board.patience)
                    bare.append(reached_s(board, "multi-user.target"))
                else:
                    wait("buttons are armed", lambda b=board: armed(b), 300 * board.patience)
                    ours.append(reached_s(board, "tram-voice.service"))
            finally:
                board.close()
    print(json.dumps({"kernel_to_armed_s": ours, "kernel_to_bare_multi_user_s": bare, "ratio": min(ours) / min(bare)}))
    assert min(ours) <= RATIO * min(bare)


def written(board: VirtualBoard) -> int:
    """Bytes written to the card since it was switched on."""
    return int(answered(board, "sync; cat /sys/block/vda/stat").split()[6]) * 512


def test_an_idle_station_writes_next_to_nothing(board: VirtualBoard, around: Surroundings) -> None:
    """With a province that hears it, and time that is certain. What is hourly is counted if it falls into it."""
    around.wait_online(board, 240)
    sleep(SETTLE_S)
    before = written(board)
    sleep(IDLE_S)
    after = written(board)
    mb_a_day = (after - before) / 2**20 * 86400 / IDLE_S
    files = answered(board, f"find /data -xdev -type f -mmin -{IDLE_S / 60:.0f} -exec ls -ls {{}} + || true")
    print(json.dumps({"idle_s": IDLE_S, "bytes": after - before, "mb_a_day": mb_a_day}), files, sep="\n")
    assert mb_a_day <= MB_A_DAY
