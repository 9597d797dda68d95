"""A small good configuration and its mistakes."""

from __future__ import annotations

from pathlib import Path

from agent.model.loader import ConfigError, Problem, load

EXAMPLES = sorted((Path(__file__).parents[3] / "config").glob("*.yaml"))

GOOD = """\
device:
  id: xa-mau
  name: Đài truyền thanh xã Mẫu
  unit: 84/86/xa-mau
trust:
  root_keys: trust/roots.json
  authorities: trust/authorities.json
zones:
  - id: loa
    kind: sound
    output: {driver: wav, path: out/station.wav}
"""


def write(folder: Path, text: str | bytes) -> Path:
    """The text as a file."""
    path = folder / "station.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def problems_of(path: Path) -> list[Problem]:
    """What `load` refuses the file for; [] if it does not."""
    try:
        load(path)
    except ConfigError as error:
        return error.problems
    return []
