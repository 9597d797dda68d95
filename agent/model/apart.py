"""The configuration as a daemon loads it: read by a child, so that the YAML library and all that it left behind are not
kept in memory for years."""

from __future__ import annotations

import os
from typing import NoReturn

import msgspec

from agent.model.config import Station


def load(path: str) -> Station:
    """The same as `agent.model.loader.load`, and its ConfigError. For a process that has no threads yet."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        _load_and_end(path, write_end)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as loaded:
        data = loaded.read()
    status = os.waitpid(pid, 0)[1]
    if status == 0:
        return msgspec.msgpack.decode(data, type=Station)
    # There are mistakes to be told, or the child could not even be: this process will hardly go on.
    from agent.model import loader

    return loader.load(path)


def _load_and_end(path: str, write_end: int) -> NoReturn:
    status = 1
    try:
        from agent.model import loader

        with os.fdopen(write_end, "wb") as out:
            out.write(msgspec.msgpack.encode(loader.load(path)))
        status = 0
    finally:
        os._exit(status)
