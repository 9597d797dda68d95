"""The units as systemd reads them: nothing unknown, exposure within bounds, and what the design promises."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.model.ear import ALIVE_S

ROOT = Path(__file__).parents[3]
UNITS = sorted((ROOT / "systemd" / "units").iterdir())
OURS = (
    "/usr/bin/tram",
    "/usr/lib/tram/guard",
    "/usr/lib/tram/guide",
    "/usr/lib/tram/screen",
    "/usr/lib/tram/bin/python3",
)
PROCESSES = ("tram-voice.service", "tram-agent.service", "tram-ear@.service", "tram-decoder@.service")
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def unit(name: str) -> dict[str, dict[str, list[str]]]:
    """Sections of a unit, every key with all its values in order."""
    read: dict[str, dict[str, list[str]]] = {}
    section = ""
    for line in (ROOT / "systemd" / "units" / name).read_text("utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
            read[section] = {}
        elif "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            read[section].setdefault(key, []).append(value)
    return read


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The units with programs that exist here."""
    folder = tmp_path_factory.mktemp("units")
    for source in UNITS:
        text = source.read_text("utf-8")
        for program in OURS:
            text = text.replace(f"={program} ", "=/bin/true ").replace(f"={program}\n", "=/bin/true\n")
        (folder / source.name).write_text(text, "utf-8")
    return folder


@needs_systemd
@pytest.mark.parametrize("name", [u.name for u in UNITS])
def test_systemd_finds_nothing_wrong_with_a_unit(name: str, staged: Path) -> None:
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", staged / name.replace("@.", "@one.")],
        capture_output=True,
        text=True,
        check=False,
        env={"SYSTEMD_UNIT_PATH": f"{staged}:/usr/lib/systemd/system", "PATH": "/usr/bin:/bin"},
    )
    ours = [line for line in said.stderr.splitlines() if "tram" in line]
    assert ours == []


