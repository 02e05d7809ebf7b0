"""MQTT 3.1.1, sections 3.12 to 3.14 and 6: PINGREQ, DISCONNECT, and WebSocket as the network."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from headwater.mqtt.encode import render_packet
from headwater.mqtt.packets import Disconnect, Pingreq, Pingresp, Publish

from .client import payloads
from .conftest import Broker
from .exchanges import watch, will_of

CONNACK = b"\x20\x02\x00\x00"
PINGRESP = b"\xd0\x00"


def test_mqtt_3_12_4_1(broker: Broker) -> None:
    client = broker.connect()
    client.send(b"\xc0\x00")
    assert client.read_frame() == PINGRESP


def test_mqtt_3_12_4_1_for_each(broker: Broker) -> None:
    client = broker.connect()
    client.send(*[Pingreq()] * 50)
    assert [client.read() for _ in range(50)] == [Pingresp()] * 50


def test_mqtt_3_14_4_1(broker: Broker) -> None:
    """The client does not close; the server does."""
    client = broker.connect()
    client.send(Disconnect())
    assert client.expect_closed() == []


def test_mqtt_3_14_4_2(broker: Broker) -> None:
    subscriber, client = watch(broker), broker.connect(will=will_of(broker))
    client.send(Publish(broker.topic(), b"before"), Disconnect(), Publish(broker.topic(), b"after"), b"\x36\x00")
    assert client.expect_closed() == []
    assert payloads(subscriber.remaining()) == [b"before"]


@pytest.mark.parametrize("first_byte", range(0xE1, 0xF0))
def test_mqtt_3_14_1_1(broker: Broker, first_byte: int) -> None:
    client = broker.connect()
    client.send(bytes((first_byte, 0)))
    assert client.expect_closed() == []


def open_websocket(broker: Broker, subprotocols: Sequence[str] | None = ("mqtt",)) -> ClientConnection:
    offered = None if subprotocols is None else [Subprotocol(name) for name in subprotocols]
    url = f"ws://127.0.0.1:{broker.server.http_port}/mqtt"
    return connect(url, subprotocols=offered, compression=None, open_timeout=10, proxy=None)


def read(websocket: ClientConnection, length: int) -> bytes:
    """So many bytes from binary frames."""
    data = b""
    while len(data) < length:
        message = websocket.recv(10)
        assert isinstance(message, bytes)
        data += message
    assert len(data) == length
    return data


def test_mqtt_6_0_0_1(broker: Broker) -> None:
    with open_websocket(broker) as websocket:
        websocket.send(render_packet(broker.connect_packet()))
        assert read(websocket, 4) == CONNACK
        websocket.send("text")
        with pytest.raises(ConnectionClosed):
            websocket.recv(10)
    broker.check_alive()


def test_mqtt_6_0_0_1_even_if_the_text_is_a_packet(broker: Broker) -> None:
    with open_websocket(broker) as websocket:
        websocket.send(render_packet(broker.connect_packet()).decode())
        with pytest.raises(ConnectionClosed):
            websocket.recv(10)


def test_mqtt_6_0_0_2(broker: Broker) -> None:
    """Byte by byte, then many packets in one frame, then split in their middle."""
    with open_websocket(broker) as websocket:
        for byte in render_packet(broker.connect_packet()):
            websocket.send(bytes((byte,)))
        assert read(websocket, 4) == CONNACK
        websocket.send(b"\xc0\x00" * 20)
        assert read(websocket, 40) == PINGRESP * 20
        packets = render_packet(Publish(broker.topic(), b"x" * 300, 1, 7)) + b"\xc0\x00"
        websocket.send(packets[:150])
        websocket.send(packets[150:-1])
        websocket.send(packets[-1:])
        assert read(websocket, 6) == b"\x40\x02\x00\x07" + PINGRESP


def test_mqtt_6_0_0_2_in_fragments(broker: Broker) -> None:
    """One frame of WebSocket in several parts."""
    with open_websocket(broker) as websocket:
        packet = render_packet(broker.connect_packet())
        websocket.send(iter([packet[:1], packet[1:9], packet[9:]]))
        assert read(websocket, 4) == CONNACK


@pytest.mark.parametrize("offered", [["mqtt"], ["mqttv3.1", "mqtt"], ["mqtt", "other"], ["other", "mqtt"]])
def test_mqtt_6_0_0_4(broker: Broker, offered: list[str]) -> None:
    with open_websocket(broker, offered) as websocket:
        assert websocket.subprotocol == "mqtt"
        websocket.send(render_packet(broker.connect_packet()))
        assert read(websocket, 4) == CONNACK


def test_mqtt_6_0_0_3(broker: Broker) -> None:
    """Without an offer there is nothing to select."""
    with open_websocket(broker, None) as websocket:
        assert websocket.subprotocol is None
        websocket.send(render_packet(broker.connect_packet()))
        assert read(websocket, 4) == CONNACK
