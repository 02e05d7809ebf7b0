"""MQTT 5.0, sections 3.8 and 3.9: SUBSCRIBE and SUBACK."""

from __future__ import annotations

import pytest

from headwater.mqtt.packets import PacketType, PropertyId, Publish, Suback, Subscribe, Subscription
from headwater.mqtt.reason_codes import ReasonCode
from headwater.mqtt.reason_lists import REASON_CODES

from .client import payloads
from .conftest import Broker
from .exchanges import explain_end, watch
from .packets import LASTING, frame, raw_subscribe, section, text


@pytest.mark.parametrize("flags", [flags for flags in range(16) if flags != 2])
def test_mqtt_3_8_1_1(broker: Broker, flags: int) -> None:
    client = broker.connect()
    client.send(raw_subscribe(text(broker.topic()), b"\0", first_byte=0x80 | flags))
    explain_end(client, ReasonCode.MALFORMED_PACKET)


@pytest.mark.parametrize("topic_filter", [b"\xff", b"a\0", b"\xed\xa0\x80"])
def test_mqtt_3_8_3_1(broker: Broker, topic_filter: bytes) -> None:
    client = broker.connect()
    client.send(raw_subscribe(text(topic_filter), b"\0"))
    explain_end(client, ReasonCode.MALFORMED_PACKET)


def test_mqtt_3_8_3_2(broker: Broker) -> None:
    client = broker.connect()
    client.send(raw_subscribe())
    explain_end(client, ReasonCode.PROTOCOL_ERROR)


@pytest.mark.parametrize("body", [(text("a"),), (b"\0",), (b"\0\5a", b"\0")])
def test_mqtt_3_8_3_2_cut_short(broker: Broker, body: tuple[bytes, ...]) -> None:
    client = broker.connect()
    client.send(raw_subscribe(*body))
    explain_end(client, ReasonCode.MALFORMED_PACKET)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_3_8_3_3(broker: Broker, qos: int) -> None:
    client, other = broker.connect(), broker.connect()
    client.subscribe(Subscription(broker.topic(), 2, no_local=True))
    client.publish(broker.topic(), b"own", qos)
    other.publish(broker.topic(), b"of another", qos)
    assert payloads(client.remaining()) == [b"of another"]


def test_mqtt_3_8_3_3_of_another_connection_of_the_client(broker: Broker) -> None:
    client_id = broker.client_id()
    client = broker.connect(client_id, properties=LASTING)
    client.subscribe(Subscription(broker.topic(), 1, no_local=True))
    client.drop()
    client = broker.resume(client_id, properties=LASTING)
    client.publish(broker.topic(), b"own", 1)
    assert client.remaining() == []


def test_mqtt_3_8_3_3_with_one_of_two_subscriptions(broker: Broker) -> None:
    client = broker.connect()
    client.subscribe(Subscription(broker.topic("#"), 1, no_local=True))
    client.subscribe(broker.topic(), qos=0)
    client.publish(broker.topic(), b"own", 1)
    assert payloads(client.remaining()) == [b"own"]


def test_mqtt_3_8_3_4(broker: Broker) -> None:
    client = broker.connect()
    client.send(Subscribe(1, (Subscription(f"$share/g/{broker.topic()}", 0, no_local=True),)))
    explain_end(client, ReasonCode.PROTOCOL_ERROR)


@pytest.mark.parametrize("options", [0x40, 0x80, 0xC0])
def test_mqtt_3_8_3_5(broker: Broker, options: int) -> None:
    client = broker.connect()
    client.send(raw_subscribe(text(broker.topic()), bytes((options,))))
    explain_end(client, ReasonCode.MALFORMED_PACKET)


@pytest.mark.parametrize("options", [0x03, 0x30, 0x33])
def test_mqtt_3_8_3_5_and_of_values_that_do_not_exist(broker: Broker, options: int) -> None:
    client = broker.connect()
    client.send(raw_subscribe(text(broker.topic()), bytes((options,))))
    explain_end(client, ReasonCode.PROTOCOL_ERROR)


