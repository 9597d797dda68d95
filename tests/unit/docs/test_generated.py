"""What scripts make of other files is current: the README's figures, its picture, the licences."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from PIL import Image

from tests.unit.docs.blocks import ROOT


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    return module("figures")


@pytest.fixture(scope="module")
def picture() -> ModuleType:
    return module("picture")


@pytest.fixture(scope="module")
def licences() -> ModuleType:
    return module("licences")


def row(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "unit": "ms", "n": 100, "median": 1.0, "p99": 2.0, "min": 0.5, "max": 3.0, **more}


def test_the_readme_has_the_figures_of_the_bench(figures: ModuleType) -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert figures.filled(readme, figures.read()) == readme, "run: scripts/readme-numbers"


def test_six_rows_and_what_was_not_measured_says_so(figures: ModuleType) -> None:
    lines = figures.table([]).splitlines()
    assert len(lines) == 2 + 6
    assert all(figures.NOT_YET in line for line in lines[2:])


def test_a_figure_stands_beside_those_of_its_peers(figures: ModuleType) -> None:
    rows = [
        row("command_to_sample_ms", median=1.234, target=5),
        row("command_to_sample_ms", median=19.04, peer="mpv 0.35.1"),
        row("command_to_sample_ms", median=3.1, peer="mpv 0.35.1, paused"),
        row("command_to_sample_ms", median=451.3, peer="liquidsoap 2.1"),
        row("order_to_sample_ms", p99=60.0, target=50, note="two cores were busy"),
        row("ready_s", median=None, n=0, target=0.4, note="not measured: no card"),
        row("pss_idle_mb", target=45, note="kept"),
    ]
    lines = figures.table(rows).splitlines()
    assert lines[0].split(" | ")[3:] == ["mpv 0.35.1", "mpd", "liquidsoap 2.1 |"]
    ours = next(line for line in lines if "Prepared programme" in line)
    assert "**1.23 ms (median of 100)** | ≤ 5 ms | 19.0 ms (median of 100); paused: 3.10 ms" in ours
    assert ours.endswith("| – | 451 ms (median of 100) |")
    assert "**60.0 ms (p99 of 100)** | ≤ 50 ms" in next(line for line in lines if "emergency" in line)
    assert "**could not be measured**" in next(line for line in lines if "ready" in line)
    assert [line.partition(": bound not reached. ")[2] for line in lines if line.startswith("- ")] == [
        "two cores were busy",
        "not measured: no card",
    ]


def test_a_peer_that_is_cited_says_so_and_from_where(figures: ModuleType) -> None:
    from province.bench.station import cited

    rows = [row("order_to_sample_ms", target=50), msgspec.to_builtins(cited())]
    lines = figures.table(rows).splitlines()
    assert lines[0].endswith("| OBPlayer |")
    assert next(line for line in lines if "emergency" in line).endswith("| cited: 23200 ms (p99 of 1) |")
    assert next(line for line in lines if line.startswith("- ")).startswith("- OBPlayer, cited: not from this run: ")


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0.000"), (0.0083, "0.008"), (0.4, "0.40"), (19.04, "19.0"), (23_200, "23200")]
)
def test_figures_are_written_out(value: float, text: str, figures: ModuleType) -> None:
    assert figures.figure(value) == text


@pytest.mark.parametrize("text", ["{", "{}", '[{"unit": "ms"}]'])
def test_a_bench_file_that_is_none_is_refused(text: str, figures: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "bench.json").write_text(text)
    with pytest.raises(figures.BenchError):
        figures.read(tmp_path / "bench.json")


def test_the_picture_is_there_and_says_of_which_run() -> None:
    with Image.open(ROOT / "docs" / "timeline.png") as shown:
        assert shown.width == 2000
        assert shown.info["Source"] == "tram demo"
        assert re.fullmatch(r"\d+ of \d+ checks held", shown.info["Description"])


def a_run(folder: Path, *, ok: bool) -> Path:
    checks = [{"name": "programme", "ok": True, "detail": ""}, {"name": "clicks", "ok": ok, "detail": ""}]
    (folder / "summary.json").write_text(json.dumps({"checks": checks}))
    Image.new("RGB", (40, 20), "#1f6fb5").save(folder / "timeline.png")
    return folder


@pytest.mark.parametrize(("ok", "words", "code"), [(True, [], 0), (False, [], 1), (False, ["--anyway"], 0)])
def test_only_a_proven_run_gives_a_picture(
    ok: bool, words: list[str], code: int, picture: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "picture.png"
    monkeypatch.setattr(sys, "argv", ["picture", str(a_run(tmp_path, ok=ok)), str(target), *words])
    assert picture.main() == code
    assert target.exists() == (code == 0)


def test_every_locked_package_is_in_the_licences(licences: ModuleType) -> None:
    text = (ROOT / "LICENSES.md").read_text("utf-8")
    listed = {m[1]: (m[2], m[3]) for m in re.finditer(r"^\| ([^|]+) \| ([^|]*) \| ([^|]+) \|$", text, re.MULTILINE)}
    for lock in ("requirements.lock", "requirements-dev.lock"):
        for name, versions in licences.locked(ROOT / lock).items():
            assert name in listed, f"{name}: run scripts/licences"
            assert listed[name][0] == ", ".join(versions), f"{name}: run scripts/licences"
            assert listed[name][1].strip(), name
    for names in licences.debian().values():
        for name in names:
            assert name in listed, f"{name}: add it to docs/licences.py and run scripts/licences"


def test_a_package_without_a_known_licence_is_told(licences: ModuleType) -> None:
    with pytest.raises(licences.LicenceError, match="no-such-package"):
        licences.licence("no-such-package")
