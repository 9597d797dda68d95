"""What microphones have in common: a thread that captures into a pipe while somebody listens."""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Iterator

from agent.model.config import Microphone, Monitor

RATE = 48_000
PERIOD = 240
"""Samples of one delivery: 5 ms."""


class Capture:
    """A device that is open only while it is listened to. `blocks` is the driver's part.

    Samples are signed 16 bit little endian, one channel, 48 000 Hz.
    """

    def __init__(self) -> None:
        self._faults: list[str] = []

    def open(self) -> int:
        """Begin to capture, in a thread: the read end of a pipe. Closing it ends the capture.

        EOF: the device failed, and `take_faults` tells why. OSError when there is no pipe to be had.
        """
        read, write = os.pipe2(os.O_CLOEXEC)
        threading.Thread(target=self._run, args=(write,), name="microphone", daemon=True).start()
        return read

    def take_faults(self) -> list[str]:
        """What went wrong since the last call."""
        faults, self._faults = self._faults, []
        return faults

    def blocks(self) -> Iterator[bytes]:
        """Open the device and give its samples as they come, about `PERIOD` at a time; close it at the end."""
        raise NotImplementedError

    def _run(self, write: int) -> None:
        blocks = self.blocks()
        try:
            for block in blocks:
                os.write(write, block)
            self._faults.append("the microphone gives nothing more")
        except BrokenPipeError:
            pass  # nobody listens any more
        except Exception as error:  # noqa: BLE001 - whatever a driver raises: the emergency core goes on
            self._faults.append(str(error) or type(error).__name__)
        finally:
            blocks.close()  # type: ignore[attr-defined]
            os.close(write)


def open_capture(config: Microphone | Monitor) -> Capture:
    """The microphone or receiver that the configuration names: the driver NAME is `drivers/NAME_capture.py`.

    ImportError when its library is missing.
    """
    capture: Capture = importlib.import_module(f"drivers.{config.driver}_capture").open_capture(config)
    return capture
