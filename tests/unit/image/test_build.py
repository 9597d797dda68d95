"""What the image build writes down without building: partitions, command lines, boot files, lists, locked packages."""

from __future__ import annotations

import configparser
import itertools
import json
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
BUILD = ROOT / "image-build"
BOARDS = ("virtual-board", "raspberry")


def layout(*words: str) -> list[str]:
    """The lines that `image-build/layout` prints."""
    ran = subprocess.run([sys.executable, BUILD / "layout", *words], capture_output=True, text=True, check=True)
    return ran.stdout.splitlines()


def parts(board: str) -> dict[str, tuple[int, int, int]]:
    """Name to number, start and size in MiB."""
    return {
        name: (int(number), int(start), int(size))
        for number, name, start, size in (line.split() for line in layout(board, "parts"))
    }


def table(board: str, folder: Path) -> list[dict[str, Any]]:
    """The partitions as sfdisk reads them back from a disk that it wrote, in sectors."""
    disk = folder / "disk"
    with disk.open("wb") as file:
        file.truncate(int(layout(board, "size")[0]) << 20)
    tool = "/usr/sbin/sfdisk"  # not in a user's PATH
    subprocess.run([tool, "--quiet", disk], input="\n".join(layout(board, "sfdisk")), text=True, check=True)
    read = subprocess.run([tool, "--json", disk], capture_output=True, text=True, check=True)
    found: list[dict[str, Any]] = json.loads(read.stdout)["partitiontable"]["partitions"]
    return found


@pytest.mark.parametrize("board", BOARDS)
def test_what_is_copied_lies_where_the_table_says(board: str, tmp_path: Path) -> None:
    read = {int(re.sub(r".*[^\d]", "", p["node"])): (p["start"], p["size"]) for p in table(board, tmp_path)}
    for number, start, size in parts(board).values():
        assert read[number] == (start << 11, size << 11)


@pytest.mark.parametrize("board", BOARDS)
def test_partitions_follow_each_other_and_data_is_the_last(board: str) -> None:
    found = list(parts(board).items())
    for (_one, (_, start, size)), (_next, (_, after, _size)) in itertools.pairwise(found):
        assert start + size <= after
    assert found[-1][0] == "data"
    assert sum(found[-1][1][1:]) < int(layout(board, "size")[0])


@pytest.mark.parametrize("board", BOARDS)
def test_both_slots_are_alike(board: str) -> None:
    found = parts(board)
    assert found["rootfs-a"][2] == found["rootfs-b"][2]
    assert found["boot-a"][2] == found["boot-b"][2]


@pytest.mark.parametrize("slot", ["a", "b"])
def test_a_raspberry_slots_root_is_the_partition_that_its_command_line_names(slot: str, tmp_path: Path) -> None:
    (line,) = layout("raspberry", "cmdline", slot)
    found = re.search(r"root=PARTUUID=([0-9a-f]{8})-(\d\d)", line)
    assert found is not None
    assert int(found[2]) == parts("raspberry")[f"rootfs-{slot}"][0]
    table("raspberry", tmp_path)
    with (tmp_path / "disk").open("rb") as disk:
        disk.seek(440)
        assert struct.unpack("<I", disk.read(4))[0] == int(found[1], 16)


@pytest.mark.parametrize("board", BOARDS)
def test_a_kernel_that_panics_starts_anew_and_the_initramfs_gives_no_shell(board: str) -> None:
    words = layout(board, "cmdline", "a")[0].split()
    assert "ro" in words
    assert "sysctl.kernel.panic=10" in words
    assert not [word for word in words if word.startswith("panic=")]  # with it the rescue message would not be asked
    assert "rauc.slot=A" in words


@pytest.mark.parametrize(("board", "by"), [("virtual-board", "by-partlabel/"), ("raspberry", "by-partuuid/7472616d-")])
def test_rauc_knows_the_slots_of_the_table(board: str, by: str) -> None:
    system = configparser.ConfigParser()
    system.read(BUILD / board / "root/etc/rauc/system.conf", "utf-8")
    assert system["system"]["compatible"] == f"tram-{board}"
    for kind in ("rootfs", "boot"):
        for index, slot in enumerate("ab"):
            name = f"{kind}-{slot}" if board == "virtual-board" else f"{parts(board)[f'{kind}-{slot}'][0]:02d}"
            assert system[f"slot.{kind}.{index}"]["device"] == f"/dev/disk/{by}{name}"
    assert [system[f"slot.rootfs.{i}"]["bootname"] for i in (0, 1)] == ["A", "B"]


