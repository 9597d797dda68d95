"""The configuration as the daemons load it: in a child, to the same effect."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent.model import apart, loader
from agent.model.loader import ConfigError
from tests.unit.config.files import EXAMPLES, GOOD, write

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.stem)
def test_every_example_is_loaded_as_the_loader_does(example: Path) -> None:
    assert apart.load(str(example)) == loader.load(example)


def test_mistakes_are_told_as_the_loader_does(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace("zones:", "zonen:"))
    with pytest.raises(ConfigError) as direct:
        loader.load(path)
    with pytest.raises(ConfigError) as by_child:
        apart.load(str(path))
    assert str(by_child.value) == str(direct.value)


def test_a_child_that_is_killed_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, GOOD)
    here, load = os.getpid(), loader.load

    def dies_in_the_child(which: str) -> object:
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return load(which)

    monkeypatch.setattr(loader, "load", dies_in_the_child)
    assert apart.load(str(path)) == load(path)


def test_what_the_child_needs_stays_out_of_the_parent() -> None:
    code = (
        "import sys\nfrom agent.model import apart\n"
        f"apart.load({str(EXAMPLES[0])!r})\n"
        "sys.exit('yaml' in sys.modules or 'agent.model.loader' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
