"""Plays the stored message "tone" in the zone "lan" of a running voice: `python rtp_player.py SOCKET`."""

from __future__ import annotations

import queue
import sys
from typing import Any

from agent.model import voice as v
from agent.voice.client import VoiceClient

events: queue.SimpleQueue[Any] = queue.SimpleQueue()
client = VoiceClient(sys.argv[1], lambda event, urgent=False: events.put(event))
client.start()
while not isinstance(events.get(timeout=20), v.Hello):
    pass
client.send(v.Open(play="p", zones=["lan"], pinned=["message:tone"]))
client.send(v.Close(play="p"))
while not isinstance(events.get(timeout=20), v.Ended):
    pass
client.close()
