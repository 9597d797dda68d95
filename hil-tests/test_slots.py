"""The card and its two slots, started by the firmware: growing, an update's boot choice, damage.

An update over the air is more than this (who fetches it, who marks it good); here is what it rests on.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from board import answered, wait
from firmware import MIB, FirmwareBoard
from virtual import VirtualBoard

pytestmark = [pytest.mark.virtual_board, pytest.mark.powercut]
CARD_MIB = 6000
LAYOUT = Path(__file__).parents[1] / "image-build" / "layout"
PARTS = {
    name: (int(start), int(size))
    for _number, name, start, size in (
        line.split() for line in subprocess.check_output([LAYOUT, "virtual-board", "parts"], text=True).splitlines()
    )
}
"""Start and size of each partition in MiB."""
IMAGE_MIB = sum(PARTS["data"]) + 1
NO_SYSTEM = "no system on this card can be started"


@pytest.fixture(scope="module")
def station(image: Path, folder: Path) -> Iterator[FirmwareBoard]:
    board = FirmwareBoard(image, folder / "slots", CARD_MIB)
    board.start()
    yield board
    board.close()


def slot(board: VirtualBoard) -> str:
    """The slot that runs: A or B."""
    found = re.search(r"rauc\.slot=([AB])", answered(board, "cat /proc/cmdline"))
    assert found is not None
    return found[1]


def again(board: VirtualBoard) -> str:
    """Power off and on; the slot that runs then."""
    answered(board, "sync")
    board.power_cut()
    board.start()
    return slot(board)


def said(board: VirtualBoard, words: str, within_s: float = 400) -> None:
    """Wait for words on the console of a board that does not come up."""
    wait(f"the console says {words!r}", lambda: words in board.console(), within_s * board.patience, every_s=1)


def test_the_firmware_that_knows_nothing_starts_slot_a_and_knows_both_then(station: FirmwareBoard) -> None:
    assert slot(station) == "A"
    entries = answered(station, "efibootmgr")
    assert re.search(r"^Boot[0-9A-F]{4}\* A\b", entries, re.MULTILINE)
    assert re.search(r"^Boot[0-9A-F]{4}\* B\b", entries, re.MULTILINE)


def test_the_data_partition_grows_to_the_end_of_the_card_and_stays_mounted(station: FirmwareBoard) -> None:
    assert data_mib(station) > CARD_MIB - IMAGE_MIB
    answered(station, "sleep 20", timeout_s=60)
    assert data_mib(station) > CARD_MIB - IMAGE_MIB
    before = answered(station, "cat /proc/sys/kernel/random/boot_id >/data/tram/proof && cat /data/tram/proof")
    again(station)
    assert answered(station, "cat /data/tram/proof") == before
    assert data_mib(station) > CARD_MIB - IMAGE_MIB


def data_mib(board: VirtualBoard) -> int:
    """The size of the mounted data partition."""
    return int(answered(board, "findmnt -bno SIZE /data").strip()) // MIB


def test_an_update_is_started_once_and_falls_back_when_nobody_marks_it_good(station: FirmwareBoard) -> None:
    answered(station, "mount -t 9p -o ro bundles /mnt && cp /mnt/*.raucb /data/tram && umount /mnt", timeout_s=300)
    answered(station, "rauc install /data/tram/*.raucb && rm /data/tram/*.raucb", timeout_s=1200)
    assert "BootNext" in answered(station, "efibootmgr")
    assert again(station) == "B"
    assert again(station) == "A"


def test_an_update_that_is_marked_good_stays(station: FirmwareBoard) -> None:
    answered(station, "rauc status mark-active other", timeout_s=60)
    assert again(station) == "B"
    answered(station, "rauc status mark-good", timeout_s=60)
    assert again(station) == "B"


def test_a_firmware_that_has_forgotten_its_entries_starts_a_slot(station: FirmwareBoard) -> None:
    station.power_cut()
    station.forget_boot_entries()
    station.start()
    assert slot(station) == "A"


def test_a_damaged_slot_is_left_for_the_other_one(station: FirmwareBoard) -> None:
    answered(station, "rauc status mark-good other && rauc status mark-good", timeout_s=60)
    answered(station, "sync")
    station.power_cut()
    station.overwrite(*PARTS["rootfs-a"])
    station.start()
    assert slot(station) == "B"
    assert "bad" in answered(station, "rauc status")


def test_a_power_cut_in_an_unmarked_slot_with_a_damaged_other_one_is_no_end(station: FirmwareBoard) -> None:
    """The hole of a boot loader that counts tries: nothing is eligible, and the damaged one is started for ever."""
    answered(station, "rauc status mark-bad booted", timeout_s=60)
    assert again(station) == "B"


def test_with_both_slots_damaged_there_is_a_message_on_screen_and_serial_line(
    station: FirmwareBoard, folder: Path
) -> None:
    station.power_cut()
    station.overwrite(*PARTS["rootfs-b"])
    station.power_on()
    said(station, NO_SYSTEM, 600)
    station.screen(folder / "rescue.png")
    assert "initramfs)" not in station.console()  # no shell for whoever has a keyboard
    station.power_cut()
    for name in ("boot-a", "boot-b"):
        station.overwrite(*PARTS[name])
    station.power_on()
    said(station, NO_SYSTEM, 600)


@pytest.mark.parametrize(
    ("mib_written", "card_mib", "words"),
    [
        (1500, IMAGE_MIB, "was not written to the card completely"),
        (1500, 1500, "the card is too small: it has 1500 MiB"),
    ],
    ids=["written halfway", "a card too small"],
)
def test_a_card_that_is_not_whole_says_so(
    mib_written: int, card_mib: int, words: str, image: Path, folder: Path
) -> None:
    card = folder / f"card-{card_mib}"
    shutil.copytree(image, card, symlinks=True, ignore=shutil.ignore_patterns("*.raucb", "disk.img"))
    board_folder = folder / f"bad-{card_mib}"
    with (image / "disk.img").open("rb") as whole, (card / "disk.img").open("wb") as part:
        for at in range(mib_written):
            block = whole.read(MIB)
            if block.strip(b"\0"):
                part.seek(at * MIB)
                part.write(block)
        part.truncate(card_mib * MIB)
    board = VirtualBoard(card, board_folder)
    try:
        board.power_on()
        said(board, words)
        board.screen(folder / f"bad-{card_mib}.png")
    finally:
        board.close()
        (card / "disk.img").unlink()


def test_a_foreign_usb_disk_is_not_read(image: Path, folder: Path) -> None:
    """It bears the name of the card's own partition, with a station's folder on it."""
    board = VirtualBoard(image, folder / "usb")
    board.extra = ["-device", "qemu-xhci", "-drive", f"file={image / 'disk.img'},if=none,id=usb,readonly=on,format=raw"]
    board.extra += ["-device", "usb-storage,drive=usb"]
    try:
        board.start()
        assert "08" in answered(board, "cat /sys/bus/usb/devices/*:1.0/bInterfaceClass").split()  # it is seen
        assert answered(board, "ls /sys/block").split() == ["vda"]
    finally:
        board.close()
