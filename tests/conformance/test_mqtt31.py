"""MQTT 3.1 (level 3, `MQIsdp`): what differs from 3.1.1 in CONNECT, and that the rest is the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from headwater.mqtt.packets import ProtocolLevel, Will

from .client import payloads
from .conftest import Broker
from .packets import frame, text


@pytest.fixture
def broker(make_broker: Callable[[int], Broker]) -> Broker:
    return make_broker(ProtocolLevel.V31)


def raw_connect(name: str, level: int, flags: int = 0x02, client_id: str = "c31") -> bytes:
    return frame(0x10, text(name), bytes((level, flags)), b"\0\0", text(client_id))


def test_the_protocol_name_is_mqisdp(broker: Broker) -> None:
    client = broker.open()
    client.send(raw_connect("MQIsdp", 3))
    assert client.read_frame() == b"\x20\x02\x00\x00"


@pytest.mark.parametrize(("name", "level"), [("MQIsdp", 4), ("MQIsdp", 5), ("MQTT", 3)])
def test_names_and_levels_of_different_versions_do_not_go_together(broker: Broker, name: str, level: int) -> None:
    client = broker.open()
    client.send(raw_connect(name, level))
    assert client.read_frame()[:4] in (b"\x20\x02\x00\x01", b"\x20\x03\x00\x84")
    assert client.expect_closed() == []


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_come_and_go_with_every_qos(broker: Broker, qos: int) -> None:
    client = broker.connect()
    assert client.subscribe(broker.topic("+"), qos=qos) == (qos,)
    client.publish(broker.topic(), b"m", qos)
    message = client.take()
    assert (message.topic, message.payload, message.qos) == (broker.topic(), b"m", qos)


def test_a_session_goes_on_though_3_1_has_no_word_for_it(broker: Broker) -> None:
    """The byte of Session Present is reserved in 3.1, and 0."""
    client_id = broker.client_id()
    client = broker.connect(client_id, clean_session=False)
    client.subscribe(broker.topic(), qos=1)
    client.disconnect()
    broker.connect().publish(broker.topic(), b"waiting", 1)
    client = broker.open()
    client.send(broker.connect_packet(client_id, clean_session=False))
    assert client.read_frame() == b"\x20\x02\x00\x00"
    assert client.take().payload == b"waiting"


def test_retained_messages_and_wills(broker: Broker) -> None:
    subscriber = broker.connect()
    subscriber.subscribe(broker.topic("will"), qos=1)
    broker.connect(will=Will(broker.topic("will"), b"gone", 1, True)).drop()
    assert subscriber.take().payload == b"gone"
    later = broker.connect()
    later.subscribe(broker.topic("will"))
    assert later.message().retain


def test_clients_of_both_versions_hear_each_other(broker: Broker, make_broker: Callable[[int], Broker]) -> None:
    old, new = broker.connect(), make_broker(ProtocolLevel.V311).connect()
    for client in (old, new):
        client.subscribe(broker.topic(), qos=2)
    old.publish(broker.topic(), b"from 3.1", 2)
    new.publish(broker.topic(), b"from 3.1.1", 1)
    assert payloads(old.take() for _ in range(2)) == payloads(new.take() for _ in range(2))


def test_a_nameless_client_with_a_lasting_session_is_refused(broker: Broker) -> None:
    client = broker.open()
    client.send(raw_connect("MQIsdp", 3, 0, ""))
    assert client.read_frame() == b"\x20\x02\x00\x02"
    assert client.expect_closed() == []


def test_what_is_not_allowed_is_acknowledged_and_dropped(broker: Broker) -> None:
    client = broker.connect()
    client.publish("$SYS/broker/uptime", b"m", 1)
    client.publish("$SYS/broker/uptime", b"m", 2)
    assert client.subscribe("$SYS/#", broker.topic(), qos=1) == (0x80, 1)
