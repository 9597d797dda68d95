"""Voice as it is, whose events are also written, one JSON line each, to a descriptor that the benchmark reads.

`python -m province.bench.tapped_voice CONFIG FD`. An agent that starts uses the voice that runs already.
"""

from __future__ import annotations

import contextlib
import os
import sys

import msgspec

from agent.model.voice import Event, Level
from agent.voice.main import main
from agent.voice.port import Port

_encoder = msgspec.json.Encoder()


def tap(fd: int) -> None:
    """From now on every event is copied to `fd`, after the agent has got it. A full pipe drops it."""
    emit = Port.emit
    os.set_blocking(fd, False)

    def both(self: Port, event: Event) -> None:
        emit(self, event)
        if not isinstance(event, Level):
            with contextlib.suppress(BlockingIOError):
                os.write(fd, _encoder.encode(event) + b"\n")

    Port.emit = both  # type: ignore[method-assign]


if __name__ == "__main__":
    tap(int(sys.argv[2]))
    sys.exit(main(sys.argv[1]))
