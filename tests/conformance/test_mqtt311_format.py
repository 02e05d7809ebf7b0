"""MQTT 3.1.1, sections 1.5 and 2, and 4.8: strings, flags, packet identifiers, and what breaking the rules leads to."""

from __future__ import annotations

import pytest

from headwater.mqtt.packets import (
    Acknowledgement,
    PacketType,
    Publish,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
)

from .conftest import Broker
from .exchanges import answer_to, watch
from .packets import frame, puback, pubcomp, pubrec, pubrel, text

ILL_FORMED = {
    "a surrogate": b"a\xed\xa0\x80b",
    "an overlong form": b"a\xc0\xafb",
    "half a character": b"a\xe2\x82",
    "beyond Unicode": b"\xf4\x90\x80\x80",
}
FLAGS = {
    PacketType.PUBACK: 0,
    PacketType.PUBREC: 0,
    PacketType.PUBREL: 2,
    PacketType.PUBCOMP: 0,
    PacketType.SUBSCRIBE: 2,
    PacketType.UNSUBSCRIBE: 2,
    PacketType.PINGREQ: 0,
    PacketType.DISCONNECT: 0,
}


def check_closed(broker: Broker, packet: bytes) -> None:
    """An accepted client that sends this is disconnected without an answer; others are not."""
    other, client = broker.connect(), broker.connect()
    client.send(packet)
    assert client.expect_closed() == []
    other.ping()


def string_packets(raw: bytes) -> dict[str, bytes]:
    """Packets that hold a string."""
    return {
        "PUBLISH": frame(0x30, text(raw), b"payload"),
        "SUBSCRIBE": frame(0x82, b"\0\1", text(raw), b"\0"),
        "UNSUBSCRIBE": frame(0xA2, b"\0\1", text(raw)),
    }


@pytest.mark.parametrize("packet", string_packets(b""))
@pytest.mark.parametrize("raw", ILL_FORMED.values(), ids=ILL_FORMED)
def test_mqtt_1_5_3_1(broker: Broker, raw: bytes, packet: str) -> None:
    check_closed(broker, string_packets(raw)[packet])


@pytest.mark.parametrize("character", ["\x01", "\x1f", "\x7f", "\x9f", "\ufdd0", "\uffff"])
def test_mqtt_1_5_3_1_with_control_characters(broker: Broker, character: str) -> None:
    check_closed(broker, string_packets(f"a{character}".encode())["PUBLISH"])


@pytest.mark.parametrize("packet", string_packets(b""))
def test_mqtt_1_5_3_2(broker: Broker, packet: str) -> None:
    check_closed(broker, string_packets(b"a\0b")[packet])


def test_mqtt_1_5_3_3(broker: Broker) -> None:
    client = broker.connect()
    marked, plain = broker.topic("\ufefft"), broker.topic("t")
    client.subscribe(marked, plain)
    client.publish(marked, b"marked")
    client.publish(plain, b"plain")
    assert [client.message().topic, client.message().topic] == [marked, plain]


def test_mqtt_1_5_3_3_at_the_start(broker: Broker) -> None:
    client = broker.connect()
    client.subscribe("\ufeff" + broker.topic())
    client.publish(broker.topic(), b"plain")
    client.publish("\ufeff" + broker.topic(), b"marked")
    assert client.message().payload == b"marked"


def test_mqtt_2_2_2_1(broker: Broker) -> None:
    """What the server sends has the flags of the table."""
    client = broker.connect()
    sent_and_answered = (
        (frame(0x82, b"\0\1", text(broker.topic()), b"\2"), 0x90),
        (frame(0x32, text(broker.topic("q1")), b"\0\2"), 0x40),
        (frame(0x34, text(broker.topic("q2")), b"\0\3"), 0x50),
        (frame(0x62, b"\0\3"), 0x70),
        (frame(0xC0), 0xD0),
        (frame(0xA2, b"\0\4", text(broker.topic("q1"))), 0xB0),
    )
    for packet, first_byte in sent_and_answered:
        client.send(packet)
        assert client.read_frame()[0] == first_byte
    broker.connect().publish(broker.topic(), b"", 2)
    message = client.read_frame()
    assert message[0] == 0x34
    client.send(frame(0x50, message[-2:]))
    assert client.read_frame()[0] == 0x62


def test_mqtt_2_2_2_1_of_connack(broker: Broker) -> None:
    client = broker.open()
    client.send(broker.connect_packet())
    assert client.read_frame() == b"\x20\x02\x00\x00"


@pytest.mark.parametrize("kind", FLAGS, ids=lambda kind: kind.name)
def test_mqtt_2_2_2_2(broker: Broker, kind: PacketType) -> None:
    bodies = {
        PacketType.SUBSCRIBE: b"\0\1" + text("t") + b"\0",
        PacketType.UNSUBSCRIBE: b"\0\1" + text("t"),
        PacketType.PINGREQ: b"",
        PacketType.DISCONNECT: b"",
    }
    clients = []
    for flags in set(range(16)) - {FLAGS[kind]}:
        client = broker.connect()
        client.send(frame(kind << 4 | flags, bodies.get(kind, b"\0\1")))
        clients.append(client)
    assert [client.expect_closed() for client in clients] == [[]] * 15


@pytest.mark.parametrize("first_byte", [*range(0x11, 0x20)])
def test_mqtt_2_2_2_2_of_connect(broker: Broker, first_byte: int) -> None:
    client = broker.open()
    client.send(frame(first_byte, text("MQTT"), b"\4\2\0\0", text("c")))
    assert client.expect_closed() == []


