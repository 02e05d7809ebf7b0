"""The answers of a server's MQTT connection to its client's packets: in order, and only when what they promise is kept.

The layers built on this one (`protocol` lists them) say what is answered; this one knows when, and how for the client's
version and limits. What a connection asks of its surroundings is here as well.
"""

from __future__ import annotations

from typing import Protocol

from headwater.errors import RequestError, StorageError
from headwater.mqtt.acknowledgements import AcknowledgementQueue, WaitingAcknowledgements
from headwater.mqtt.errors import MqttProtocolError
from headwater.mqtt.limits import ProtocolLimits
from headwater.mqtt.outlet import Outlet, OutletHandler
from headwater.mqtt.packets import Connect, PacketType, ProtocolLevel, Suback, Subscription, Unsuback
from headwater.mqtt.publishing import Pending, PublishTarget, Refused
from headwater.mqtt.reason_codes import ReasonCode
from headwater.mqtt.subscribing import NotGranted


class ProtocolHandler(OutletHandler, Protocol):
    """What a connection asks of its surroundings."""

    def authenticate(self, connect: Connect) -> None:
        """Find out whether this client may connect, and call `accept` or `refuse`: before this returns, or later."""

    def resolve_publish(self, topic: str) -> PublishTarget:
        """Who takes messages for a well-formed topic name. Never fails: without right, a target that refuses."""

    def subscribe(self, subscription: Subscription, subscription_id: int) -> NotGranted | None:
        """Add or replace a subscription, with the QoS that it asks for; or why not."""

    def subscription_refused(self, topic_filter: str, refused: NotGranted) -> None:
        """A client is about to be told so, as far as its version of MQTT can. What is beyond the limit of one packet
        is said once, without a filter."""

    def unsubscribe(self, topic_filter: str) -> int:
        """Remove a subscription, if there is one; the ReasonCode."""

    def storing_failed(self, error: Exception) -> None:
        """A message could not be stored, so its acknowledgement will never come."""


class Answers(Outlet):
    """Answers wait in a queue behind those that wait for the disk."""

    __slots__ = ("_acknowledgements", "_limits", "_protocol_handler")

    def __init__(self, handler: ProtocolHandler, limits: ProtocolLimits) -> None:
        super().__init__(handler, limits.max_in_flight)
        self._protocol_handler = handler
        self._limits = limits
        self._acknowledgements: AcknowledgementQueue | None = None

    def _acknowledge(self, head: bytes, packet_id: bytes, taken: Pending | Refused | None) -> None:
        """Answer a message, which waits for what the answer promises and for the answers of earlier ones."""
        if taken is None and self._acknowledgements is None:
            self._output.append(head + packet_id)
        elif isinstance(taken, Refused):
            self._answer(self._refusal(head, packet_id, taken.reason_code, taken.reason), taken.pending)
        else:
            self._answer(head + packet_id, taken)

    def _refusal(self, head: bytes, packet_id: bytes, reason_code: int, reason: str) -> bytes:
        """MQTT 5 can say why; an older client gets a plain answer, or it would send the message for ever."""
        if self.level != ProtocolLevel.V5:
            return head + packet_id
        kind = PacketType(head[0] >> 4)
        return self.render_acknowledgement(kind, int.from_bytes(packet_id, "big"), reason_code, reason)

    def _answer(self, packet: bytes, pending: Pending | None) -> None:
        waiting = self._acknowledgements
        if pending is None:
            if waiting is None or not waiting.join(packet, None):
                self._output.append(packet)
            return
        if waiting is None:
            waiting = self._acknowledgements = AcknowledgementQueue()
        if not waiting.join(packet, pending):
            waiting.add(packet, pending, self._promise_settled)
            if self.is_finished:  # known at once, and broken: the handler has closed the connection
                raise StorageError("a message could not be stored")

    def _promise_settled(self, settled: WaitingAcknowledgements, error: Exception | None) -> None:
        if self.is_finished:
            return
        if isinstance(error, RequestError):  # refused when looked at more closely
            first = settled.packets[0]
            settled.packets[0] = self._refusal(first[:2], first[2:4], ReasonCode.PAYLOAD_FORMAT_INVALID, str(error))
            if first[0] == 0x50 and self.level == ProtocolLevel.V5:  # its PUBREC ends it [MQTT-4.3.3-9]
                assert self.session is not None
                self.session.forget_received(first[2] << 8 | first[3])
        elif error is not None:  # there is no refusal to send: without an answer the client keeps its message
            self._protocol_handler.storing_failed(error)
            return
        waiting = self._acknowledgements
        assert waiting is not None
        packets = waiting.take_kept(settled)
        if waiting.is_empty:
            self._acknowledgements = None
        if packets:
            self._output += packets
            self.signal_output()

    def _written(self) -> Pending | None:
        """What a persistent session has to wait for before it may say that something is kept."""
        record = self.session.record if self.session is not None else None
        return None if record is None else record.written()

    def _render_codes(self, packet: Suback | Unsuback) -> bytes:
        """A packet whose codes cannot be left out for a client that takes only short ones [MQTT-3.1.2-24]."""
        rendered = self.render_within(packet)
        if self._max_packet_bytes and len(rendered) > self._max_packet_bytes:
            reason = "the answer is larger than the client's Maximum Packet Size: use fewer filters at once"
            raise MqttProtocolError(reason, ReasonCode.PACKET_TOO_LARGE)
        return rendered