def test_the_raspberry_firmware_takes_slot_a_and_tries_slot_b() -> None:
    auto = configparser.ConfigParser()
    auto.read(BUILD / "raspberry/boot/autoboot.txt", "ascii")
    assert auto["all"]["tryboot_a_b"] == "1"
    assert int(auto["all"]["boot_partition"]) == parts("raspberry")["boot-a"][0]
    assert int(auto["tryboot"]["boot_partition"]) == parts("raspberry")["boot-b"][0]


def test_the_firmware_holds_relays_off_and_buttons_open_for_the_example_station() -> None:
    lines = [line for line in (BUILD / "raspberry/boot/config.txt").read_text("ascii").splitlines() if line[:1] != "#"]
    pulls: dict[int, str] = {}
    for line in lines:
        if line.startswith("gpio="):
            _, pins, state = line.split("=")
            pulls |= {int(pin): state for pin in pins.split(",")}
    assert pulls == {17: "ip,pd", 27: "ip,pu", 5: "ip,pu", 6: "ip,pu", 13: "ip,pu"}
    assert "kernel=vmlinuz" in lines
    assert "initramfs initrd.img followkernel" in lines


@pytest.mark.parametrize(("slot", "root", "name"), [("boot.0", "05", "A"), ("boot.1", "06", "B")])
@pytest.mark.parametrize("made_for", ["a", "b"])
def test_an_update_gets_the_command_line_of_the_slot_that_it_goes_to(
    slot: str, root: str, name: str, made_for: str, tmp_path: Path
) -> None:
    line = tmp_path / "cmdline.txt"
    line.write_text(layout("raspberry", "cmdline", made_for)[0] + "\n", "ascii")
    environment = {"PATH": "/usr/bin:/bin", "RAUC_SLOT_NAME": slot, "RAUC_SLOT_MOUNT_POINT": str(tmp_path)}
    subprocess.run([BUILD / "raspberry/hook", "slot-post-install"], env=environment, check=True)
    assert line.read_text("ascii").split() == layout("raspberry", "cmdline", name.lower())[0].split()
    assert f"-{root} " in line.read_text("ascii")


def test_the_manifest_names_every_debian_and_python_package(tmp_path: Path) -> None:
    (tmp_path / "packages").write_text("libc6:arm64\t2.41-12\nrauc\t1.13-3\n", "utf-8")
    words = [sys.executable, BUILD / "manifest", "raspberry", "arm64", "abc123", tmp_path / "packages"]
    said = subprocess.run(words, capture_output=True, text=True, check=True, env={"PYTHONUTF8": "1"}).stdout
    head, *lines = said.splitlines()
    assert head == "# Trạm, image for raspberry (arm64), source abc123"
    assert lines[:2] == ["libc6:arm64\t2.41-12", "rauc\t1.13-3"]
    listed = dict(line.split("\t") for line in lines)
    assert "tram" in listed
    device = locked("requirements-device.lock")
    assert {n: v for n, v in device.items() if n not in ("pip", "setuptools")} == {
        name.removeprefix("python:"): version for name, version in listed.items() if name.startswith("python:")
    }


def test_each_list_of_packages_has_a_word_a_line() -> None:
    lists = sorted(BUILD.rglob("*.list"))
    assert len(lists) >= 4
    for file in lists:
        for line in file.read_text("utf-8").splitlines():
            assert re.fullmatch(r"([a-z0-9][a-z0-9.+-]+)?\s*(#.*)?", line), f"{file.name}: {line}"


@pytest.mark.parametrize("script", ["build", "assemble", "deb", "wheels", "try-deb", "try-inside", "try-arm64"])
def test_bash_reads_the_scripts(script: str) -> None:
    subprocess.run(["bash", "-n", BUILD / script], check=True)


@pytest.mark.parametrize(
    "script", sorted(p for f in BUILD.rglob("initramfs-tools") for p in f.glob("[hs]*/**/tram*") if p.is_file())
)
def test_sh_reads_what_runs_in_the_initramfs(script: Path) -> None:
    subprocess.run(["sh", "-n", script], check=True)


def locked(name: str) -> dict[str, str]:
    """Packages of a lock file with their versions."""
    text = (ROOT / name).read_text("utf-8")
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ ;\\]+)", text, re.MULTILINE))


def test_a_station_gets_the_versions_that_are_tested() -> None:
    device, tested = locked("requirements-device.lock"), locked("requirements-dev.lock") | locked("requirements.lock")
    other = {n: (v, tested[n]) for n, v in device.items() if n in tested and tested[n] != v}
    assert other == {}, "scripts/lock makes the lock files anew"
    hardware_only = {"lgpio", "smbus2", "systemd-python", "pip", "setuptools"}
    assert set(device) - set(tested) <= hardware_only
