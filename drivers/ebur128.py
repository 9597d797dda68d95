"""Loudness by EBU R128, with libebur128 (MIT): of a whole sound, and of what passes.

As a program it measures what comes on stdin (16 bit, one channel, 48 000 Hz): `{"lufs": … or null, "peak": …}`.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import sys
from ctypes import POINTER, byref, c_double, c_int, c_size_t, c_uint, c_ulong, c_void_p

_INTEGRATED, _SHORT_TERM, _TRUE_PEAK = 0b101, 0b11, 0b110001
_GATE_LUFS = -70.0
"""Below this nothing counts as sound."""


def _load() -> ctypes.CDLL:
    lib = ctypes.CDLL("libebur128.so.1")
    lib.ebur128_init.restype = c_void_p
    lib.ebur128_init.argtypes = (c_uint, c_ulong, c_int)
    lib.ebur128_destroy.argtypes = (POINTER(c_void_p),)
    lib.ebur128_add_frames_short.argtypes = (c_void_p, ctypes.c_char_p, c_size_t)
    for name in ("global", "shortterm"):
        getattr(lib, f"ebur128_loudness_{name}").argtypes = (c_void_p, POINTER(c_double))
    for name in ("true_peak", "prev_true_peak"):
        getattr(lib, f"ebur128_{name}").argtypes = (c_void_p, c_uint, POINTER(c_double))
    return lib


class _State:
    """The library's state for one channel of 16 bit. OSError when libebur128 is not installed."""

    def __init__(self, rate: int, mode: int) -> None:
        self._lib = _load()
        self._state = c_void_p(self._lib.ebur128_init(1, rate, mode))
        if not self._state:
            raise MemoryError("no loudness meter")

    def add(self, pcm: bytes) -> None:
        """More of the sound."""
        if self._lib.ebur128_add_frames_short(self._state, pcm, len(pcm) // 2):
            raise MemoryError("the loudness meter has no room")

    def close(self) -> None:
        """Free it; may be called twice."""
        if self._state:
            self._lib.ebur128_destroy(byref(self._state))


class Meter(_State):
    """Measures one sound."""

    def __init__(self, rate: int) -> None:
        super().__init__(rate, _INTEGRATED | _TRUE_PEAK)

    def loudness(self) -> float | None:
        """Integrated loudness in LUFS; None for silence, and for a sound too short to have one (under 0.4 s)."""
        value = c_double()
        self._lib.ebur128_loudness_global(self._state, byref(value))
        return value.value if math.isfinite(value.value) and value.value > _GATE_LUFS else None

    def true_peak(self) -> float:
        """The largest true peak in dBTP; −inf for digital silence."""
        value = c_double()
        self._lib.ebur128_true_peak(self._state, 0, byref(value))
        return 20 * math.log10(value.value) if value.value > 0 else -math.inf


class Passing(_State):
    """Measures what passes, without end. Loudness is in LUFS, −inf for digital silence."""

    def __init__(self, rate: int) -> None:
        super().__init__(rate, _SHORT_TERM | _TRUE_PEAK)

    def short_term(self) -> float:
        """Of the last 3 s; what has not been given yet counts as silence."""
        value = c_double()
        self._lib.ebur128_loudness_shortterm(self._state, byref(value))
        return value.value

    def last_peak(self) -> float:
        """The largest true peak of what was added last; 1.0 is full scale."""
        value = c_double()
        self._lib.ebur128_prev_true_peak(self._state, 0, byref(value))
        return value.value


def measure(pcm: bytes, rate: int) -> tuple[float | None, float]:
    """Loudness in LUFS (None: it has none) and true peak in dBTP of a whole sound."""
    meter = Meter(rate)
    try:
        meter.add(pcm)
        return meter.loudness(), meter.true_peak()
    finally:
        meter.close()


def main() -> None:
    """Measure stdin."""
    os.nice(10)
    meter = Meter(48_000)
    rest = b""
    while data := os.read(0, 1 << 18):
        data = rest + data
        whole = len(data) // 2 * 2
        meter.add(data[:whole])
        rest = data[whole:]
    json.dump({"lufs": meter.loudness(), "peak": max(meter.true_peak(), -200.0)}, sys.stdout)


if __name__ == "__main__":
    main()
