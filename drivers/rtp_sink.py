"""RTP multicast of L16 (RFC 3551, RFC 3190): a sound card that is a network, for IP speakers on a LAN.

Samples go out at their own time by CLOCK_MONOTONIC, a packet of 5 ms each; the timestamp is the position on that
clock, so a pause is a gap and not a shift, and the first packet after it has the marker. While the sink rests nothing
is sent. The SDP file beside it (RFC 8866) is what a receiver is given.

A network that takes nothing (no route, no interface) is one fault; the samples are lost in real time, every packet is
tried anew, and `away` says how it stands. What a receiver's own buffer adds is not known here: use the zone's delay.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import struct
import time
from array import array
from collections.abc import Sequence
from pathlib import Path

from agent.model.config import RtpOutput

RATE = 48_000
PERIOD = 240
PTIME_MS = 5
PAYLOAD_TYPE = 96
"""Dynamic: the static types 10 and 11 are L16 at 44 100 Hz."""
REOPEN_NS = 1_000_000_000


class RtpSink:
    """One multicast group, one channel per zone that names it, two at most. Raises OSError: no SDP file can be written.

    `stereo` sends one channel on both, for speakers that take no mono.
    """

    def __init__(self, output: RtpOutput, zones: Sequence[str]) -> None:
        self.xruns = 0
        self.away = False
        self._output = output
        self._spread = 2 if output.stereo and len(zones) == 1 else 1
        self._channels = len(zones)
        self._faults: list[str] = []
        self._socket: socket.socket | None = None
        self._reopen_ns = 0
        self._origin_ns = time.monotonic_ns()
        self._position = 0
        self._stamp = secrets.randbits(32)
        self._sequence = secrets.randbits(16)
        self._source = secrets.randbits(32)
        self._first = True
        self._open(self._origin_ns)
        if output.sdp is not None:
            write_sdp(Path(output.sdp), output, zones, self._local())

    # -- the network -------------------------------------------------------------------------------------------------

    def _open(self, now: int) -> None:
        self._reopen_ns = now + REOPEN_NS
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, self._output.ttl)
            if self._output.interface is not None:
                index = socket.if_nametoindex(self._output.interface)
                request = struct.pack("=4s4si", bytes(4), bytes(4), index)  # struct ip_mreqn
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, request)
            self._socket = sock
        except OSError as error:
            sock.close()
            self._lost(error)

    def _lost(self, error: OSError) -> None:
        if not self.away:
            self.away = True
            where = f"{self._output.address}:{self._output.port}"
            through = "" if self._output.interface is None else f" through {self._output.interface}"
            self._faults.append(f"RTP to {where}{through}: {error.strerror or error}")

    def _local(self) -> str:
        """The address that packets come from, as far as it is known now."""
        if self._socket is not None:
            with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                if self._output.interface is not None:
                    index = socket.if_nametoindex(self._output.interface)
                    request = struct.pack("=4s4si", bytes(4), bytes(4), index)
                    probe.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, request)
                probe.connect((self._output.address, self._output.port))
                return str(probe.getsockname()[0])
        return "0.0.0.0"  # noqa: S104 - in an SDP it means unknown, nothing is bound

    # -- the sink ----------------------------------------------------------------------------------------------------

    def _played(self, now: int) -> int:
        return (now - self._origin_ns) * RATE // 1_000_000_000

    def start(self, now: int) -> None:
        """Run: the next sample is the first one that is not in the past."""
        self._position = max(self._position, -(-(now - self._origin_ns) * RATE // 1_000_000_000))
        self._first = True

    def stop(self, now: int) -> None:
        """Rest: nothing is sent."""

    def next_ns(self, now: int) -> int:
        """When the next sample is due on the network."""
        return self._origin_ns + self._position * 1_000_000_000 // RATE

    def room(self, now: int) -> bool:
        """Whether the next packet is due."""
        return self._position <= self._played(now)

    def wake_ns(self, now: int) -> int:
        """When it is."""
        return self._origin_ns + -(-self._position * 1_000_000_000 // RATE)

    def write(self, frames: bytes, now: int) -> None:
        """Send a packet. More than three packets late it is an underrun: the rest comes that much later."""
        late = self._played(now) - self._position
        if late > 3 * PERIOD:
            self.xruns += 1
            self._position += late
        samples = array("h", frames)
        if self._spread == 2:
            both = array("h", bytes(2 * len(frames)))
            both[::2] = both[1::2] = samples
            samples = both
        samples.byteswap()  # the network's order is big-endian; the targets are little-endian
        header = struct.pack(
            "!BBHII",
            0x80,
            PAYLOAD_TYPE | (0x80 if self._first else 0),
            self._sequence,
            (self._stamp + self._position) & 0xFFFFFFFF,
            self._source,
        )
        self._first = False
        self._sequence = (self._sequence + 1) & 0xFFFF
        self._position += len(frames) // (2 * self._channels)
        self._send(header + samples.tobytes(), now)

    def _send(self, packet: bytes, now: int) -> None:
        if self._socket is None and now >= self._reopen_ns:
            self._open(now)
        if self._socket is None:
            return
        try:
            self._socket.sendto(packet, (self._output.address, self._output.port))
        except BlockingIOError:
            return  # the queue of the interface is full: this packet is lost, as packets are
        except OSError as error:
            self._lost(error)
            if now >= self._reopen_ns:  # an interface that went away comes back under another number
                self._socket.close()
                self._socket = None
            return
        self.away = False

    def take_faults(self) -> list[str]:
        """What went wrong since the last call."""
        faults, self._faults = self._faults, []
        return faults

    def close(self, now: int) -> None:
        """Nothing more is sent."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def write_sdp(path: Path, output: RtpOutput, zones: Sequence[str], local: str) -> None:
    """The description that a receiver is given, whole or not at all."""
    channels = 2 if output.stereo else len(zones)
    lines = [
        "v=0",
        f"o=- {time.time_ns() // 1_000_000} 1 IN IP4 {local}",
        f"s={' '.join(zones)}",
        f"c=IN IP4 {output.address}/{output.ttl}",
        "t=0 0",
        "a=recvonly",
        f"m=audio {output.port} RTP/AVP {PAYLOAD_TYPE}",
        f"a=rtpmap:{PAYLOAD_TYPE} L16/{RATE}/{channels}",
        f"a=ptime:{PTIME_MS}",
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + ".new")
    scratch.write_text("\r\n".join(lines) + "\r\n", encoding="utf-8")
    os.replace(scratch, path)


def open_sink(output: RtpOutput, zones: Sequence[str]) -> RtpSink:
    """The group that the configuration names; OSError when its SDP file cannot be written."""
    return RtpSink(output, zones)
