"""What a client sends but CONNECT and PUBLISH: acknowledgements, subscriptions, goodbyes. Looked at one by one, through
`decode`: none of them comes as often as PUBLISH."""

from __future__ import annotations

from headwater.mqtt.answers import ProtocolHandler
from headwater.mqtt.connecting import Connecting
from headwater.mqtt.decode import parse_packet
from headwater.mqtt.encode import PINGRESP, PUBCOMP_HEAD
from headwater.mqtt.errors import MqttProtocolError
from headwater.mqtt.limits import (
    COPIES_PER_ACKNOWLEDGEMENT,
    COPIES_PER_FILTER,
    UNREAD_FILTERS_PER_COPY,
    ProtocolLimits,
    Turn,
)
from headwater.mqtt.packets import (
    SUBACK_FAILURE,
    Acknowledgement,
    Auth,
    Disconnect,
    PacketType,
    Pingreq,
    PropertyId,
    ProtocolLevel,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
)
from headwater.mqtt.reason_codes import ReasonCode
from headwater.mqtt.session import Session
from headwater.mqtt.subscribing import first_reason, judge_filter, too_many_filters


class ControlPackets(Connecting):
    """Handles one whole packet."""

    __slots__ = ("_turn",)

    def __init__(self, handler: ProtocolHandler, limits: ProtocolLimits, turn: Turn) -> None:
        super().__init__(handler, limits)
        self._turn = turn

    def _handle(self, first_byte: int, body: bytes) -> None:
        """What a client never sends was refused by its header (`framing.check_control`)."""
        limits = self._limits
        packet = parse_packet(
            first_byte, body, self.level, max_filters=limits.max_subscribe_filters, limits=limits.properties
        )
        match packet:
            case Acknowledgement():
                self._handle_acknowledgement(packet)
            case Subscribe():
                self._handle_subscribe(packet)
            case Unsubscribe():
                self._handle_unsubscribe(packet)
            case Disconnect():
                self._handle_disconnect(packet)
            case Auth():  # [MQTT-4.12.0-6]: no method was agreed on, so there is nothing to go on with
                raise MqttProtocolError("AUTH without an authentication method in CONNECT")
            case Pingreq():  # of MQTT 3.1 with DUP: others are answered before they come here
                self._output.append(PINGRESP)

    def _handle_acknowledgement(self, packet: Acknowledgement) -> None:
        session = self.session
        assert session is not None
        if packet.type is PacketType.PUBREL:
            self._turn.left -= COPIES_PER_ACKNOWLEDGEMENT
            self._release(session, packet.packet_id)
            return
        is_known = session.acknowledged(packet.type, packet.packet_id, is_failure=packet.reason_code >= 0x80)
        if not is_known or packet.type is not PacketType.PUBACK:
            self._turn.left -= COPIES_PER_ACKNOWLEDGEMENT
        if is_known:
            return
        if session.has_sent(packet.packet_id):
            raise MqttProtocolError(f"{packet.type.name} is not the answer that its message waits for")
        # Of nothing that is known: the client's memory may be older than ours. It makes no room and does no harm. Not
        # even PUBREC is answered: its PUBREL might meet the next message of this identifier.

    def _release(self, session: Session, packet_id: int) -> None:
        """PUBREL: an unknown identifier is answered too, because the peer must be able to finish [MQTT-4.3.3-11]."""
        raw_id = packet_id.to_bytes(2, "big")
        if session.unreleased is None or packet_id not in session.unreleased:
            # It may have been forgotten a moment ago, by another connection of the session, and not on disk yet.
            refusal = self._refusal(PUBCOMP_HEAD, raw_id, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND, "")
            self._answer(refusal, self._written())
            return
        session.unreleased.discard(packet_id)
        if session.record is None:
            self._answer(PUBCOMP_HEAD + raw_id, None)
            return
        # Answered and then forgotten, a crash would make us take the next message of this identifier for this one.
        session.record.delete_received(packet_id)
        self._answer(PUBCOMP_HEAD + raw_id, session.record.written())

    def _handle_subscribe(self, packet: Subscribe) -> None:
        handler = self._protocol_handler
        self._turn.left -= COPIES_PER_FILTER * len(packet.subscriptions) + packet.unread // UNREAD_FILTERS_PER_COPY
        subscription_id = packet.properties.get(PropertyId.SUBSCRIPTION_IDENTIFIER, (0,))[0]
        answers = [judge_filter(s.topic_filter, self.level, self._limits) for s in packet.subscriptions]
        for index, subscription in enumerate(packet.subscriptions):  # only now: what spoils the packet leaves nothing
            refused = answers[index]
            if refused is None:
                refused = answers[index] = handler.subscribe(subscription, subscription_id)
            if refused is not None:
                handler.subscription_refused(subscription.topic_filter, refused)
        codes = [
            subscription.qos if refused is None else refused.reason_code
            for subscription, refused in zip(packet.subscriptions, answers, strict=True)
        ]
        if packet.unread:
            beyond = too_many_filters(self._limits)
            handler.subscription_refused("", beyond)
            answers.append(beyond)
            codes += [beyond.reason_code] * packet.unread
        if self.level != ProtocolLevel.V5:  # [MQTT-3.9.3-2] of 3.1.1
            codes = [min(code, SUBACK_FAILURE) for code in codes]
        suback = Suback(packet.packet_id, tuple(codes), self.explain(first_reason(answers)))
        self._answer(self._render_codes(suback), self._written())

    def _handle_unsubscribe(self, packet: Unsubscribe) -> None:
        self._turn.left -= COPIES_PER_FILTER * len(packet.topic_filters)
        codes = tuple(self._protocol_handler.unsubscribe(topic_filter) for topic_filter in packet.topic_filters)
        for topic_filter in packet.topic_filters:
            self.drop_retained(topic_filter)
        unsuback = Unsuback(packet.packet_id, codes if self.level == ProtocolLevel.V5 else ())
        self._answer(self._render_codes(unsuback), self._written())

    def _handle_disconnect(self, packet: Disconnect) -> None:
        session = self.session
        assert session is not None
        expiry_s = packet.properties.get(PropertyId.SESSION_EXPIRY_INTERVAL)
        if expiry_s is not None:
            if expiry_s and not session.expiry_s:  # [MQTT-3.1.2-23]
                raise MqttProtocolError("DISCONNECT makes a session last that was to end with its connection")
            session.expiry_s = min(expiry_s, self._limits.max_session_expiry_s)
        if packet.reason_code == ReasonCode.NORMAL_DISCONNECTION:  # [MQTT-3.14.4-3]
            session.will = None
        self.is_finished = True
