"""How fast one client may publish. Knows no clock and no socket."""

from __future__ import annotations

BURST_S = 1.0
"""What may come at once: as much as in so many seconds."""


class Pace:
    """Two rates, 0 for no limit. Whoever is too fast is left alone for a while, so that nothing is lost: TCP slows the
    client down."""

    __slots__ = ("_bytes_due_s", "_max_bytes_per_second", "_max_messages_per_second", "_messages_due_s", "_seen")

    def __init__(self, max_messages_per_second: int, max_bytes_per_second: int) -> None:
        self._max_messages_per_second = max_messages_per_second
        self._max_bytes_per_second = max_bytes_per_second
        self._messages_due_s = self._bytes_due_s = 0.0
        """When everything so far would have come, had it come evenly."""
        self._seen = (0, 0)

    def pause_s(self, now_s: float, messages: int, received_bytes: int) -> float:
        """How long not to read from a client that has sent so much in all; 0 when it is slow enough."""
        seen_messages, seen_bytes = self._seen
        self._seen = (messages, received_bytes)
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
