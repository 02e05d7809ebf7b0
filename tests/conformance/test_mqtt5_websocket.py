"""MQTT 5.0, section 6: WebSocket, on the HTTP listener."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from headwater.mqtt.encode import render_packet
from headwater.mqtt.packets import Connect, ProtocolLevel, Publish, Subscribe, Subscription

from .client import DEADLINE_S
from .conftest import Broker
from .packets import frame, text

MQTT = Subprotocol("mqtt")


def _open(
    broker: Broker, subprotocols: Sequence[Subprotocol] | None = (MQTT,), path: str = "/mqtt"
) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{broker.server.http_port}{path}", subprotocols=subprotocols)


def _hello(broker: Broker) -> bytes:
    return render_packet(Connect(broker.client_id(), level=ProtocolLevel.V5))


def _receive_until(socket: ClientConnection, end: bytes) -> bytes:
    received = b""
    while not received.endswith(end):
        data = socket.recv(timeout=DEADLINE_S)
        assert isinstance(data, bytes), "a text frame"
        received += data
    return received


def test_mqtt_6_0_0_1(broker: Broker) -> None:
    with _open(broker) as socket:
        socket.send(_hello(broker) + b"\xc0\x00")
        assert _receive_until(socket, b"\xd0\x00")[0] == 0x20


@pytest.mark.parametrize("after", [True, False], ids=["after CONNECT", "instead of CONNECT"])
def test_mqtt_6_0_0_1_with_a_text_frame(broker: Broker, after: bool) -> None:
    with _open(broker) as socket:
        if after:
            socket.send(_hello(broker) + b"\xc0\x00")
            _receive_until(socket, b"\xd0\x00")
        socket.send("\x00")
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=DEADLINE_S)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1003


def test_mqtt_6_0_0_2(broker: Broker) -> None:
    topic = broker.topic()
    subscribe = render_packet(Subscribe(1, (Subscription(topic, 0),)), 5)
    stream = _hello(broker) + subscribe + render_packet(Publish(topic, b"m"), 5) + b"\xc0\x00"
    expected = b"\x90\x04\0\1\0\0" + frame(0x30, text(topic), b"\0m") + b"\xd0\x00"
    for size in (1, 2, 7, len(stream)):
        with _open(broker) as socket:
            for position in range(0, len(stream), size):
                socket.send(stream[position : position + size])
            assert _receive_until(socket, b"\xd0\x00").endswith(expected)


def test_mqtt_6_0_0_2_in_fragments_of_a_message(broker: Broker) -> None:
    with _open(broker) as socket:
        hello = _hello(broker) + b"\xc0\x00"
        socket.send(hello[position : position + 3] for position in range(0, len(hello), 3))
        assert _receive_until(socket, b"\xd0\x00")[0] == 0x20


@pytest.mark.parametrize("path", ["/mqtt", "/ws", "/"])
def test_mqtt_6_0_0_4(broker: Broker, path: str) -> None:
    with _open(broker, path=path) as socket:
        assert socket.subprotocol == "mqtt"


def test_mqtt_6_0_0_4_of_several(broker: Broker) -> None:
    with _open(broker, [Subprotocol("chat"), Subprotocol("mqttv3.1"), MQTT]) as socket:
        assert socket.subprotocol == "mqtt"


def test_mqtt_6_0_0_3(broker: Broker) -> None:
    with _open(broker, None) as socket:
        assert socket.subprotocol is None
        socket.send(_hello(broker) + b"\xc0\x00")
        _receive_until(socket, b"\xd0\x00")
