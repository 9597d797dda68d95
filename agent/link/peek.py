"""A cheap look at an unverified order, only to decide who is handled first. Nobody may trust what it says."""

from __future__ import annotations

import base64
import binascii

from agent.link.topics import Topic

_LARGEST = 4 * 2**10
"""Emergencies are at most 4 KiB (CONTRACT section 3), and no silence needs more; what is larger, others wait for."""


def is_urgent(topic: Topic, payload: bytes) -> bool:
    """Whether the order claims to be an emergency, or to cut everything (`silence`)."""
    if len(payload) > _LARGEST:
        return False
    if topic.leaf == "desired":
        return topic.op == "silence"
    claims = payload.split(b".", 2)[1:2]
    try:
        return bool(claims) and b'"emergency"' in base64.urlsafe_b64decode(claims[0] + b"==")
    except binascii.Error:
        return False
