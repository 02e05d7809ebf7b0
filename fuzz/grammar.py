"""Packets from a fuzzer's bytes: mostly well formed, of both versions, and then spoilt a little or not at all.

Knows nothing of who takes them. The same bytes always make the same packets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headwater.mqtt.encode import render_packet
from headwater.mqtt.packets import (
    Acknowledgement,
    Auth,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    Pingreq,
    Properties,
    PropertyId,
    ProtocolLevel,
    Publish,
    Subscribe,
    Subscription,
    Unsubscribe,
    Will,
)
from headwater.mqtt.properties import RULES, WILL, Carrier

TOPICS = ("a", "a/b", "b", "a/b/c", "/", "$SYS/x", "é", "channels/1/publish", "a/" * 40 + "b", "t" * 300)
FILTERS = (
    *("a", "#", "+", "a/#", "+/+", "a/b", "$SYS/#", "a+", "#/a"),
    *("$share/g/a", "$share/g/#", "$share/h/+", "$share//x"),
)
NAMES = ("ada", "bob", "eve")
CLIENT_IDS = ("one", "two", "three", "", "x" * 200)


class Choices:
    """A fuzzer's bytes as a source of decisions; when they are used up, all decisions are 0."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def is_used_up(self) -> bool:
        return self._position >= len(self._data)

    def below(self, limit: int) -> int:
        """A number from 0 to `limit` - 1."""
        count = 1 if limit <= 256 else 2 if limit <= 65_536 else 4
        return int.from_bytes(self.take(count), "big") % limit

    def one_in(self, chances: int) -> bool:
        """Whether something rare happens; never when the bytes are used up."""
        return self.below(chances) == chances - 1

    def of(self, options: Any) -> Any:
        return options[self.below(len(options))]

    def take(self, count: int) -> bytes:
        taken = self._data[self._position : self._position + count]
        self._position += count
        return taken


def make_packet(choices: Choices, level: int) -> bytes:
    """One packet, perhaps spoilt."""
    raw = render_packet(choices.of(_MAKERS)(choices, level), level)
    return spoil(choices, raw) if choices.one_in(8) else raw


def make_connect(choices: Choices) -> Connect:
    """A CONNECT that is mostly let in: each name is its own password."""
    level = choices.of((ProtocolLevel.V5, ProtocolLevel.V311, ProtocolLevel.V31))
    name = choices.of(NAMES[:2]) if not choices.one_in(16) else choices.of(NAMES)
    will = None
    if choices.one_in(3):
        properties = _properties(choices, WILL) if level == ProtocolLevel.V5 else {}
        will = Will(choices.of(TOPICS), _payload(choices), choices.below(3), bool(choices.below(2)), properties)
    properties = _properties(choices, PacketType.CONNECT) if level == ProtocolLevel.V5 else {}
    is_clean = bool(choices.below(2))
    return Connect(choices.of(CLIENT_IDS), is_clean, choices.below(100), name, name.encode(), will, level, properties)


def spoil(choices: Choices, raw: bytes) -> bytes:
    """Change, cut, double or insert a few bytes."""
    spoilt = bytearray(raw)
    for _ in range(1 + choices.below(3)):
        position = choices.below(len(spoilt)) if spoilt else 0
        match choices.below(4):
            case 0 if spoilt:
                spoilt[position] = choices.below(256)
            case 1:
                del spoilt[position : position + 1 + choices.below(8)]
            case 2:
                spoilt[position:position] = choices.take(1 + choices.below(8))
            case _:
                spoilt += spoilt[position:][:1_000]
    return bytes(spoilt)


def _packet_id(choices: Choices) -> int:
    return 1 + choices.below(6)


def _payload(choices: Choices) -> bytes:
    return bytes(choices.of((1, 0, 30, 600)))


def _properties(choices: Choices, carrier: Carrier) -> Properties:
    allowed = [rule.identifier for rule in RULES.values() if carrier in rule.carriers]
    properties: dict[PropertyId, Any] = {}
    for _ in range(choices.below(4)):
        identifier = choices.of(allowed)
        value = _VALUES[identifier](choices)
        properties[identifier] = value
    return properties


