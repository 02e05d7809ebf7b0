"""MQTT 5.0, sections 3.1.2 and 3.1.3: wills."""

from __future__ import annotations

import pytest

from headwater.mqtt.packets import Disconnect, PropertyId, Subscription, Will
from headwater.mqtt.reason_codes import ReasonCode

from .client import payloads
from .conftest import Broker
from .exchanges import explain_end, let_time_pass, watch, will_of
from .packets import LASTING, raw_connect, text

WILL_PROPERTIES = b"\0"


def test_mqtt_3_1_2_7(broker: Broker) -> None:
    """It survives its connection: a client that is away keeps its will for as long as its delay says."""
    watcher = watch(broker, "will")
    will = will_of(broker, properties={PropertyId.WILL_DELAY_INTERVAL: 1, PropertyId.CONTENT_TYPE: "text/plain"})
    broker.connect(will=will, properties=LASTING).drop()
    message = watcher.take()
    assert (message.payload, message.qos, message.retain) == (b"will", 1, False)
    assert message.properties == {PropertyId.CONTENT_TYPE: "text/plain"}


def test_mqtt_3_1_2_7_with_all_its_properties(broker: Broker) -> None:
    watcher = watch(broker, "will")
    passed_on = {
        PropertyId.PAYLOAD_FORMAT_INDICATOR: 1,
        PropertyId.CONTENT_TYPE: "text/plain",
        PropertyId.RESPONSE_TOPIC: "answers",
        PropertyId.CORRELATION_DATA: b"\0\1",
        PropertyId.USER_PROPERTY: (("a", "b"),),
        PropertyId.MESSAGE_EXPIRY_INTERVAL: 600,
    }
    broker.connect(will=will_of(broker, properties=passed_on | {PropertyId.WILL_DELAY_INTERVAL: 0})).drop()
    assert watcher.take().properties == passed_on


@pytest.mark.parametrize("how", ["a broken connection", "a protocol error", "a takeover", "a code"])
def test_mqtt_3_1_2_8(broker: Broker, how: str) -> None:
    watcher, client_id = watch(broker, "will"), broker.client_id()
    client = broker.connect(client_id, will=will_of(broker))
    if how == "a broken connection":
        client.drop()
    elif how == "a protocol error":
        client.send(b"\x00\x00")
    elif how == "a takeover":
        broker.connect(client_id)
    else:
        client.send(Disconnect(ReasonCode.DISCONNECT_WITH_WILL))
    assert watcher.take().payload == b"will"
    assert watcher.remaining() == []


def test_mqtt_3_1_2_8_when_the_session_ends_before_the_delay(broker: Broker) -> None:
    watcher = watch(broker, "will")
    will = will_of(broker, properties={PropertyId.WILL_DELAY_INTERVAL: 600})
    broker.connect(will=will).drop()
    assert watcher.take().payload == b"will"
    client_id = broker.client_id()
    broker.connect(client_id, will=will, properties=LASTING).drop()
    broker.connect(client_id)  # with Clean Start 1
    assert watcher.take().payload == b"will"


def test_mqtt_3_1_2_8_when_a_new_session_takes_over(broker: Broker) -> None:
    watcher, client_id = watch(broker, "will"), broker.client_id()
    will = will_of(broker, properties={PropertyId.WILL_DELAY_INTERVAL: 600})
    broker.connect(client_id, will=will, properties=LASTING)
    broker.connect(client_id, properties=LASTING)
    assert watcher.take().payload == b"will"


def test_mqtt_3_1_2_8_when_disconnect_ends_the_session(broker: Broker) -> None:
    watcher = watch(broker, "will")
    will = will_of(broker, properties={PropertyId.WILL_DELAY_INTERVAL: 600})
    client = broker.connect(will=will, properties=LASTING)
    client.send(Disconnect(ReasonCode.DISCONNECT_WITH_WILL, {PropertyId.SESSION_EXPIRY_INTERVAL: 0}))
    assert watcher.take().payload == b"will"


def test_mqtt_3_1_2_8_with_the_publishers_own_rights_and_subscriptions(broker: Broker) -> None:
    """A will is a message like any other: for clients that are away, in its QoS, and with No Local for its client."""
    client_id = broker.client_id()
    client = broker.connect(client_id, will=will_of(broker, qos=2), properties=LASTING)
    client.subscribe(Subscription(broker.topic("will"), 2, no_local=True))
    away_id = broker.client_id()
    away = broker.connect(away_id, properties=LASTING)
    away.subscribe(broker.topic("will"), qos=2)
    away.disconnect()
    watcher = watch(broker, "will")
    client.drop()
    assert watcher.take().qos == 2
    assert payloads(broker.resume(away_id).remaining()) == [b"will"]
    assert broker.resume(client_id).remaining() == []


