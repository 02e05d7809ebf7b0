"""What leaves a server's MQTT connection: packets rendered for this client's version, aliases and limits.

A `Session` sends through it (it is a `Link`). The first of the layers that `protocol` lists: it knows nothing of what
the client sends.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

from headwater.mqtt.encode import PUBREL_HEAD, render_packet, render_publish
from headwater.mqtt.message import Message, render_qos0
from headwater.mqtt.outgoing import Outgoing
from headwater.mqtt.packets import (
    Acknowledgement,
    Connack,
    Disconnect,
    PacketType,
    Properties,
    PropertyId,
    Suback,
    Unsuback,
)
from headwater.mqtt.publish_properties import render_publish5
from headwater.mqtt.session import RetainedMessages, Session
from headwater.mqtt.topic_tree import Grant

FLUSH_BYTES = 65_536
"""Output for subscribers is handed to the transport at the latest when it is this long: until then the transport
cannot say that its client does not read, and nothing is dropped."""
RETAINED_PER_TURN = 200
"""Retained messages sent to one client before the others have their turn."""


class _End:
    """Comes after the last message."""


_END = _End()


class OutletHandler(Protocol):
    """What this layer asks of its surroundings."""

    def output_ready(self) -> None:
        """There is output although nothing is being received: take it in this turn of the loop."""

    def flush(self) -> None:
        """There is much output: take it now."""

    def now_s(self) -> float:
        """The monotonic clock that messages expire by."""


class Outlet:
    """Output waits in a list until somebody calls `take_output`."""

    __slots__ = (
        "_aliases",
        "_delivered_bytes",
        "_handler",
        "_max_alias",
        "_max_packet_bytes",
        "_output",
        "_streaming",
        "_tells_problems",
        "has_output_due",
        "is_congested",
        "is_finished",
        "level",
        "sent_messages",
        "session",
        "window",
    )

    def __init__(self, handler: OutletHandler, window: int) -> None:
        self._handler = handler
        self._output: list[bytes] = []
        self._delivered_bytes = 0
        self._aliases: dict[bytes, int] | None = None
        self._max_alias = 0
        self._max_packet_bytes = 0
        self._tells_problems = True
        self._streaming: tuple[str, Iterator[Message | None]] | None = None
        """The filter whose retained messages are being sent, and those that are left; see `Session.retained`."""
        self.session: Session | None = None
        self.level = 4
        self.window = window
        self.is_finished = False
        self.is_congested = False
        """The client does not read; set by whoever owns the socket."""
        self.has_output_due = False
        """`output_ready` was called, and nothing was taken since."""
        self.sent_messages = 0

    # -- session.Link --------------------------------------------------------------------------------------------

    def send_qos0(self, message: Message, retain: bool, subscription_ids: tuple[int, ...]) -> str | None:
        """See `session.Link`."""
        if self.is_finished:
            return None
        if self.is_congested:
            return "max_write_buffer_bytes"
        if self.level < 5:
            packet = render_qos0(message.raw_topic, message.payload, retain=True) if retain else message.packet4()
        else:
            if message.expires_at_s is None and not (retain or subscription_ids or self._max_alias):
                packet = message.packet5()
            else:
                packet = self._render5(message, 0, 0, retain=retain, dup=False, subscription_ids=subscription_ids)
            if self._max_packet_bytes and len(packet) > self._max_packet_bytes:  # [MQTT-3.1.2-25]
                return "maximum_packet_size"
        self._output.append(packet)
        self.sent_messages += 1
        self._delivered_bytes += len(packet)
        if self._delivered_bytes > FLUSH_BYTES:
            self._delivered_bytes = 0
            self._handler.flush()
        elif not self.has_output_due:
            self.has_output_due = True
            self._handler.output_ready()
        return None

    def send_outgoing(self, outgoing: Outgoing, *, dup: bool) -> str | None:
        """See `session.Link`."""
        message = outgoing.message
        if not dup and message.is_expired(self._handler.now_s()):  # [MQTT-3.3.2-5]
            return "message_expiry"
        if self.level < 5:
            packet = render_publish(
                message.raw_topic, message.payload, outgoing.qos, outgoing.packet_id, retain=outgoing.retain, dup=dup
            )
        else:
            packet = self._render5(
                message,
                outgoing.qos,
                outgoing.packet_id,
                retain=outgoing.retain,
                dup=dup,
                subscription_ids=outgoing.subscription_ids,
            )
            if self._max_packet_bytes and len(packet) > self._max_packet_bytes:
                return "maximum_packet_size"
        self._output.append(packet)
        self.sent_messages += 1
        self._delivered(len(packet))
        return None

    def send_pubrel(self, packet_id: int) -> None:
        """See `session.Link`."""
        self._output.append(PUBREL_HEAD + packet_id.to_bytes(2, "big"))
        self._delivered(4)

    def _delivered(self, length: int) -> None:
        self._delivered_bytes += length
        if self._delivered_bytes > FLUSH_BYTES:
            self._delivered_bytes = 0
            self._handler.flush()
        else:
            self.signal_output()

    def _render5(
        self,
        message: Message,
        qos: int,
        packet_id: int,
        *,
        retain: bool,
        dup: bool,
        subscription_ids: tuple[int, ...],
    ) -> bytes:
        topic, alias = message.raw_topic, None
        if self._max_alias:
            topic, alias = self._alias(topic)
        return render_publish5(
            topic,
            message.payload,
            qos=qos,
            packet_id=packet_id,
            retain=retain,
            dup=dup,
            passed_on=message.properties,
            expiry_s=None if message.expires_at_s is None else message.remaining_s(self._handler.now_s()),
            topic_alias=alias,
            subscription_ids=subscription_ids,
        )

    def _alias(self, topic: bytes) -> tuple[bytes, int | None]:
        """The first topics of a connection get aliases for its length [MQTT-3.3.2-7]; telemetry repeats its own."""
        if self._aliases is None:
            self._aliases = {}
        alias = self._aliases.get(topic)
        if alias is not None:
            return b"", alias
        # A packet that turns out too large is never sent, and its topic's alias would stay unknown to the client.
        if len(self._aliases) >= self._max_alias or self._max_packet_bytes:
            return topic, None
        alias = self._aliases[topic] = len(self._aliases) + 1
        return topic, alias

    # -- retained messages ----------------------------------------------------------------------------------------

    def send_retained(self, topic_filter: str, messages: RetainedMessages, grant: Grant) -> None:
        """Send what is retained for a new subscription, as fast as the client reads and acknowledges it. If that was
        going on for the same filter, it begins anew."""
        session = self.session
        assert session is not None
        if session.retained is None:
            session.retained = {}
        self.drop_retained(topic_filter)
        session.retained[topic_filter] = (messages, grant)
        self.signal_output()

    def drop_retained(self, topic_filter: str) -> None:
        """The subscription is gone: send nothing more because of it."""
        if self._streaming is not None and self._streaming[0] == topic_filter:
            self._streaming = None
        if self.session is not None and self.session.retained:
            self.session.retained.pop(topic_filter, None)

    def go_on(self) -> None:
        """The client reads again: send what has waited for that."""
        if self.session is not None:
            self.session.pump()
            if self.session.retained:
                self.pump_retained()

    @property
    def waiting_retained(self) -> int:
        """Subscriptions whose retained messages are not all sent."""
        session = self.session
        return 0 if session is None or session.link is not self or not session.retained else len(session.retained)

    def pump_retained(self) -> None:
        """Go on with retained messages, if the client has taken the last ones."""
        session = self.session
        sent = 0
        while session is not None and session.link is self and session.retained and not self.is_finished:
            topic_filter, (look_up, grant) = next(iter(session.retained.items()))
            if session.subscriptions is not None and topic_filter not in session.subscriptions:  # the right is gone
                self.drop_retained(topic_filter)
                continue
            if self._streaming is None or self._streaming[0] != topic_filter:
                self._streaming = topic_filter, look_up()  # when its turn comes: one subscription's at a time
            messages = self._streaming[1]
            while True:
                if self.is_congested or session.queued:
                    return  # reading or acknowledging brings us back
                if sent >= RETAINED_PER_TURN:
                    self.signal_output()
                    return
                message = next(messages, _END)
                if message is None:  # much was looked at: let others have their turn
                    self.signal_output()
                    return
                if isinstance(message, _End):
                    break
                sent += 1
                if not message.is_expired(self._handler.now_s()):
                    session.send(message, min(message.qos, grant.qos), True, grant.subscription_ids)
            sent += 1
            self.drop_retained(topic_filter)

    # -- everything else -------------------------------------------------------------------------------------------

    def send(self, packet: Connack | Disconnect) -> None:
        """Send a control packet, without its explanations where the client wants or can take none [MQTT-3.1.2-24]
        [MQTT-3.1.2-29]."""
        rendered = self.render_within(packet)
        if not self._max_packet_bytes or len(rendered) <= self._max_packet_bytes:
            self._output.append(rendered)

    def render_within(self, packet: Acknowledgement | Connack | Disconnect | Suback | Unsuback) -> bytes:
        """A packet, without its Reason String if it would be larger than the client takes [MQTT-3.1.2-24]."""
        rendered = render_packet(packet, self.level)
        if self._max_packet_bytes and len(rendered) > self._max_packet_bytes:
            kept: Properties = {i: v for i, v in packet.properties.items() if i is not PropertyId.REASON_STRING}
            rendered = render_packet(replace(packet, properties=kept), self.level)
        return rendered

    def explain(self, reason: str) -> dict[PropertyId, str]:
        """The properties that say why in words, if the client wants to know."""
        return {PropertyId.REASON_STRING: reason} if reason and self._tells_problems else {}

    def render_acknowledgement(self, kind: PacketType, packet_id: int, reason_code: int, reason: str = "") -> bytes:
        """An acknowledgement of MQTT 5 with its reason."""
        return self.render_within(Acknowledgement(kind, packet_id, reason_code, self.explain(reason)))

    def signal_output(self) -> None:
        """Have the output taken soon."""
        if not self.has_output_due:
            self.has_output_due = True
            self._handler.output_ready()

    def take_output(self) -> bytes:
        """Everything to be sent since the last call; empty when there is nothing."""
        output = self._output
        self._delivered_bytes = 0
        if not output:
            return b""
        taken = output[0] if len(output) == 1 else b"".join(output)
        output.clear()
        return taken
