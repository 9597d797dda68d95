"""Sample rate conversion by libsoxr (LGPL, comes with libVLC's plugins): high quality, and nothing lost at the end."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_double, c_int, c_size_t, c_uint, c_ulong, c_void_p

_FLOAT32, _INT16 = 0, 3
_NO_DITHER = 8
_HIGH_QUALITY = 4


class _Io(ctypes.Structure):
    _fields_ = (("itype", c_int), ("otype", c_int), ("scale", c_double), ("e", c_void_p), ("flags", c_ulong))


class _Quality(ctypes.Structure):
    _fields_ = (
        ("precision", c_double),
        ("phase_response", c_double),
        ("passband_end", c_double),
        ("stopband_begin", c_double),
        ("e", c_void_p),
        ("flags", c_ulong),
    )


def _load() -> ctypes.CDLL:
    lib = ctypes.CDLL("libsoxr.so.0")
    lib.soxr_create.restype = c_void_p
    lib.soxr_create.argtypes = (
        c_double,
        c_double,
        c_uint,
        POINTER(c_char_p),
        POINTER(_Io),
        POINTER(_Quality),
        c_void_p,
    )
    lib.soxr_quality_spec.restype = _Quality
    lib.soxr_quality_spec.argtypes = (c_ulong, c_ulong)
    lib.soxr_process.restype = c_char_p
    lib.soxr_process.argtypes = (
        c_void_p,
        c_char_p,
        c_size_t,
        POINTER(c_size_t),
        c_char_p,
        c_size_t,
        POINTER(c_size_t),
    )
    lib.soxr_delete.argtypes = (c_void_p,)
    return lib


class Resampler:
    """A stream of interleaved samples from one rate to another, to 16 bit. OSError when libsoxr is not installed.

    In: 16 bit, or 32 bit float with `floats` (full scale 1.0, clipped, also for equal rates). n samples in give
    round(n × ratio) out in all, aligned in time: the filter's delay is taken away.
    """

    def __init__(self, rate_in: int, rate_out: int, channels: int, floats: bool = False) -> None:
        self._lib = _load()
        self._in_bytes = channels * (4 if floats else 2)
        self._out_bytes = channels * 2
        self._ratio = rate_out / rate_in
        error = c_char_p()
        io = _Io(_FLOAT32 if floats else _INT16, _INT16, 1.0, None, _NO_DITHER)
        quality = self._lib.soxr_quality_spec(_HIGH_QUALITY, 0)
        self._soxr = self._lib.soxr_create(rate_in, rate_out, channels, byref(error), byref(io), byref(quality), None)
        if not self._soxr:
            raise ValueError(f"{rate_in} Hz to {rate_out} Hz: {(error.value or b'').decode()}")

    def process(self, data: bytes) -> bytes:
        """Whole frames in, whole frames out (may be empty: the filter needs more)."""
        return self._run(data, len(data) // self._in_bytes)

    def flush(self) -> bytes:
        """What the filter still holds. Nothing may follow."""
        out = []
        while part := self._run(None, 0):
            out.append(part)
        return b"".join(out)

    def close(self) -> None:
        """Free the filter; may be called twice."""
        if self._soxr:
            self._lib.soxr_delete(self._soxr)
            self._soxr = None

    def _run(self, data: bytes | None, frames: int) -> bytes:
        room = int(frames * self._ratio) + 4096
        out = ctypes.create_string_buffer(room * self._out_bytes)
        taken, made = c_size_t(), c_size_t()
        error = self._lib.soxr_process(self._soxr, data, frames, byref(taken), out, room, byref(made))
        if error:
            raise ValueError(error.decode())
        if taken.value != frames:
            raise ValueError(f"the resampler took {taken.value} of {frames} samples")
        return out.raw[: made.value * self._out_bytes]