@pytest.mark.parametrize("properties", [section(b"\x0b\0"), section(b"\x0b\1\x0b\2"), section(b"\x11\0\0\0\1")])
def test_mqtt_3_8_3_5_and_of_properties(broker: Broker, properties: bytes) -> None:
    client = broker.connect()
    client.send(raw_subscribe(text(broker.topic()), b"\0", properties=properties))
    explain_end(client, ReasonCode.PROTOCOL_ERROR)


def test_mqtt_3_8_4_1(broker: Broker) -> None:
    client = broker.connect()
    client.send(Subscribe(1, (Subscription(broker.topic(), 1),)))
    assert client.read() == Suback(1, (1,))


def test_mqtt_3_8_4_2(broker: Broker) -> None:
    client = broker.connect()
    ids = [65_535, 1, 258]
    client.send(*(Subscribe(packet_id, (Subscription(broker.topic(), 0),)) for packet_id in ids))
    assert [client.read() for _ in ids] == [Suback(packet_id, (0,)) for packet_id in ids]


def test_mqtt_3_8_4_3(broker: Broker) -> None:
    client, publisher = broker.connect(), broker.connect()
    for qos in (2, 0, 1):
        assert client.subscribe(broker.topic(), qos=qos) == (qos,)
        publisher.publish(broker.topic(), b"m", 2)
        assert [message.qos for message in client.remaining()] == [qos]


def test_mqtt_3_8_4_3_with_other_options(broker: Broker) -> None:
    client = broker.connect()
    client.subscribe(Subscription(broker.topic(), 0, no_local=True))
    client.subscribe(Subscription(broker.topic(), 0, retain_as_published=True, retain_handling=2))
    client.publish(broker.topic(), b"m", retain=True)
    assert [message.retain for message in client.remaining()] == [True]


def test_mqtt_3_8_4_4(broker: Broker) -> None:
    publisher, client = broker.connect(), broker.connect()
    publisher.publish(broker.topic("kept"), b"kept", 1, retain=True)
    client.subscribe(broker.topic("#"), qos=1)
    client.subscribe(broker.topic("#"), qos=1)
    assert payloads(client.remaining()) == [b"kept", b"kept"]


def test_mqtt_3_8_4_4_loses_nothing(broker: Broker) -> None:
    client, publisher = broker.connect(), broker.connect()
    client.subscribe(broker.topic())
    count = 30
    for number in range(count):
        publisher.send(Publish(broker.topic(), b"%d" % number))
        client.send(Subscribe(number + 100, (Subscription(broker.topic(), 0, retain_handling=2),)))
    for number in range(count):
        client.expect(Suback(number + 100, (0,)))
    publisher.ping()
    assert payloads(client.remaining()) == [b"%d" % number for number in range(count)]


def test_mqtt_3_8_4_5(broker: Broker) -> None:
    client = broker.connect()
    filters = ("a", "b/+", "c/#", "a")
    codes = client.subscribe(
        *(Subscription(broker.topic(rest), qos) for rest, qos in zip(filters, (0, 1, 2, 1), strict=True))
    )
    assert codes == (0, 1, 2, 1)
    for rest in ("a", "b/x", "c"):
        client.publish(broker.topic(rest), b"m", 2)
    assert [message.qos for message in client.remaining()] == [1, 1, 2]


def test_mqtt_3_8_4_5_beyond_the_limit(broker: Broker) -> None:
    client = broker.connect()
    codes = client.subscribe(*(broker.topic(str(number)) for number in range(60)))
    assert codes == (0,) * 50 + (ReasonCode.QUOTA_EXCEEDED,) * 10


@pytest.mark.parametrize("count", [1, 2, 20])
def test_mqtt_3_8_4_6(broker: Broker, count: int) -> None:
    client = broker.connect()
    assert len(client.subscribe(*(broker.topic(str(number)) for number in range(count)))) == count


