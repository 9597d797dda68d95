"""A board with a fresh image becomes a station: the card's folder, the one-time code, the province's office.

The tests of this file share a board and follow each other.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
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
    answered(board, "mountpoint -q /boot/tram || mount /boot/tram; mount -o remount,rw /boot/tram")
    for file in made.rglob("*"):
        if file.is_file():
            place = f"{CARD}/{file.relative_to(made)}"
            answered(board, f"mkdir -p $(dirname {place}) && cat >{place}", stdin=file.read_bytes())
    answered(board, "sync && umount /boot/tram")


def seen(around: Surroundings) -> bool:
    with around.watcher.changed:
        return NEW in around.record.fleet


def state(board: Board) -> str:
    return board.run("cat /var/lib/tram/identity/enrolment.json").out


def test_without_a_configuration_the_console_says_what_to_do(board: VirtualBoard) -> None:
    wait("the guide is on the serial console", lambda: "This device is not set up yet" in board.console(), 90)
    assert "chưa được cài đặt" in board.console()
    assert not armed(board)


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
    assert board.run("touch /boot/tram/x").code != 0, "the card's partition is read-only again"


@pytest.mark.xfail(reason="seen once: in the first boot the remount before it had no effect; a restart of it worked")
def test_the_code_is_off_the_card(board: VirtualBoard) -> None:
    answered(board, "mountpoint -q /boot/tram || mount /boot/tram")
    assert board.run(f"test -e {CARD}/code.txt").code != 0


def test_after_a_power_cut_it_goes_on_and_comes_on_line_with_its_certificate(
    board: VirtualBoard, around: Surroundings, office: EnrolServer
) -> None:
    board.power_cut()
    again = EnrolServer(around.folder, around.pki, port=office.port, names=[around.host, "127.0.0.1"])
    again.start()
    try:
        board.start()
        wait("it is enrolled", lambda: '"enrolled"' in state(board), 180 * board.patience)
        wait("the province sees it", lambda: seen(around), 240 * board.patience)
        assert board.run("ls /var/lib/tram/identity/code /var/lib/tram/identity/pending.key").code != 0
    finally:
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