@pytest.mark.parametrize(
    "packet",
    [
        frame(0x32, text("t"), b"\0\0"),
        frame(0x34, text("t"), b"\0\0"),
        frame(0x32, text("t")),
        frame(0x34, text("t"), b"\1"),
        frame(0x82, b"\0\0", text("t"), b"\0"),
        frame(0xA2, b"\0\0", text("t")),
    ],
    ids=["PUBLISH 1", "PUBLISH 2", "PUBLISH 1 without", "PUBLISH 2 with half of one", "SUBSCRIBE", "UNSUBSCRIBE"],
)
def test_mqtt_2_3_1_1(broker: Broker, packet: bytes) -> None:
    check_closed(broker, packet)


@pytest.mark.parametrize("qos", [1, 2])
def test_mqtt_2_3_1_1_of_what_the_server_publishes(broker: Broker, qos: int) -> None:
    client = watch(broker, "t", qos)
    broker.connect().publish(broker.topic(), b"m", qos)
    assert client.message().packet_id in range(1, 65_536)


@pytest.mark.parametrize("qos", [1, 2])
def test_mqtt_2_3_1_4(broker: Broker, qos: int) -> None:
    """Identifiers in use are not given away; a message sent again has its old one."""
    client_id = broker.client_id()
    client = broker.connect(client_id, clean_session=False)
    client.subscribe(broker.topic(), qos=qos)
    publisher = broker.connect()
    for number in range(10):
        publisher.publish(broker.topic(), b"%d" % number, qos)
    first = {client.message().payload: 0 for _ in range(10)}
    client.drop()
    client = broker.resume(client_id)
    again = {(message := client.message()).payload: message.packet_id for _ in range(10)}
    assert len(set(again.values())) == 10
    client.drop()
    client = broker.resume(client_id)
    third = {(message := client.message()).payload: message.packet_id for _ in range(10)}
    assert third == again
    assert first.keys() == again.keys()


def test_mqtt_2_3_1_4_after_a_full_circle(broker: Broker) -> None:
    """One message stays unacknowledged while others come and go; its identifier is not given away."""
    client = watch(broker, "t", 1)
    publisher = broker.connect()
    publisher.publish(broker.topic(), b"first", 1)
    held = client.message().packet_id
    for _ in range(300):
        publisher.publish(broker.topic(), b"more", 1)
        assert client.take().packet_id != held


def test_mqtt_2_3_1_5(broker: Broker) -> None:
    """The bytes behind the topic are all payload."""
    client = watch(broker, "t", 2)
    broker.connect().publish(broker.topic(), b"\0\1payload")
    assert client.read_frame() == frame(0x30, text(broker.topic()), b"\0\1payload")


@pytest.mark.parametrize("packet_id", [1, 255, 256, 65_535])
def test_mqtt_2_3_1_6(broker: Broker, packet_id: int) -> None:
    client = broker.connect()
    assert answer_to(client, broker.topic(), 1, packet_id=packet_id) == puback(packet_id)
    assert answer_to(client, broker.topic(), 2, packet_id=packet_id) == pubrec(packet_id)
    client.send(pubrel(packet_id))
    client.expect(pubcomp(packet_id))


def test_mqtt_2_3_1_6_of_pubrel(broker: Broker) -> None:
    client = watch(broker, "t", 2)
    broker.connect().publish(broker.topic(), b"m", 2)
    message = client.message()
    client.send(pubrec(message.packet_id))
    client.expect(pubrel(message.packet_id))


@pytest.mark.parametrize("packet_id", [1, 255, 256, 65_535])
def test_mqtt_2_3_1_7(broker: Broker, packet_id: int) -> None:
    client = broker.connect()
    client.send(Subscribe(packet_id, (Subscription(broker.topic(), 1),)))
    client.expect(Suback(packet_id, (1,)))
    client.send(Unsubscribe(packet_id, (broker.topic(),)))
    client.expect(Unsuback(packet_id))


@pytest.mark.parametrize(
    "packet",
    [
        frame(0x00),
        frame(0xF0),
        frame(0x20, b"\0\0"),
        frame(0x90, b"\0\1\0"),
        frame(0xB0, b"\0\1"),
        frame(0xD0),
        frame(0xC0, b"\0"),
        frame(0xE0, b"\0"),
        frame(0x40, b"\0"),
        frame(0x40, b"\0\1\0"),
        frame(0x30, b"\0\5t"),
        b"\xc0\x80\x80\x80\x80\x00",
        b"\x30\xff\xff\xff\xff\x7f",
    ],
    ids=lambda packet: packet.hex(),
)
def test_mqtt_4_8_0_1(broker: Broker, packet: bytes) -> None:
    check_closed(broker, packet)


def test_mqtt_4_8_0_1_but_an_acknowledgement_of_nothing_does_no_harm(broker: Broker) -> None:
    client = watch(broker, "t", 1)
    client.send(puback(77), *(Acknowledgement(kind, 77) for kind in (PacketType.PUBREC, PacketType.PUBCOMP)))
    broker.connect().publish(broker.topic(), b"m", 1)
    assert client.take().payload == b"m"


def test_mqtt_4_8_0_1_ends_only_one_connection(broker: Broker) -> None:
    subscriber, breaker = watch(broker), broker.connect()
    breaker.send(Publish(broker.topic(), b"before"), frame(0x36, text(broker.topic()), b"\0\1"))
    breaker.send(Publish(broker.topic(), b"after"))
    assert breaker.expect_closed() == []
    assert [message.payload for message in subscriber.remaining()] == [b"before"]


def test_mqtt_4_8_0_2(broker: Broker) -> None:
    """There is no more room for QoS 2 messages that are not released: 3.1.1 has no other way to say so."""
    client = broker.connect()
    client.send(*(Publish(broker.topic(), b"", 2, number) for number in range(1, 1_002)))
    assert client.expect_closed() == [pubrec(number) for number in range(1, 1_001)]
    broker.check_alive()