def test_mqtt_3_8_4_7(broker: Broker) -> None:
    client = broker.connect()
    for qos in (0, 1, 2):
        assert client.subscribe(broker.topic(), qos=qos) == (qos,)
    assert client.subscribe("a/#/b", qos=2) == (ReasonCode.TOPIC_FILTER_INVALID,)
    assert client.subscribe("$forbidden/#", qos=2) == (ReasonCode.UNSPECIFIED_ERROR,)
    client.ping()


@pytest.mark.parametrize("granted", [0, 1, 2])
def test_mqtt_3_8_4_8(broker: Broker, granted: int) -> None:
    client, publisher = watch(broker, qos=granted), broker.connect()
    for published in (0, 1, 2):
        publisher.publish(broker.topic(), b"m", published)
        assert client.take().qos == min(published, granted)


@pytest.mark.parametrize("granted", [0, 1, 2])
def test_mqtt_3_8_4_8_of_retained_messages(broker: Broker, granted: int) -> None:
    broker.connect().publish(broker.topic(), b"m", 1, retain=True)
    assert [message.qos for message in watch(broker, qos=granted).remaining()] == [min(1, granted)]


def _refused_suback(broker: Broker, *properties: tuple[PropertyId, int]) -> Suback:
    client = broker.connect(properties=dict(properties))
    client.send(Subscribe(1, (Subscription("a/#/b", 0), Subscription("$x", 0))))
    suback = client.read()
    assert isinstance(suback, Suback)
    assert min(suback.reason_codes) >= 0x80
    return suback


def test_mqtt_3_9_2_1(broker: Broker) -> None:
    for most, expected in (
        (40, {}),
        (1000, {PropertyId.REASON_STRING: "'#' must be the whole last level of a topic filter"}),
    ):
        suback = _refused_suback(broker, (PropertyId.MAXIMUM_PACKET_SIZE, most))
        assert suback.properties == expected


def test_mqtt_3_9_2_2(broker: Broker) -> None:
    for most in (40, 1000):
        suback = _refused_suback(broker, (PropertyId.MAXIMUM_PACKET_SIZE, most))
        assert PropertyId.USER_PROPERTY not in suback.properties


def test_mqtt_3_9_3_1(broker: Broker) -> None:
    client = broker.connect()
    codes = client.subscribe(
        Subscription(broker.topic("a"), 2),
        Subscription("a/#/b", 1),
        Subscription(broker.topic("b"), 0),
        Subscription("$x", 1),
        Subscription(broker.topic("c"), 1),
    )
    assert codes == (2, ReasonCode.TOPIC_FILTER_INVALID, 0, ReasonCode.UNSPECIFIED_ERROR, 1)


def test_mqtt_3_9_3_2(broker: Broker) -> None:
    client = broker.connect()
    wanted = ["a/#/b", "$x", "$share/g/a+", "a+", "+/" * 10, "/" * 40, "x" * 2000, broker.topic()]
    codes = client.subscribe(*wanted)
    assert REASON_CODES[PacketType.SUBACK].issuperset(codes)
    assert min(codes[:-1]) >= 0x80
    assert codes[-1] == ReasonCode.GRANTED_QOS_0


def test_mqtt_3_9_3_2_beyond_the_number_of_subscriptions(broker: Broker) -> None:
    client = broker.connect()
    for start in (0, 50):
        assert set(client.subscribe(*(broker.topic(str(start + number)) for number in range(50)))) == {0}
    assert client.subscribe(broker.topic("one more")) == (ReasonCode.QUOTA_EXCEEDED,)
    assert client.subscribe(broker.topic("0"), qos=1) == (1,), "one that is there may be replaced"


def test_a_client_that_sends_suback_is_closed(broker: Broker) -> None:
    client = broker.connect()
    client.send(frame(0x90, b"\0\1\0\0"))
    explain_end(client, ReasonCode.PROTOCOL_ERROR)
