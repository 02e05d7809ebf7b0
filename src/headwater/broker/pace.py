"""How fast one client may publish. Knows no clock and no socket."""

from __future__ import annotations

import sys

BURST_S = 1.0
"""What may come at once: as much as in so many seconds."""
PORTION_S = 0.1
"""What is taken in beyond that before a pause: as much as in so many seconds, so that pauses stay as short."""
FIRST_MESSAGE_BYTES = 16
"""How long messages are taken to be before there were any."""


class Pace:
    """Two rates, 0 for no limit. Whoever is too fast is left alone for a while, so that nothing is lost: TCP slows the
    client down."""

    __slots__ = (
        "_bytes_due_s",
        "_max_bytes_per_second",
        "_max_messages_per_second",
        "_message_bytes",
        "_messages_due_s",
        "_seen",
        "_unfinished_bytes",
    )

    def __init__(self, max_messages_per_second: int, max_bytes_per_second: int) -> None:
        self._max_messages_per_second = max_messages_per_second
        self._max_bytes_per_second = max_bytes_per_second
        self._messages_due_s = self._bytes_due_s = 0.0
        """When everything so far would have come, had it come evenly."""
        self._seen = (0, 0)
        self._message_bytes: float = FIRST_MESSAGE_BYTES
        """How long the last messages were, one like the other."""
        self._unfinished_bytes = 0
        """What came since the last whole one."""

    def portion_bytes(self, now_s: float) -> int:
        """How much to take in now, at most and about, before `pause_s` is asked again: what a client has sent at once
        would otherwise be followed by one long pause, in which its PINGREQ waits."""
        portion = float("inf")
        if self._max_messages_per_second:
            spare_s = now_s + BURST_S + PORTION_S - max(self._messages_due_s, now_s)
            messages = max(1.0, spare_s * self._max_messages_per_second)
            portion = messages * max(self._message_bytes, self._unfinished_bytes)
        if self._max_bytes_per_second:
            spare_s = now_s + BURST_S + PORTION_S - max(self._bytes_due_s, now_s)
            portion = min(portion, spare_s * self._max_bytes_per_second)
        return int(max(FIRST_MESSAGE_BYTES, min(portion, sys.maxsize)))

    def pause_s(self, now_s: float, messages: int, received_bytes: int) -> float:
        """How long not to read from a client that has sent so much in all; 0 when it is slow enough."""
        seen_messages, seen_bytes = self._seen
        self._seen = (messages, received_bytes)
        self._unfinished_bytes += received_bytes - seen_bytes
        if messages > seen_messages:
            self._message_bytes = self._unfinished_bytes / (messages - seen_messages)
            self._unfinished_bytes = 0
        pause_s = 0.0
        if self._max_messages_per_second:
            due_s = max(self._messages_due_s, now_s) + (messages - seen_messages) / self._max_messages_per_second
            self._messages_due_s = due_s
            pause_s = due_s - now_s - BURST_S
        if self._max_bytes_per_second:
            due_s = max(self._bytes_due_s, now_s) + (received_bytes - seen_bytes) / self._max_bytes_per_second
            self._bytes_due_s = due_s
            pause_s = max(pause_s, due_s - now_s - BURST_S)
        return max(0.0, pause_s)
