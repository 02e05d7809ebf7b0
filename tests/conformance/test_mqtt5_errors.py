"""MQTT 5.0, section 4.13: malformed packets and protocol errors."""

from __future__ import annotations

import pytest

from headwater.mqtt.packets import Connack, Disconnect
from headwater.mqtt.reason_codes import ReasonCode

from .conftest import Broker
from .exchanges import explain_end
from .packets import frame, raw_connect, raw_publish, raw_subscribe, section, text

MALFORMED = {
    "a length of five bytes": b"\x30\xff\xff\xff\xff\x7f",
    "an unknown property": raw_publish("t", properties=section(b"\x7f\0")),
    "properties beyond the packet": frame(0x30, text("t"), b"\x7f"),
    "a property that is cut off": raw_publish("t", properties=section(b"\x02\0\0")),
    "a topic beyond the packet": frame(0x30, b"\xff\xff", b"t"),
    "PINGREQ with a body": b"\xc0\x01\0",
    "UNSUBSCRIBE cut off": frame(0xA2, b"\0\1\0", b"\0\5a"),
    "SUBSCRIBE without options": raw_subscribe(text("t")),
    "PUBACK with bytes left over": frame(0x40, b"\0\1\0\0\0"),
}
PROTOCOL_ERRORS = {
    "type 0": b"\x00\x00",
    "CONNACK": frame(0x20, b"\0\0\0"),
    "SUBACK": frame(0x90, b"\0\1\0\0"),
    "UNSUBACK": frame(0xB0, b"\0\1\0\0"),
    "PINGRESP": frame(0xD0),
    "a second CONNECT": raw_connect(text("x")),
    "a property twice": raw_publish("t", properties=section(b"\x01\0" * 2)),
    "a property of other packets": raw_publish("t", properties=section(b"\x11\0\0\0\1")),
    "a value out of range": raw_publish("t", properties=section(b"\x01\2")),
    "a Will Delay in a message": raw_publish("t", properties=section(b"\x18\0\0\0\1")),
    "no topic and no alias": raw_publish(""),
    "AUTH": frame(0xF0, b"\x18", section(b"\x15" + text("x"))),
}


@pytest.mark.parametrize("packet", MALFORMED.values(), ids=MALFORMED.keys())
def test_mqtt_4_13_1_1(broker: Broker, packet: bytes) -> None:
    client = broker.connect()
    client.send(packet)
    explain_end(client, ReasonCode.MALFORMED_PACKET)


@pytest.mark.parametrize("packet", PROTOCOL_ERRORS.values(), ids=PROTOCOL_ERRORS.keys())
def test_mqtt_4_13_1_1_of_protocol_errors(broker: Broker, packet: bytes) -> None:
    client = broker.connect()
    client.send(packet)
    explain_end(client, ReasonCode.PROTOCOL_ERROR)


def test_mqtt_4_13_1_1_and_others_are_served(broker: Broker) -> None:
    for packet in (*MALFORMED.values(), *PROTOCOL_ERRORS.values()):
        client = broker.connect()
        client.send(packet)
        client.expect_closed()
    broker.check_alive()


def test_mqtt_4_13_2_1(broker: Broker) -> None:
    client = broker.open()
    client.send(broker.connect_packet(username="nobody", password=b"wrong"))
    assert [type(packet) for packet in client.expect_closed()] == [Connack]
    client_id = broker.client_id()
    client = broker.connect(client_id)
    broker.connect(client_id)
    assert [type(packet) for packet in client.expect_closed()] == [Disconnect]


def test_mqtt_4_13_2_1_but_refusals_of_requests_do_not_close(broker: Broker) -> None:
    client = broker.connect()
    assert client.subscribe("a/#/b") == (ReasonCode.TOPIC_FILTER_INVALID,)
    client.ping()
