"""The decoding child of a board: one film into pictures in shared memory. `python -m agent.screen.film JOB`.

JOB is JSON: `path`, `width`, `height`, `fill`, `memory` (a descriptor of shared memory), `out` (a pipe), `media` (a
module of `drivers`), `go` (a pipe: with its first byte the film begins), `plugins` (its folder of libVLC's plugins,
made when it is not there). Lines on `out`: `frame SLOT` when a picture's moment has come, `lost N` at the end,
`fault WHY`. Nothing here is trusted to end well: the parent ends it when its time is over or when it says nothing.
"""

from __future__ import annotations

import importlib
import json
import mmap
import os
import resource
import subprocess
import sys

MEMORY = 1024 * 2**20
"""Address space; decoding Full HD took 760 MB of it, and 145 MB of memory."""
CPU_S = 4 * 3600
FILES = 64


def main(job: str) -> None:
    """Play it; never returns."""
    # The board goes first, its films do not.
    os.setpriority(os.PRIO_PROCESS, 0, max(0, os.getpriority(os.PRIO_PROCESS, 0)))
    told = json.loads(job)
    out = told["out"]

    def say(line: str) -> None:
        try:
            os.write(out, line.encode() + b"\n")
        except OSError:
            os._exit(0)

    if told.get("plugins") is not None and not os.path.isdir(told["plugins"]):
        os.makedirs(os.path.dirname(told["plugins"]), exist_ok=True)
        subprocess.run([sys.executable, "-m", told["media"], told["plugins"]], check=False)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))
    driver = importlib.import_module(told["media"])
    width, height = told["width"], told["height"]
    memory = mmap.mmap(told["memory"], driver.SLOTS * width * height * 4)
    try:
        film = driver.Film(told["path"], memory, width, height, fill=told["fill"], plugins=told.get("plugins"))
        # Only now: where no memory may be both written and run libffi keeps what libVLC calls back in a file.
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        if not os.read(told["go"], 1):
            os._exit(0)
        film.start()
    except (driver.FilmError, OSError) as error:
        say(f"fault {error}")
        os._exit(0)
    while (slot := film.moments.get()) is not None:
        say(f"frame {slot}")
    say(f"lost {film.lost()}")
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
