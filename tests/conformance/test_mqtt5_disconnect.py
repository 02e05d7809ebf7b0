"""MQTT 5.0, section 3.14: DISCONNECT."""

from __future__ import annotations

from pathlib import Path

import pytest

from headwater.mqtt.packets import Connect, Disconnect, PropertyId, ProtocolLevel, Publish
from headwater.mqtt.reason_codes import ReasonCode
from headwater.mqtt.reason_lists import CLIENT_DISCONNECT
from server import running_server

from .client import Client
from .conftest import Broker
from .exchanges import explain_end, sign_in, watch, will_of
from .packets import LASTING, frame, raw_publish, section, text

EXPIRY = PropertyId.SESSION_EXPIRY_INTERVAL


def test_mqtt_3_14_0_1(broker: Broker) -> None:
    """Whatever goes wrong before CONNACK, there is no DISCONNECT."""
    for packet in (b"\x00\x00", raw_publish("t"), b"\x10\x02\0\0", b"\xe0\x00", b"\x10\xff\xff\xff\x7f"):
        client = broker.open()
        client.send(packet)
        assert client.expect_closed() == []
    client = broker.open()
    client.send(broker.connect_packet("x" * 200))
    assert not any(isinstance(packet, Disconnect) for packet in client.expect_closed())


@pytest.mark.parametrize("flags", range(1, 16))
def test_mqtt_3_14_1_1(broker: Broker, flags: int) -> None:
    watcher = watch(broker, "will")
    client = broker.connect(will=will_of(broker))
    client.send(bytes((0xE0 | flags, 0)))
    explain_end(client, ReasonCode.MALFORMED_PACKET)
    assert watcher.take().payload == b"will"


@pytest.mark.parametrize("code", sorted(CLIENT_DISCONNECT))
def test_mqtt_3_14_2_1(broker: Broker, code: int) -> None:
    client = broker.connect()
    client.send(Disconnect(code))
    assert client.expect_closed() == []


def test_mqtt_3_14_2_1_when_the_server_stops(data: Path) -> None:
    with running_server(data, HEADWATER_MQTT_ALLOW_ANONYMOUS="true", HEADWATER_STORE_ENGINE="memory") as server:
        client = Client(server.mqtt_port, ProtocolLevel.V5)
        client.sign_in(Connect("x", level=ProtocolLevel.V5))
        assert server.stop() == 0
        explain_end(client, ReasonCode.SERVER_SHUTTING_DOWN)


@pytest.mark.parametrize("code", [0x01, 0x10, 0x18, 0x84, 0x86, 0x91, 0x92, 0xFF])
def test_mqtt_3_14_2_1_of_other_packets(broker: Broker, code: int) -> None:
    client = broker.connect()
    client.send(Disconnect(code))
    explain_end(client, ReasonCode.PROTOCOL_ERROR)


def test_mqtt_3_14_2_2(broker: Broker) -> None:
    client_id = broker.client_id()
    client = broker.connect(client_id, properties=LASTING)
    broker.connect(client_id)
    assert EXPIRY not in explain_end(client, ReasonCode.SESSION_TAKEN_OVER).properties
    client = broker.connect(properties=LASTING)
    client.send(b"\x00\x00")
    assert EXPIRY not in explain_end(client, ReasonCode.PROTOCOL_ERROR).properties


def test_mqtt_3_14_2_3(broker: Broker) -> None:
    client = broker.connect(properties={PropertyId.MAXIMUM_PACKET_SIZE: 30})
    client.send(raw_publish(""))
    assert explain_end(client, ReasonCode.PROTOCOL_ERROR).properties == {}
    client = broker.connect()
    client.send(raw_publish(""))
    assert PropertyId.REASON_STRING in explain_end(client, ReasonCode.PROTOCOL_ERROR).properties


def test_mqtt_3_14_2_4(broker: Broker) -> None:
    client = broker.connect()
    client.send(raw_publish(""))
    assert PropertyId.USER_PROPERTY not in explain_end(client, ReasonCode.PROTOCOL_ERROR).properties


def test_mqtt_3_14_4_1(broker: Broker) -> None:
    """What a client sends behind its DISCONNECT is not looked at."""
    watcher, client = watch(broker), broker.connect()
    client.send(Disconnect(), Publish(broker.topic(), b"too late"), b"\x00\x00")
    assert client.expect_closed() == []
    assert watcher.remaining() == []


def test_mqtt_3_14_4_1_from_the_server(broker: Broker) -> None:
    client = watch(broker)
    client.send(b"\x00\x00", Publish(broker.topic(), b"too late"))
    assert [type(packet) for packet in client.expect_closed()] == [Disconnect]


def test_mqtt_3_14_4_2(broker: Broker) -> None:
    client = broker.connect()
    client.disconnect()
    client = broker.connect()
    client.send(b"\x00\x00")
    assert isinstance(client.expect_closed()[-1], Disconnect)


@pytest.mark.parametrize("packet", [b"\xe0\x00", b"\xe0\x01\x00", b"\xe0\x02\x00\x00"])
def test_mqtt_3_14_4_3(broker: Broker, packet: bytes) -> None:
    watcher = watch(broker, "will")
    client = broker.connect(will=will_of(broker))
    client.send(packet)
    assert client.expect_closed() == []
    assert watcher.remaining() == []


@pytest.mark.parametrize("code", sorted(CLIENT_DISCONNECT - {ReasonCode.NORMAL_DISCONNECTION}))
def test_mqtt_3_14_4_3_with_other_codes(broker: Broker, code: int) -> None:
    watcher = watch(broker, "will")
    client = broker.connect(will=will_of(broker))
    client.send(Disconnect(code))
    assert watcher.take().payload == b"will"


def test_disconnect_may_change_how_long_the_session_lasts(broker: Broker) -> None:
    client_id = broker.client_id()
    client = broker.connect(client_id, properties=LASTING)
    client.send(Disconnect(properties={EXPIRY: 0}))
    client.expect_closed()
    client, connack = sign_in(broker, client_id, clean_session=False, properties={EXPIRY: 1})
    assert not connack.session_present
    client.send(Disconnect(properties={EXPIRY: 600}))
    client.expect_closed()
    broker.resume(client_id)


def test_disconnect_cannot_make_a_session_last_that_was_not_to(broker: Broker) -> None:
    watcher, client_id = watch(broker, "will"), broker.client_id()
    client = broker.connect(client_id, will=will_of(broker))
    client.send(Disconnect(properties={EXPIRY: 600}))
    explain_end(client, ReasonCode.PROTOCOL_ERROR)
    assert watcher.take().payload == b"will"
    assert not sign_in(broker, client_id, clean_session=False)[1].session_present
    client = broker.connect()
    client.send(Disconnect(properties={EXPIRY: 0}))
    assert client.expect_closed() == []


@pytest.mark.parametrize(
    "body",
    [b"\0\0\0", b"\0\5\x11\0\0\0", b"\0" + section(b"\x11\0\0\0\1" * 2), b"\0" + section(b"\x1f" + text("a")) * 2],
)
def test_a_disconnect_that_is_malformed_is_no_goodbye(broker: Broker, body: bytes) -> None:
    watcher = watch(broker, "will")
    broker.connect(will=will_of(broker), properties=LASTING).send(frame(0xE0, body))
    assert watcher.take().payload == b"will"
