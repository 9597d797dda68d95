"""What the daemons load, and what they must do without: the memory of a small computer is measured in such things."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import agent

ROOT = Path(__file__).resolve().parents[3]
VOICE = """
import agent.voice.main, gpiozero.pins.mock
from gpiozero import DigitalInputDevice, DigitalOutputDevice, GPIOZeroError
import drivers.gpio, drivers.virtual_gpio, drivers.wav_sink
"""
STARTS = {
    "agent": (
        "import agent.app",
        "yaml zipfile importlib.resources http.client email dataclasses inspect cryptography ipaddress locale",
    ),
    "voice": (
        VOICE,
        "yaml zipfile importlib.resources http.client email sqlite3 ssl paho nacl gpiozero.boards asyncio",
    ),
    "board": ("import agent.screen.main, drivers.png_board", "msgspec PIL typing dataclasses pathlib subprocess ssl"),
}


def modules_after(code: str, *, lean: bool = True) -> set[str]:
    """The modules that are loaded when a new interpreter has run `code`."""
    first = "from agent import lean; lean.keep_out()\n" if lean else ""
    last = "\nimport sys, json; print(json.dumps([n for n, m in sys.modules.items() if hasattr(m, '__file__')]))"
    told = subprocess.run([sys.executable, "-c", first + code + last], capture_output=True, check=True, cwd=ROOT)
    return set(json.loads(told.stdout))


def printed(code: str, first: str = "from agent import lean; lean.keep_out()\n") -> str:
    return subprocess.run(
        [sys.executable, "-c", first + code], capture_output=True, check=True, cwd=ROOT, text=True
    ).stdout.strip()


@pytest.mark.parametrize("process", STARTS)
def test_a_daemon_does_not_load_what_it_does_not_need(process: str) -> None:
    code, unwanted = STARTS[process]
    assert modules_after(code, lean=process != "board").isdisjoint(unwanted.split())


def test_a_module_that_was_kept_out_is_loaded_when_it_is_used() -> None:
    assert printed("import urllib.request; print(urllib.request.Request('http://a.vn/').host)") == "a.vn"
    assert printed("from importlib.metadata import entry_points; print(len(entry_points(group='none')))") == "0"
    assert (
        printed("from urllib.parse import urlsplit; print(urlsplit('https://[2001:db8::1]:80/').hostname)")
        == "2001:db8::1"
    )
    assert (
        printed("import calendar; print(calendar.LocaleTextCalendar(locale='C').formatmonthname(2026, 1, 0))")
        == "January 2026"
    )
    assert printed("from datetime import datetime as d; print(d.strptime('3 Mar 2026', '%d %b %Y').month)") == "3"
    assert printed("from importlib.metadata import version; print(version('tram'))") == agent.__version__


def test_the_parts_of_a_package_are_found_by_its_own_name() -> None:
    assert printed("import gpiozero; print(gpiozero.Button.__module__)") == "gpiozero.input_devices"
    left_out = (
        "from gpiozero import LED\ntry:\n    from gpiozero import TrafficLights\nexcept ImportError as e:\n    print(e)"
    )
    assert "TrafficLights" in printed(left_out)


def test_a_library_that_is_loaded_already_stays_as_it_is() -> None:
    code = "import urllib.request as a; lean.keep_out(); import urllib.request as b; print(a is b, bool(a.__file__))"
    assert printed(code, first="from agent import lean\n") == "True True"


def test_threads_of_the_agent_share_one_heap() -> None:
    code = """
import ctypes, re, threading
lean.one_heap()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
threads = [threading.Thread(target=libc.malloc, args=(1000,)) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""
    assert printed(code, first="from agent import lean\n").count("<heap nr=") == 1


def test_the_version_is_said_once_in_two_places() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert agent.__version__ == project["version"]