def test_mqtt_3_1_2_8_of_one_connection_after_the_other(broker: Broker) -> None:
    watcher, client_id = watch(broker, "will"), broker.client_id()
    broker.connect(client_id, will=will_of(broker, b"first"), properties=LASTING)
    second = broker.resume(client_id, will=will_of(broker, b"second"), properties=LASTING)
    assert watcher.take().payload == b"first"
    second.ping()
    second.drop()
    assert watcher.take().payload == b"second"
    assert watcher.remaining() == []


@pytest.mark.parametrize(
    "payload",
    [(), (b"\0",), (b"\0", text("t")), (b"\0", text("t"), b"\0"), (b"\0", text(""), text("w")), (text("t"), text("w"))],
)
def test_mqtt_3_1_2_9(broker: Broker, payload: tuple[bytes, ...]) -> None:
    client = broker.open()
    client.send(raw_connect(text(broker.client_id()), *payload, flags=0x06))
    assert client.expect_closed() == []


def test_mqtt_3_1_2_10(broker: Broker) -> None:
    watcher, client_id = watch(broker, "will"), broker.client_id()
    broker.connect(client_id, will=will_of(broker), properties=LASTING).disconnect()
    broker.resume(client_id, properties=LASTING).drop()
    assert watcher.remaining() == []


def test_mqtt_3_1_2_10_after_it_was_published(broker: Broker) -> None:
    watcher, client_id = watch(broker, "will"), broker.client_id()
    broker.connect(client_id, will=will_of(broker), properties=LASTING).drop()
    assert watcher.take().payload == b"will"
    broker.resume(client_id, properties=LASTING).drop()
    broker.connect(client_id)
    assert watcher.remaining() == []


@pytest.mark.parametrize("flags", [0x0A, 0x12, 0x1A])
def test_mqtt_3_1_2_11(broker: Broker, flags: int) -> None:
    client = broker.open()
    client.send(raw_connect(text(broker.client_id()), flags=flags))
    assert client.expect_closed() == []


def test_mqtt_3_1_2_12(broker: Broker) -> None:
    client = broker.open()
    client.send(raw_connect(text(broker.client_id()), WILL_PROPERTIES, text("t"), text("w"), flags=0x1E))
    assert client.expect_closed() == []


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_3_1_2_12_is_used(broker: Broker, qos: int) -> None:
    watcher = watch(broker, "will")
    broker.connect(will=will_of(broker, qos=qos)).drop()
    assert watcher.take().qos == qos


def test_mqtt_3_1_2_13(broker: Broker) -> None:
    client = broker.open()
    client.send(raw_connect(text(broker.client_id()), flags=0x22))
    assert client.expect_closed() == []


def test_mqtt_3_1_2_14(broker: Broker) -> None:
    watcher = watch(broker, "will", retain_as_published=True)
    broker.connect(will=will_of(broker)).drop()
    assert not watcher.take().retain
    assert watch(broker, "will").remaining() == []


def test_mqtt_3_1_2_15(broker: Broker) -> None:
    watcher = watch(broker, "will", retain_as_published=True)
    broker.connect(will=will_of(broker, retain=True)).drop()
    assert watcher.take().retain
    [message] = watch(broker, "will").remaining()
    assert (message.payload, message.retain) == (b"will", True)


def test_mqtt_3_1_3_9(broker: Broker) -> None:
    watcher, client_id = watch(broker, "will"), broker.client_id()
    delayed = will_of(broker, properties={PropertyId.WILL_DELAY_INTERVAL: 1})
    broker.connect(client_id, will=delayed, properties=LASTING).drop()
    broker.resume(client_id, properties=LASTING)
    later = Will(broker.topic("will"), b"of another, later", 1, False, {PropertyId.WILL_DELAY_INTERVAL: 1})
    broker.connect(will=later, properties=LASTING).drop()
    assert watcher.take().payload == b"of another, later"


def test_mqtt_3_1_3_9_when_the_client_takes_over_from_itself(broker: Broker) -> None:
    watcher, client_id = watch(broker, "will"), broker.client_id()
    delayed = will_of(broker, properties={PropertyId.WILL_DELAY_INTERVAL: 1})
    older = broker.connect(client_id, will=delayed, properties=LASTING)
    newer = broker.resume(client_id, properties=LASTING)
    explain_end(older, ReasonCode.SESSION_TAKEN_OVER)
    let_time_pass(broker)
    newer.ping()
    assert watcher.remaining() == []


def test_mqtt_3_1_3_10(broker: Broker) -> None:
    watcher = watch(broker, "will")
    pairs = (("b", "2"), ("a", "1"), ("b", "2"), ("", ""), ("c", "3"))
    broker.connect(will=will_of(broker, properties={PropertyId.USER_PROPERTY: pairs})).drop()
    assert watcher.take().properties == {PropertyId.USER_PROPERTY: pairs}


@pytest.mark.parametrize("topic", [b"\xff", b"a\0b", b"a/+", b"a/#"])
def test_mqtt_3_1_3_11(broker: Broker, topic: bytes) -> None:
    client = broker.open()
    client.send(raw_connect(text(broker.client_id()), WILL_PROPERTIES, text(topic), text("w"), flags=0x06))
    assert client.expect_closed() == []
