"""MQTT 5.0, sections 1.5 and 2: data types, the fixed header, packet identifiers, property lengths."""

from __future__ import annotations

import pytest

from headwater.mqtt.packets import (
    Acknowledgement,
    Connack,
    PacketType,
    PropertyId,
    Publish,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
)
from headwater.mqtt.reason_codes import ReasonCode

from .client import Client
from .conftest import Broker
from .exchanges import answer_to, explain_end, watch
from .packets import frame, pubrel, raw_connect, raw_publish, raw_subscribe, section, text

ILL_FORMED = {
    "a surrogate": b"a\xed\xa0\x80b",
    "an overlong form": b"a\xc0\xafb",
    "half a character": b"a\xe2\x82",
    "beyond Unicode": b"\xf4\x90\x80\x80",
}


@pytest.mark.parametrize("raw", ILL_FORMED.values(), ids=ILL_FORMED.keys())
def test_mqtt_1_5_4_1(broker: Broker, raw: bytes) -> None:
    client = broker.connect()
    client.send(raw_publish(raw))
    explain_end(client, ReasonCode.MALFORMED_PACKET)


def test_mqtt_1_5_4_1_in_every_packet(broker: Broker) -> None:
    bad = b"a\xed\xa0\x80"
    for packet in (
        raw_subscribe(text(bad), b"\0"),
        frame(0xA2, b"\0\1\0", text(bad)),
        raw_publish(broker.topic(), properties=section(b"\x03" + text(bad))),
        frame(0xE0, b"\x04", section(b"\x1f" + text(bad))),
    ):
        client = broker.connect()
        client.send(packet)
        explain_end(client, ReasonCode.MALFORMED_PACKET)


def test_mqtt_1_5_4_1_in_connect(broker: Broker) -> None:
    client = broker.open()
    client.send(raw_connect(text(b"\xed\xbf\xbf")))
    assert client.expect_closed() == []


def test_mqtt_1_5_4_2(broker: Broker) -> None:
    for packet in (raw_publish("a\0b"), raw_subscribe(text("a\0b"), b"\0"), frame(0xA2, b"\0\1\0", text("a\0b"))):
        client = broker.connect()
        client.send(packet)
        explain_end(client, ReasonCode.MALFORMED_PACKET)


def test_mqtt_1_5_4_2_in_a_user_property(broker: Broker) -> None:
    client = broker.connect()
    client.send(raw_publish(broker.topic(), properties=section(b"\x26" + text("a\0") + text("b"))))
    explain_end(client, ReasonCode.MALFORMED_PACKET)


def test_mqtt_1_5_4_3(broker: Broker) -> None:
    mark = "\ufeff"
    client = broker.connect()
    client.subscribe(broker.topic(f"{mark}a"))
    client.publish(broker.topic("a"), b"without")
    client.publish(broker.topic(f"{mark}a"), b"with", properties={PropertyId.USER_PROPERTY: ((mark, f"a{mark}b"),)})
    [message] = client.remaining()
    assert (message.topic, message.payload) == (broker.topic(f"{mark}a"), b"with")
    assert message.properties == {PropertyId.USER_PROPERTY: ((mark, f"a{mark}b"),)}


def test_mqtt_1_5_5_1(broker: Broker) -> None:
    client = broker.connect()
    client.send(b"\xc0\x80\x00")  # PINGREQ with Remaining Length 0 in two bytes
    explain_end(client, ReasonCode.MALFORMED_PACKET)


def test_mqtt_1_5_5_1_in_a_property_length(broker: Broker) -> None:
    client = broker.connect()
    client.send(raw_publish(broker.topic(), properties=b"\x80\x00"))
    explain_end(client, ReasonCode.MALFORMED_PACKET)


def test_mqtt_1_5_5_1_in_a_property(broker: Broker) -> None:
    client = broker.connect()
    client.send(raw_subscribe(text(broker.topic()), b"\0", properties=section(b"\x0b\x81\x00")))
    explain_end(client, ReasonCode.MALFORMED_PACKET)


def test_mqtt_1_5_5_1_with_five_bytes(broker: Broker) -> None:
    client = broker.connect()
    client.send(b"\x30\x80\x80\x80\x80\x01")
    explain_end(client, ReasonCode.MALFORMED_PACKET)


@pytest.mark.parametrize("pair", [(b"\xed\xa0\x80", b"b"), (b"a", b"\xff"), (b"a", b"\0"), (b"\0", b"b")])
def test_mqtt_1_5_7_1(broker: Broker, pair: tuple[bytes, bytes]) -> None:
    client = broker.connect()
    client.send(raw_publish(broker.topic(), properties=section(b"\x26" + text(pair[0]) + text(pair[1]))))
    explain_end(client, ReasonCode.MALFORMED_PACKET)


@pytest.mark.parametrize("kind", [kind for kind in PacketType if kind not in (PacketType.CONNECT, PacketType.PUBLISH)])
def test_mqtt_2_1_3_1(broker: Broker, kind: PacketType) -> None:
    right = 2 if kind in (PacketType.PUBREL, PacketType.SUBSCRIBE, PacketType.UNSUBSCRIBE) else 0
    for flags in range(16):
        if flags != right:
            client = broker.connect()
            client.send(bytes((kind << 4 | flags, 2, 0, 1)))
            explain_end(client, ReasonCode.MALFORMED_PACKET)