def _publish(choices: Choices, level: int) -> Packet:
    qos = choices.below(3)
    properties = _properties(choices, PacketType.PUBLISH) if level == 5 else {}
    topic = "" if PropertyId.TOPIC_ALIAS in properties and choices.below(2) else choices.of(TOPICS)
    packet_id = _packet_id(choices) if qos else None
    is_dup = bool(qos and choices.one_in(4))
    return Publish(topic, _payload(choices), qos, packet_id, bool(choices.below(2)), is_dup, properties)


def _subscribe(choices: Choices, level: int) -> Packet:
    subscriptions = []
    for _ in range(1 + choices.below(5)):
        topic_filter, qos = choices.of(FILTERS), choices.below(3)
        options = (bool(choices.one_in(4)), bool(choices.below(2)), choices.below(3)) if level == 5 else ()
        subscriptions.append(Subscription(topic_filter, qos, *options))
    properties = _properties(choices, PacketType.SUBSCRIBE) if level == 5 else {}
    return Subscribe(_packet_id(choices), tuple(subscriptions), properties)


def _unsubscribe(choices: Choices, level: int) -> Packet:
    return Unsubscribe(_packet_id(choices), tuple(choices.of(FILTERS) for _ in range(1 + choices.below(3))))


def _acknowledgement(choices: Choices, level: int) -> Packet:
    kind = PacketType(4 + choices.below(4))
    code = choices.of((0, 0, 0x80, 0x92)) if level == 5 else 0
    return Acknowledgement(kind, _packet_id(choices), code)


def _disconnect(choices: Choices, level: int) -> Packet:
    if level != 5:
        return Disconnect()
    return Disconnect(choices.of((0, 4, 0x82)), _properties(choices, PacketType.DISCONNECT))


def _pingreq(choices: Choices, level: int) -> Packet:
    return Pingreq()


def _auth_or_connect(choices: Choices, level: int) -> Packet:
    return Auth(0x18, {PropertyId.AUTHENTICATION_METHOD: "x"}) if level == 5 else Connect("one")


_MAKERS: tuple[Callable[[Choices, int], Packet], ...] = (
    _publish, _publish, _publish, _publish, _subscribe, _subscribe, _acknowledgement, _acknowledgement,
    _acknowledgement, _unsubscribe, _pingreq, _publish, _subscribe, _publish, _disconnect, _auth_or_connect,
)  # fmt: skip


def _text(choices: Choices) -> str:
    return str(choices.of(("", "x", "é", "long " * 20)))


def _number(choices: Choices) -> int:
    return int(choices.of((1, 0, 2, 5, 30, 300, 65_535)))


_P = PropertyId
_WHOLE_NUMBERS = (_P.SESSION_EXPIRY_INTERVAL, _P.MESSAGE_EXPIRY_INTERVAL, _P.WILL_DELAY_INTERVAL)
_VALUES: dict[PropertyId, Callable[[Choices], Any]] = dict.fromkeys(PropertyId, _number) | {
    _P.PAYLOAD_FORMAT_INDICATOR: lambda choices: choices.below(2),
    _P.REQUEST_PROBLEM_INFORMATION: lambda choices: choices.below(2),
    _P.REQUEST_RESPONSE_INFORMATION: lambda choices: choices.below(2),
    _P.CONTENT_TYPE: _text,
    _P.RESPONSE_TOPIC: lambda choices: choices.of(TOPICS),
    _P.CORRELATION_DATA: lambda choices: choices.take(4),
    _P.SUBSCRIPTION_IDENTIFIER: lambda choices: (_number(choices),),
    _P.AUTHENTICATION_METHOD: _text,
    _P.AUTHENTICATION_DATA: lambda choices: choices.take(4),
    _P.REASON_STRING: _text,
    _P.SERVER_REFERENCE: _text,
    _P.USER_PROPERTY: lambda choices: ((_text(choices), _text(choices)),) * (1 + choices.below(3)),
    **{identifier: lambda choices: choices.of((0, 1, 10, 100, 0xFFFFFFFF)) for identifier in _WHOLE_NUMBERS},
}
