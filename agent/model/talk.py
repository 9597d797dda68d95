"""How a live microphone gets from voice to the clusters: what voice, the station's library and a cluster agree on.

Voice sends datagrams to `TALK_SOCKET` in run_dir: the name of the play, a zero byte, samples (signed 16 bit little
endian, one channel, 48 000 Hz); without samples: that play is over. It never waits for anybody. The library gives
`TALK_RATE` samples a second of the same form to clusters, in their order named `local:<name of the play>`.
"""

from __future__ import annotations

LOCAL = "local:"
"""The scheme of what a station alone has: files that were added there (by their hash), and live talks."""
TALK_SOCKET = "talk.sock"
TALK_RATE = 16_000
"""Twice what a horn carries (8 kHz); 256 kbit/s to each cluster."""
OVER = 6
"""The exit code of a fetcher whose stream came to its end in order."""
PATIENCE_S = 5.0
"""A cluster to which nothing comes for so long says the fallback, once. A pause of whoever speaks is no silence."""
LONGER_S = 120.0
"""How much longer than the longest talk a cluster may listen: until the station's chime is over and its relays warm."""
