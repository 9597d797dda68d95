"""Which of the formats we play a file or stream is, by its own bytes: never by its name or what a server says.

What is not on this list is refused, above all playlists and manifests: they would lead elsewhere.
"""

from __future__ import annotations

_V1_L3 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_V1_L2 = (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384)
_V2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def sniff(head: bytes) -> tuple[str, int] | None:
    """Name of the demultiplexer (wav, flac, ogg, mp4, mpga, aac) and where the media begins in `head`, or None.

    `head`: the first bytes, 8 KiB are plenty; an ID3 tag has been taken away (`id3_length`). MPEG audio and ADTS are
    found from the middle of a frame too, as a live stream begins: two whole frame headers in a row.
    """
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return "wav", 0
    if head[:4] == b"fLaC":
        return "flac", 0
    if head[:4] == b"OggS":
        return "ogg", 0
    if head[4:8] == b"ftyp":
        return "mp4", 0
    at = head.find(b"\xff")
    while at >= 0:
        frame = _frame(head, at)
        if frame is not None:
            after = _frame(head, at + frame[1])
            if after is not None and after[0] == frame[0]:
                return frame[0], at
        at = head.find(b"\xff", at + 1)
    return None


def id3_length(head: bytes) -> int:
    """Bytes of an ID3v2 tag in front, 0 when there is none."""
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    size = 0
    for byte in head[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size + (10 if head[5] & 0x10 else 0)


def _frame(data: bytes, at: int) -> tuple[str, int] | None:
    """Kind and length of the frame whose header is at this place."""
    h = data[at : at + 6]
    if len(h) < 6 or h[0] != 0xFF or h[1] & 0xE0 != 0xE0:
        return None
    version, layer = h[1] >> 3 & 3, h[1] >> 1 & 3
    if layer == 0:
        length = (h[3] & 3) << 11 | h[4] << 3 | h[5] >> 5
        plausible = h[1] & 0xF0 == 0xF0 and h[2] >> 2 & 15 <= 12 and length > 7
        return ("aac", length) if plausible else None
    rate_index, bitrate_index = h[2] >> 2 & 3, h[2] >> 4
    if version == 1 or layer == 3 or rate_index == 3 or bitrate_index in {0, 15}:
        return None
    padding, rate = h[2] >> 1 & 1, _RATES[version][rate_index]
    if layer == 2:
        bitrate = (_V1_L2 if version == 3 else _V2)[bitrate_index]
        return "mpga", 144_000 * bitrate // rate + padding
    bitrate = (_V1_L3 if version == 3 else _V2)[bitrate_index]
    return "mpga", (144_000 if version == 3 else 72_000) * bitrate // rate + padding