def test_mqtt_2_1_3_1_in_connect(broker: Broker) -> None:
    packet = raw_connect(text(broker.client_id()))
    for flags in range(1, 16):
        client = broker.open()
        client.send(bytes((0x10 | flags,)) + packet[1:])
        assert client.expect_closed() == []


def test_mqtt_2_2_1_2(broker: Broker) -> None:
    """What would be an identifier is the length of the properties: the server reads it so, and sends it so."""
    client = watch(broker, "t")
    client.send(frame(0x30, text(broker.topic()), b"\0", b"\0\1payload"))
    assert client.message().payload == b"\0\1payload"
    client.send(frame(0x30, text(broker.topic()), b"\0", b"x"))
    assert client.read_frame() == frame(0x30, text(broker.topic()), b"\0", b"x")


@pytest.mark.parametrize(
    "packet",
    [
        frame(0x32, text("t"), b"\0\0\0"),
        frame(0x34, text("t"), b"\0\0\0"),
        raw_subscribe(text("t"), b"\0", packet_id=0),
        frame(0xA2, b"\0\0\0", text("t")),
    ],
    ids=["QoS 1", "QoS 2", "SUBSCRIBE", "UNSUBSCRIBE"],
)
def test_mqtt_2_2_1_3(broker: Broker, packet: bytes) -> None:
    client = broker.connect()
    client.send(packet)
    explain_end(client, ReasonCode.MALFORMED_PACKET, ReasonCode.PROTOCOL_ERROR)


def test_mqtt_2_2_1_4(broker: Broker) -> None:
    client, publisher = watch(broker), broker.connect()
    for number in range(15):
        publisher.publish(broker.topic(), b"%d" % number, 1 + number % 2)
    ids = [message.packet_id for message in client.remaining()]
    assert len(set(ids)) == 15
    assert all(ids)


def test_mqtt_2_2_1_4_when_an_identifier_is_free_again(broker: Broker) -> None:
    client, publisher = watch(broker, qos=1), broker.connect()
    publisher.publish(broker.topic(), b"kept open", 1)
    first = client.message()
    for _ in range(40):
        publisher.publish(broker.topic(), b"m", 1)
        message = client.message()
        assert message.packet_id not in (None, 0, first.packet_id)
        client.complete(message)


def test_mqtt_2_2_1_5(broker: Broker) -> None:
    client = broker.connect()
    for packet_id in (1, 0x1234, 65_535):
        assert answer_to(client, broker.topic(), 1, packet_id=packet_id).packet_id == packet_id
        assert answer_to(client, broker.topic(), 2, packet_id=packet_id).packet_id == packet_id
        client.send(pubrel(packet_id))
        client.expect(Acknowledgement(PacketType.PUBCOMP, packet_id))


def test_mqtt_2_2_1_5_from_the_server(broker: Broker) -> None:
    client = watch(broker)
    broker.connect().publish(broker.topic(), b"m", 2)
    message = client.message()
    assert message.packet_id is not None
    client.send(Acknowledgement(PacketType.PUBREC, message.packet_id))
    client.expect(Acknowledgement(PacketType.PUBREL, message.packet_id))


def test_mqtt_2_2_1_6(broker: Broker) -> None:
    client = broker.connect()
    for packet_id in (1, 0x1234, 65_535):
        client.send(Subscribe(packet_id, (Subscription(broker.topic(), 0),)))
        client.expect(Suback(packet_id, (0,)))
        client.send(Unsubscribe(packet_id, (broker.topic(),)))
        client.expect(Unsuback(packet_id, (0,)))


def test_mqtt_2_2_2_1(broker: Broker) -> None:
    """A PUBLISH without its property length is no packet, and neither is one whose length reaches too far."""
    for body in (text("t"), text("t") + b"\x05\x01\x00", text("t") + b"\x02\x01"):
        client = broker.connect()
        client.send(frame(0x30, body))
        explain_end(client, ReasonCode.MALFORMED_PACKET)


def test_mqtt_2_2_2_1_from_the_server(broker: Broker) -> None:
    client = broker.connect()
    client.send(Subscribe(7, (Subscription(broker.topic(), 0),)), Publish(broker.topic(), b"m"))
    assert client.read_frame() == b"\x90\x04\0\7\0\0"
    assert client.read_frame() == frame(0x30, text(broker.topic()), b"\0m")
    client.send(Unsubscribe(8, (broker.topic(),)))
    assert client.read_frame() == b"\xb0\x04\0\x08\0\0"


def test_mqtt_2_2_2_1_in_the_shortest_forms(broker: Broker) -> None:
    """Acknowledgements and DISCONNECT end early where there is nothing more to say (sections 3.4.2.1, 3.14.2.1)."""
    client: Client = watch(broker, qos=1)
    client.send(Publish(broker.topic(), b"m", 1, 9))
    frames = [client.read_frame(), client.read_frame()]
    assert b"\x40\x02\x00\x09" in frames
    client.send(frame(0x40, b"\0\1\0\0"), b"\xe0\x00")
    assert not any(isinstance(packet, Connack) for packet in client.expect_closed())
