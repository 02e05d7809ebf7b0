"""Acknowledgements that wait for what they promise: in the order of their messages [MQTT-4.6.0-2], whatever the order
in which promises are kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from headwater.mqtt.publishing import OutOfTurn, Pending

Settled = Callable[["WaitingAcknowledgements", Exception | None], None]


class WaitingAcknowledgements:
    """Packets that wait for one promise, and those behind them that only wait for their turn."""

    __slots__ = ("_settled", "is_kept", "messages", "packets", "pending")

    def __init__(self, pending: Pending, packet: bytes, settled: Settled) -> None:
        self._settled = settled
        self.pending = pending
        self.packets = [packet]
        self.messages = int(_ends_exchange(packet))
        """Messages that are over for the client when it has these packets."""
        self.is_kept = False
        """What they promise is true; they may still have to wait for earlier ones."""

    def settle(self, error: Exception | None) -> None:
        """The promise was kept or broken."""
        self._settled(self, error)


class AcknowledgementQueue:
    """What waits on one connection."""

    __slots__ = ("_apart", "_newest", "_waiting", "messages")

    def __init__(self) -> None:
        self._apart = 0
        """Acknowledgements out of turn."""
        self._waiting: deque[WaitingAcknowledgements] = deque()
        self._newest: WaitingAcknowledgements | None = None
        self.messages = 0
        """Messages that are over for the client when it has what waits here. One whose PUBREC waits is not: it is
        counted among those that have to be released."""

    @property
    def is_empty(self) -> bool:
        return self._newest is None and not self._apart

    def join(self, packet: bytes, pending: Pending | None) -> bool:
        """Put an acknowledgement behind the newest one, if it waits for the same promise or for none."""
        newest = self._newest
        if newest is None or not (pending is None or newest.pending is pending):
            return False
        newest.packets.append(packet)
        if _ends_exchange(packet):
            newest.messages += 1
            self.messages += 1
        return True

    def add(self, packet: bytes, pending: Pending, settled: Settled) -> None:
        """Let an acknowledgement wait for a promise of its own."""
        waiting = WaitingAcknowledgements(pending, packet, settled)
        self.messages += waiting.messages
        if isinstance(pending, OutOfTurn):
            self._apart += 1
        else:
            self._newest = waiting
            self._waiting.append(waiting)
        pending.add_callback(waiting.settle)

    def take_kept(self, kept: WaitingAcknowledgements) -> list[bytes]:
        """A promise was kept: the packets whose turn has come now."""
        kept.is_kept = True
        self.messages -= kept.messages
        if isinstance(kept.pending, OutOfTurn):
            self._apart -= 1
            return kept.packets
        packets: list[bytes] = []
        waiting = self._waiting
        while waiting and waiting[0].is_kept:
            packets += waiting.popleft().packets
        if not waiting:
            self._newest = None
        return packets


def _ends_exchange(packet: bytes) -> bool:
    """Whether a client that gets it may send one more message: PUBACK, PUBCOMP, or a PUBREC that refuses."""
    return packet[0] in (0x40, 0x70) or (packet[0] == 0x50 and len(packet) > 4)
