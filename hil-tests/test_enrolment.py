"""A board with a fresh image becomes a station: the card's folder, the one-time code, the province's office.

The tests of this file share a board and follow each other.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import pytest
import yaml
from board import Board, answered, armed, put, wait
from surroundings import Surroundings
from virtual import VirtualBoard

from province.device import prepare
from province.enrol_server import EnrolServer
from province.enrolment import Register
from province.store import Endpoint

pytestmark = [pytest.mark.network, pytest.mark.powercut, pytest.mark.virtual_board]
NEW = "xa-moi"
CARD = "/boot/tram/tram"


@pytest.fixture(scope="module")
def office(around: Surroundings) -> Iterator[EnrolServer]:
    around.broker.allow({"xa-mau": ["tinh-mau"], NEW: []})
    server = EnrolServer(
        around.folder,
        around.pki,
        names=[around.host, "127.0.0.1"],
        changed=lambda: around.broker.allow({"xa-mau": ["tinh-mau"], NEW: []}),
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def board(image: Path, folder: Path) -> Iterator[VirtualBoard]:
    """One that has nothing but the image."""
    made = VirtualBoard(image, folder / "blank")
    made.start()
    yield made
    made.close()


def code(around: Surroundings) -> str:
    register = Register(around.folder, around.pki)
    made = register.new_code(NEW, time.time())
    register.close()
    return made


def fill_card(board: Board, around: Surroundings, office: EnrolServer, out: Path) -> None:
    """What a technician does on any computer, done through the board itself."""
    template = out / "like.yaml"
    out.mkdir(parents=True, exist_ok=True)
    template.write_text(yaml.safe_dump(around.configuration(board.sound_device), allow_unicode=True), "utf-8")
    there = around.province
    settings = msgspec.structs.replace(there.settings, broker=Endpoint(around.host, around.broker.port))
    there.settings, kept = settings, there.settings
    made = prepare(there, NEW, template, out, url=office.url, code=code(around))
    there.settings = kept
    copy(board, {str(file.relative_to(made)): file.read_bytes() for file in made.rglob("*") if file.is_file()})


def copy(board: Board, files: Mapping[str, bytes]) -> None:
    """Files into the card's folder."""
    answered(board, "mountpoint -q /boot/tram || mount /boot/tram; mount -o remount,rw /boot/tram")
    for name, content in files.items():
        place = f"{CARD}/{name}"
        answered(board, f"mkdir -p $(dirname {place}) && cat >{place}", stdin=content)
    answered(board, "sync && umount /boot/tram")


def seen(around: Surroundings) -> bool:
    with around.watcher.changed:
        return NEW in around.record.fleet


def state(board: Board) -> str:
    return board.run("cat /var/lib/tram/identity/enrolment.json").out


def card_is_read_only(board: Board) -> bool:
    answered(board, "mountpoint -q /boot/tram || mount /boot/tram")
    return board.run("touch /boot/tram/x").code != 0


def test_without_a_configuration_screen_and_console_say_what_to_do(board: VirtualBoard, folder: Path) -> None:
    wait("the guide is on the serial console", lambda: "This device is not set up yet" in board.console(), 90)
    assert "chưa được cài đặt" in board.console()
    assert not armed(board)
    wait("the screen's font has Vietnamese letters", lambda: ended(board, "tram-font") == "success", 60)
    board.screen(folder / "guide.png")


def ended(board: Board, unit: str) -> str:
    """How a unit that has run ended, "success" or what else; nothing as long as it has not."""
    told = answered(board, f"systemctl show --property=ActiveState,Result,ConditionResult {unit}").split()
    has = dict(line.split("=", 1) for line in told)
    return has["Result"] if has["ConditionResult"] == "yes" and has["ActiveState"] in {"inactive", "failed"} else ""


def test_a_hostile_card_is_refused_told_and_harms_nothing(board: VirtualBoard) -> None:
    copy(
        board,
        {"station.yaml": b"device: !!python/object/apply:os.system ['touch /data/owned']\n", "code.txt": b"\0\xff"},
    )
    board.power_cut()
    board.start()
    wait("it is refused", lambda: ended(board, "tram-firstboot") == "exit-code", 60 * board.patience)
    wait("the console says so", lambda: "station.yaml" in board.console(), 60 * board.patience)
    assert board.run("ls /etc/tram/station.yaml /var/lib/tram/identity/code /data/owned").out == ""
    assert card_is_read_only(board)


def test_the_card_is_taken_in_and_the_buttons_are_armed_although_the_province_is_away(
    board: VirtualBoard, around: Surroundings, office: EnrolServer, folder: Path
) -> None:
    fill_card(board, around, office, folder / "card")
    board.power_cut()
    office.stop()
    board.start()
    wait("buttons are armed", lambda: armed(board), 120 * board.patience)
    wait("it has made its key and asks", lambda: '"keyed"' in state(board), 60 * board.patience)
    assert answered(board, "stat -c '%U %a' /var/lib/tram/identity/pending.key").split() == ["tram", "600"]
    assert card_is_read_only(board)


def test_the_code_is_off_the_card(board: VirtualBoard) -> None:
    left = answered(board, f"ls {CARD}").split()
    assert "code.txt" not in left
    assert "station.yaml.taken" in left
    assert "station.yaml" not in left


def test_after_a_power_cut_it_goes_on_with_a_wrong_clock_and_comes_on_line_with_its_certificate(
    board: VirtualBoard, around: Surroundings, office: EnrolServer
) -> None:
    board.power_cut()
    again = EnrolServer(around.folder, around.pki, port=office.port, names=[around.host, "127.0.0.1"])
    again.start()
    around.clock.silent = True
    board.extra = ["-rtc", "base=2011-11-11T11:11:11"]
    try:
        board.start()
        assert board.run(f"mount /boot/tram; test -e {CARD}/code.txt").code != 0
        wait("it is enrolled", lambda: '"enrolled"' in state(board), 180 * board.patience)
        assert int(answered(board, "date +%s")) < time.time() - 3600, "its clock is still wrong"
        wait("the province sees it", lambda: seen(around), 240 * board.patience)
        assert board.run("ls /var/lib/tram/identity/code /var/lib/tram/identity/pending.key").code != 0
    finally:
        around.clock.silent = False
        board.extra = []
        again.stop()


def test_a_wrong_code_is_told_on_the_console_and_the_station_goes_on(board: VirtualBoard, around: Surroundings) -> None:
    again = EnrolServer(around.folder, around.pki, names=[around.host, "127.0.0.1"])
    again.start()
    try:
        answered(board, f"sed -i 's#^  url: .*#  url: {again.url}#' /etc/tram/station.yaml")
        put(board, {"/var/lib/tram/identity/code": b"AAAAA-AAAAA-AAAAA-AAAAA\n"}, 0o600)
        answered(board, "chown tram:tram /var/lib/tram/identity/code && systemctl restart --no-block tram-enrol")
        wait("it is refused", lambda: '"refused"' in state(board), 90 * board.patience)
        wait("the console says so", lambda: "The province has refused this device" in board.console(), 60)
        assert armed(board)
    finally:
        again.stop()
