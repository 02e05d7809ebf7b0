"""An application message on its way to subscribers, with its bytes rendered once for all who get the same."""

from __future__ import annotations

from headwater.mqtt.encode import render_remaining_length
from headwater.mqtt.publish_properties import PublishProperties, render_publish5

_SHORT = 128
"""Remaining lengths below this are one byte, and nearly every message of telemetry is that short."""
_HEADS = [[bytes((0x30 | retain, length)) for length in range(_SHORT)] for retain in (0, 1)]


class Message:
    """What was published. Immutable but for what is rendered."""

    __slots__ = ("_packet4", "_packet5", "expires_at_s", "payload", "properties", "qos", "raw_topic", "retain", "topic")

    def __init__(
        self,
        topic: str,
        raw_topic: bytes,
        payload: bytes,
        qos: int,
        retain: bool = False,
        properties: bytes = b"",
        expires_at_s: float | None = None,
    ) -> None:
        self.topic = topic
        self.raw_topic = raw_topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        """As published; whether subscribers see it is for their subscriptions to say."""
        self.properties = properties
        """MQTT 5 properties that are passed on, encoded, in their order, without the length before them."""
        self.expires_at_s = expires_at_s
        """On the monotonic clock, so that stepping the wall clock changes nothing (5.0 section 3.3.2.3.3)."""
        self._packet4: bytes | None = None
        self._packet5: bytes | None = None

    @property
    def size(self) -> int:
        """What it counts as where messages wait, in bytes."""
        return len(self.raw_topic) + len(self.payload) + len(self.properties)

    def is_expired(self, now_s: float) -> bool:
        """Whether its time is over [MQTT-3.3.2-5]."""
        return self.expires_at_s is not None and self.expires_at_s <= now_s

    def remaining_s(self, now_s: float) -> int | None:
        """The Message Expiry Interval to send: what was received less the time spent here [MQTT-3.3.2-6]."""
        return None if self.expires_at_s is None else max(0, round(self.expires_at_s - now_s))

    def packet4(self) -> bytes:
        """The PUBLISH of QoS 0 with RETAIN 0 for MQTT 3.1 and 3.1.1."""
        packet = self._packet4
        if packet is None:
            packet = self._packet4 = render_qos0(self.raw_topic, self.payload)
        return packet

    def packet5(self) -> bytes:
        """The same for MQTT 5, for those who need neither expiry nor identifiers nor an alias in it."""
        packet = self._packet5
        if packet is None:
            packet = self._packet5 = render_publish5(
                self.raw_topic,
                self.payload,
                qos=0,
                packet_id=0,
                retain=False,
                dup=False,
                passed_on=self.properties,
                expiry_s=None,
                topic_alias=None,
                subscription_ids=(),
            )
        return packet


def message_of(
    topic: str,
    raw_topic: bytes,
    payload: bytes,
    flags: int,
    properties: PublishProperties | None,
    now_s: float,
    max_expiry_s: int = 0,
) -> Message:
    """The message of a PUBLISH; `flags` are the lower four bits of its first byte. With `max_expiry_s`, none lasts
    longer, whatever its publisher says."""
    qos, retain = flags >> 1 & 3, bool(flags & 1)
    if properties is None:
        return Message(topic, raw_topic, payload, qos, retain, b"", now_s + max_expiry_s if max_expiry_s else None)
    expiry_s = properties.expiry_s
    if max_expiry_s and (expiry_s is None or expiry_s > max_expiry_s):
        expiry_s = max_expiry_s
    expires_at_s = None if expiry_s is None else now_s + expiry_s
    return Message(topic, raw_topic, payload, qos, retain, properties.passed_on, expires_at_s)


def render_qos0(raw_topic: bytes, payload: bytes, *, retain: bool = False) -> bytes:
    """A PUBLISH of QoS 0 for MQTT 3.1.1."""
    length = 2 + len(raw_topic) + len(payload)
    head = _HEADS[retain][length] if length < _SHORT else bytes((0x30 | retain,)) + render_remaining_length(length)
    return b"%b%b%b%b" % (head, len(raw_topic).to_bytes(2, "big"), raw_topic, payload)