@needs_systemd
@pytest.mark.parametrize(
    ("name", "bound"), [("tram-voice", 20), ("tram-agent", 20), ("tram-ear@", 20), ("tram-decoder@", 20)]
)
def test_exposure_is_at_most_2(name: str, bound: int, staged: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={bound}", staged / f"{name}.service"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["tram-voice.service", "tram-agent.service"])
def test_a_daemon_says_when_it_is_ready_is_watched_and_never_stays_down(name: str) -> None:
    service = unit(name)["Service"]
    assert service["Type"] == ["notify"]
    assert float(service["WatchdogSec"][0]) > 0
    assert service["Restart"] == ["always"]
    assert unit(name)["Unit"]["StartLimitAction"] == ["reboot"]


def test_voice_waits_for_no_network_agent_or_clock() -> None:
    told = unit("tram-voice.service")["Unit"]
    waits = " ".join(told.get("After", []) + told.get("Requires", []) + told.get("Wants", []))
    for word in ("network", "tram-agent", "chrony", "time-sync", "basic.target"):
        assert word not in waits


def test_what_changes_a_mount_does_it_for_the_machine_and_undoes_it_in_every_exit() -> None:
    """A unit's own name space of mounts holds for its commands with `+` too: a remount there is seen by nobody else."""
    machines = "-+/usr/bin/nsenter --mount=/proc/1/ns/mnt /bin/mount -o remount,"
    for source in UNITS:
        if source.suffix != ".service":
            continue
        commands = [
            (key, value) for key, values in unit(source.name)["Service"].items() if "Exec" in key for value in values
        ]
        mounting = {key: command for key, command in commands if "mount" in command}
        assert all(command.startswith(machines) for command in mounting.values()), source.name
        # ExecStartPost= is left out when the card is refused, ExecStopPost= while the unit stays active.
        assert set(mounting) in (set(), {"ExecStartPre", "ExecStartPost", "ExecStopPost"}), source.name


def test_neither_daemon_stops_the_other() -> None:
    for name in ("tram-voice.service", "tram-agent.service"):
        assert not {"Requires", "BindsTo", "PartOf"} & set(unit(name)["Unit"])


def test_no_unit_gives_a_capability_or_a_root_shell_to_what_plays() -> None:
    for name in PROCESSES:
        service = unit(name)["Service"]
        assert service["CapabilityBoundingSet"] == [""]
        assert service["User"][0].startswith("tram")
        assert service["NoNewPrivileges"] == ["yes"]


def test_users_of_the_units_are_made_and_are_different() -> None:
    made = (ROOT / "systemd" / "sysusers.d" / "tram.conf").read_text("utf-8")
    users = {unit(n)["Service"]["User"][0] for n in PROCESSES}
    assert len(users) == len(PROCESSES)
    for user in users:
        assert f"\nu {user} " in made


def test_the_systems_drop_ins_can_be_read() -> None:
    for file in [*(ROOT / "systemd").glob("system.conf.d/*"), *(ROOT / "systemd").glob("journald.conf.d/*")]:
        assert configparser.ConfigParser(strict=True).read(file)


class Guard:
    """systemd/guard with its paths elsewhere, and a `systemctl` that notes what it is asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = folder / "lib" / "unsteady-boots"
        (folder / "lib").mkdir()
        (folder / "bin").mkdir()
        text = (ROOT / "systemd" / "guard").read_text("utf-8")
        text = text.replace("/var/lib/tram", str(folder / "lib")).replace("/run/systemd", str(folder / "run"))
        (folder / "guard").write_text(text, "utf-8")
        self.systemctl(0)

    def systemctl(self, code: int) -> None:
        program = self.folder / "bin" / "systemctl"
        program.write_text(f'#!/bin/sh\necho "$@" >>{self.folder}/asked\nexit {code}\n', "utf-8")
        program.chmod(0o755)

    def run(self, what: str) -> int:
        path = f"{self.folder / 'bin'}:/usr/bin:/bin"
        return subprocess.run(["sh", self.folder / "guard", what], env={"PATH": path}, check=False).returncode

    @property
    def lifted(self) -> bool:
        return (self.folder / "run" / "system" / "tram-voice.service.d" / "50-no-reboot.conf").exists()


@pytest.fixture
def guard(tmp_path: Path) -> Guard:
    return Guard(tmp_path)


def test_the_fourth_unsteady_start_in_a_row_lifts_the_limits(guard: Guard) -> None:
    for n in range(1, 4):
        assert guard.run("boot") == 0
        assert guard.count.read_text() == f"{n}\n"
        assert not guard.lifted
    assert guard.run("boot") == 0
    assert guard.lifted
    assert "daemon-reload" in (guard.folder / "asked").read_text()


def test_ten_steady_minutes_begin_the_count_anew(guard: Guard) -> None:
    for _ in range(3):
        guard.run("boot")
    assert guard.run("steady") == 0
    guard.run("boot")
    assert guard.count.read_text() == "1\n"
    assert not guard.lifted


def test_minutes_without_voice_are_not_steady(guard: Guard) -> None:
    for _ in range(3):
        guard.run("boot")
    guard.systemctl(3)
    assert guard.run("steady") == 1
    assert guard.count.read_text() == "3\n"


@pytest.mark.parametrize("damage", ["", "many\n", "-3\n", "99999999999999999999\n", "1 2\n"])
def test_a_damaged_count_begins_anew_and_stops_nothing(damage: str, guard: Guard) -> None:
    guard.count.write_text(damage)
    assert guard.run("boot") == 0
    assert guard.count.read_text() == "1\n"


class Guide:
    """systemd/guide with a screen that is a file, and services that have said something."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        self.firstboot = "inactive"
        self._program("journalctl", "echo last words")

    def _program(self, name: str, does: str) -> None:
        program = self.folder / "bin" / name
        program.write_text(f"#!/bin/sh\n{does}\n", "utf-8")
        program.chmod(0o755)

    def shown(self) -> str:
        self._program("systemctl", f"echo {self.firstboot}")
        screens = [self.folder / "tty1", self.folder / "console"]
        for screen in screens:
            screen.write_text("")
        subprocess.run(
            ["sh", ROOT / "systemd" / "guide"],
            env={
                "PATH": f"{self.folder / 'bin'}:/usr/bin:/bin",
                "TRAM_ETC": str(self.folder),
                "TRAM_STATE": str(self.folder / "enrolment.json"),
                "TRAM_SCREENS": " ".join(map(str, [*screens, "/nonexistent/tty9"])),
            },
            check=True,
        )
        first, second = (screen.read_text("utf-8") for screen in screens)
        assert first == second
        return first


def test_screen_and_console_say_what_a_technician_is_to_do_next(tmp_path: Path) -> None:
    guide = Guide(tmp_path)
    shown = guide.shown()
    assert "chưa được cài đặt" in shown
    assert "not set up yet" in shown
    assert "last words" in shown
    (tmp_path / "station.yaml").write_text("device: {}")
    assert guide.shown() == "", "all is well"
    (tmp_path / "enrolment.json").write_text('{"state":"enrolled","how":"code","reason":null}')
    assert guide.shown() == ""
    (tmp_path / "enrolment.json").write_text('{"state":"refused","how":"code","reason":"used-code"}')
    assert "Xin tỉnh một mã mới" in guide.shown()
    (tmp_path / "enrolment.json").unlink()
    guide.firstboot = "failed"
    assert "cấu hình cũ vẫn được giữ" in guide.shown()


def test_the_services_words_for_a_refusal_are_those_that_the_guide_looks_for() -> None:
    import msgspec

    from agent.enrolment.states import Record, State

    assert b'"refused"' in msgspec.json.encode(Record(State.REFUSED))


def test_what_a_decoder_unit_gets_is_what_the_feeds_connect_to() -> None:
    assert unit("tram-decoder.socket")["Socket"]["ListenSequentialPacket"] == ["/run/tram/decoder.sock"]
    assert unit("tram-decoder@.service")["Service"]["StandardInput"] == ["socket"]
    assert "TRAM_SUPERVISOR=systemd" in unit("tram-agent.service")["Service"]["Environment"][0]


def test_the_ear_may_open_cards_and_buses_and_neither_network_nor_state_and_has_a_group_for_each() -> None:
    service = unit("tram-ear@.service")["Service"]
    assert service["DeviceAllow"] == ["char-alsa rw", "char-i2c rw"]
    assert service["PrivateNetwork"] == ["yes"]
    assert "-/var/lib/tram" in service["InaccessiblePaths"][0].split()
    made = (ROOT / "systemd" / "sysusers.d" / "tram.conf").read_text("utf-8")
    for group in service["SupplementaryGroups"][0].split():
        assert f"\nm tram-ear {group}\n" in made
    assert 'GROUP="i2c"' in (ROOT / "systemd" / "udev" / "60-tram.rules").read_text("utf-8")


def test_the_ear_is_started_by_the_agents_call_alone_and_is_watched() -> None:
    socket, service = unit("tram-ear.socket")["Socket"], unit("tram-ear@.service")["Service"]
    assert socket["ListenStream"] == ["/run/tram/ear-control.sock"]
    assert (socket["Accept"], socket["SocketUser"], socket["SocketMode"]) == (["yes"], ["tram"], ["0600"])
    assert service["StandardInput"] == service["StandardOutput"] == ["socket"]
    assert float(service["WatchdogSec"][0]) > ALIVE_S
    assert "Install" not in unit("tram-ear@.service")
