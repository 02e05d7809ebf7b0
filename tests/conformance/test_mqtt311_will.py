"""MQTT 3.1.1, section 3.1.2.5 to 3.1.2.7: the will, and when it is published."""

from __future__ import annotations

import pytest

from headwater.mqtt.packets import Publish, Will

from .client import payloads
from .conftest import Broker
from .exchanges import watch, will_of
from .packets import frame, text


def raw_connect_with_will(flags: int, *fields: str) -> bytes:
    return frame(0x10, text("MQTT"), bytes((4, flags)), b"\0\0", *map(text, fields))


def test_mqtt_3_1_2_8(broker: Broker) -> None:
    subscriber = watch(broker)
    broker.connect(will=will_of(broker)).drop()
    assert subscriber.take().payload == b"will"


def test_mqtt_3_1_2_8_when_the_client_breaks_the_protocol(broker: Broker) -> None:
    subscriber = watch(broker)
    broker.connect(will=will_of(broker)).send(b"\x36\x00")
    assert subscriber.take().payload == b"will"


def test_mqtt_3_1_2_8_when_the_client_closes_without_disconnect(broker: Broker) -> None:
    subscriber = watch(broker)
    broker.connect(will=will_of(broker)).close()
    assert subscriber.take().payload == b"will"


def test_mqtt_3_1_2_8_when_the_keep_alive_is_over(broker: Broker) -> None:
    subscriber = watch(broker)
    broker.connect(will=will_of(broker), keep_alive_s=1)
    assert subscriber.take().payload == b"will"


def test_mqtt_3_1_2_8_when_another_takes_the_clients_place(broker: Broker) -> None:
    subscriber, client_id = watch(broker), broker.client_id()
    broker.connect(client_id, will=will_of(broker))
    broker.connect(client_id)
    assert subscriber.take().payload == b"will"


def test_mqtt_3_1_2_8_not_before_the_end(broker: Broker) -> None:
    subscriber = watch(broker)
    client = broker.connect(will=will_of(broker))
    client.ping()
    assert subscriber.remaining() == []


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_3_1_2_9(broker: Broker, qos: int) -> None:
    subscriber = watch(broker)
    broker.connect(will=will_of(broker, b"\x00\xff", qos=qos)).drop()
    message = subscriber.message()
    assert (message.topic, message.payload, message.qos) == (broker.topic("will"), b"\x00\xff", qos)


@pytest.mark.parametrize("fields", [["c"], ["c", "will/topic"]], ids=["no topic", "no message"])
def test_mqtt_3_1_2_9_with_fields_missing(broker: Broker, fields: list[str]) -> None:
    client = broker.open()
    client.send(raw_connect_with_will(0x06, *fields))
    assert client.expect_closed() == []


def test_mqtt_3_1_2_9_with_an_empty_message(broker: Broker) -> None:
    subscriber = watch(broker)
    broker.connect(will=will_of(broker, b"")).drop()
    assert subscriber.take() == Publish(broker.topic("will"), b"", 1, 1)


def test_mqtt_3_1_2_10(broker: Broker) -> None:
    """Once published, it is not published again, though the session goes on."""
    subscriber, client_id = watch(broker), broker.client_id()
    broker.connect(client_id, clean_session=False, will=will_of(broker)).drop()
    assert subscriber.take().payload == b"will"
    broker.resume(client_id).drop()
    broker.resume(client_id)
    assert subscriber.remaining() == []


def test_mqtt_3_1_2_10_after_disconnect(broker: Broker) -> None:
    subscriber, client_id = watch(broker), broker.client_id()
    broker.connect(client_id, clean_session=False, will=will_of(broker)).disconnect()
    broker.resume(client_id).drop()
    broker.resume(client_id)
    assert subscriber.remaining() == []


def test_mqtt_3_1_2_11(broker: Broker) -> None:
    client = broker.open()
    client.send(raw_connect_with_will(0x02, "c", "will/topic", "will"))
    assert client.expect_closed() == []


def test_mqtt_3_1_2_12(broker: Broker) -> None:
    """The will of an earlier connection is not that of this one."""
    subscriber, client_id = watch(broker), broker.client_id()
    broker.connect(client_id, will=will_of(broker)).disconnect()
    client = broker.connect(client_id)
    client.publish(broker.topic(), b"before", 1)
    client.drop()
    broker.connect(client_id).publish(broker.topic(), b"after", 1)
    assert payloads(subscriber.remaining()) == [b"before", b"after"]


@pytest.mark.parametrize("flags", [0x0A, 0x12, 0x1A])
def test_mqtt_3_1_2_13(broker: Broker, flags: int) -> None:
    client = broker.open()
    client.send(raw_connect_with_will(flags, "c"))
    assert client.expect_closed() == []


def test_mqtt_3_1_2_14(broker: Broker) -> None:
    client = broker.open()
    client.send(raw_connect_with_will(0x1E, "c", "will/topic", "will"))
    assert client.expect_closed() == []


def test_mqtt_3_1_2_15(broker: Broker) -> None:
    client = broker.open()
    client.send(raw_connect_with_will(0x22, "c"))
    assert client.expect_closed() == []


def test_mqtt_3_1_2_16(broker: Broker) -> None:
    subscriber = watch(broker)
    broker.connect(will=will_of(broker)).drop()
    assert not subscriber.take().retain
    assert watch(broker).remaining() == []


def test_mqtt_3_1_2_17(broker: Broker) -> None:
    subscriber = watch(broker)
    broker.connect(will=will_of(broker, retain=True)).drop()
    assert not subscriber.take().retain
    message = watch(broker).take()
    assert (message.payload, message.retain) == (b"will", True)


def test_mqtt_3_1_2_17_deletes_with_an_empty_message(broker: Broker) -> None:
    broker.connect().publish(broker.topic("will"), b"old", 1, retain=True)
    subscriber = watch(broker)
    assert subscriber.take().payload == b"old"
    broker.connect(will=will_of(broker, b"", retain=True)).drop()
    assert subscriber.take().payload == b""
    assert watch(broker).remaining() == []


def test_mqtt_3_14_4_3(broker: Broker) -> None:
    subscriber = watch(broker)
    broker.connect(will=will_of(broker, retain=True)).disconnect()
    broker.connect().publish(broker.topic(), b"after", 1)
    assert payloads(subscriber.remaining()) == [b"after"]
    assert watch(broker).remaining() == []


def test_mqtt_3_14_1_1_publishes_the_will(broker: Broker) -> None:
    """Not a DISCONNECT, therefore: the connection is closed, and the will published."""
    subscriber = watch(broker)
    client = broker.connect(will=will_of(broker))
    client.send(b"\xe1\x00")
    assert client.expect_closed() == []
    assert subscriber.take().payload == b"will"


@pytest.mark.parametrize("topic", ["", "a/#", "+", "$SYS/will"])
def test_mqtt_4_7_1_1_of_a_will(broker: Broker, topic: str) -> None:
    client = broker.open()
    client.send(broker.connect_packet(will=Will(topic, b"will", 0, False)))
    assert all(getattr(packet, "reason_code", 0) for packet in client.expect_closed())
