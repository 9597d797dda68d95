"""A file as a frame buffer, for measuring and testing the board's real process where there is no display.

`python -m province.bench.frame_buffer FOLDER CHECK_S …` is `python -m agent.screen …` to which the kernel's answers are
those in FOLDER: `size`, a JSON list of width, height, bits a pixel and bytes a line, and `drm` with its connectors. The
display is looked after every CHECK_S seconds. A copy into a file's pages costs what one into a frame buffer's memory
costs at least; a real one may be slower.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from agent.screen import main as screen
from drivers import hdmi_board


class Display:
    """The folder, as whoever plugs and unplugs sees it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.device = folder / "fb0"
        self._status = folder / "drm" / "card0-HDMI-A-1" / "status"
        self._status.parent.mkdir(parents=True)
        self.plug(there=True)

    def plug(self, *, there: bool) -> None:
        """Plug it in or out."""
        self._status.write_text("connected\n" if there else "disconnected\n")

    def resize(self, width: int, height: int) -> None:
        """Another mode, which is another memory of another size; before the first there is no display."""
        new = self.folder / "new"
        new.write_bytes(bytes(width * height * 4))
        new.replace(self.device)
        new.write_text(json.dumps([width, height, 32, width * 4]))
        new.replace(self.folder / "size")

    def program(self, check_s: float = 2.0) -> tuple[str, ...]:
        """For `agent.screen.client.Screens`."""
        return "-m", "province.bench.frame_buffer", str(self.folder), str(check_s)


def main() -> int:
    """Be the board's process."""
    folder = Path(sys.argv[1])

    def geometry(fd: int) -> tuple[int, int, int, int]:
        width, height, bits, line = json.loads((folder / "size").read_text())
        return width, height, bits, line

    hdmi_board.geometry = geometry
    hdmi_board.DRM = str(folder / "drm")
    screen.CHECK_S = float(sys.argv[2])
    return screen.main(sys.argv[3:])


if __name__ == "__main__":
    sys.exit(main())
