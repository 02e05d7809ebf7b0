"""MQTT 5.0, section 3.1: CONNECT, but for wills, keep alive and properties."""

from __future__ import annotations

import pytest

from headwater.mqtt.encode import render_packet
from headwater.mqtt.packets import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Pingreq,
    Pingresp,
    PropertyId,
    ProtocolLevel,
    Publish,
    Subscribe,
    Subscription,
    Will,
)
from headwater.mqtt.reason_codes import ReasonCode
from server import ADMIN_TOKEN

from .conftest import Broker
from .exchanges import explain_end, refuse, sign_in, watch
from .packets import LASTING, frame, raw_connect, section, text


def test_mqtt_3_1_0_1(broker: Broker) -> None:
    for packet in (Publish(broker.topic(), b"m"), Pingreq(), Subscribe(1, (Subscription("t", 0),)), Disconnect()):
        client = broker.open()
        client.send(packet)
        assert client.expect_closed() == []


def test_mqtt_3_1_0_1_with_auth_first(broker: Broker) -> None:
    client = broker.open()
    client.send(Auth(ReasonCode.CONTINUE_AUTHENTICATION, {PropertyId.AUTHENTICATION_METHOD: "X"}))
    assert client.expect_closed() == []


def test_mqtt_3_1_0_2(broker: Broker) -> None:
    client_id = broker.client_id()
    client = broker.connect(client_id)
    client.send(broker.connect_packet(client_id))
    explain_end(client, ReasonCode.PROTOCOL_ERROR)


@pytest.mark.parametrize("name", ["", "mqtt", "MQT", "MQTTX", "HTTP"])
def test_mqtt_3_1_2_1(broker: Broker, name: str) -> None:
    client = broker.open()
    client.send(raw_connect(text(broker.client_id()), name=name))
    assert client.expect_closed() == []


@pytest.mark.parametrize("level", [6, 7, 127, 255])
def test_mqtt_3_1_2_2(broker: Broker, level: int) -> None:
    client = broker.open()
    client.send(raw_connect(text(broker.client_id()), level=level))
    refuse(client, ReasonCode.UNSUPPORTED_PROTOCOL_VERSION)


def test_mqtt_3_1_2_3(broker: Broker) -> None:
    client = broker.open()
    client.send(raw_connect(text(broker.client_id()), flags=0x03))
    assert client.expect_closed() == []


def test_mqtt_3_1_2_4(broker: Broker) -> None:
    client_id = broker.client_id()
    old = broker.connect(client_id, properties=LASTING)
    old.subscribe(broker.topic(), qos=1)
    old.disconnect()
    publisher = broker.connect()
    publisher.publish(broker.topic(), b"for the old session", 1)
    new, connack = sign_in(broker, client_id, properties=LASTING)
    assert not connack.session_present
    publisher.publish(broker.topic(), b"nobody subscribes", 1)
    assert new.remaining() == []
    new.disconnect()
    assert broker.resume(client_id, properties=LASTING).remaining() == []


def test_mqtt_3_1_2_5(broker: Broker) -> None:
    client_id = broker.client_id()
    old = broker.connect(client_id, properties=LASTING)
    old.subscribe(broker.topic(), qos=1)
    old.disconnect()
    publisher = broker.connect()
    publisher.publish(broker.topic(), b"meanwhile", 1)
    new = broker.resume(client_id, properties=LASTING)
    assert new.take().payload == b"meanwhile"
    publisher.publish(broker.topic(), b"now", 1)
    assert new.take().payload == b"now"


def test_mqtt_3_1_2_6(broker: Broker) -> None:
    client, connack = sign_in(broker, clean_session=False)
    assert not connack.session_present
    assert client.remaining() == []


def test_mqtt_3_1_2_16(broker: Broker) -> None:
    client = broker.open()
    client.send(raw_connect(text(broker.client_id()), text("a user name"), flags=0x02))
    assert client.expect_closed() == []


def test_mqtt_3_1_2_17(broker: Broker) -> None:
    client = broker.open()
    client.send(raw_connect(text(broker.client_id()), flags=0x82))
    assert client.expect_closed() == []


def test_mqtt_3_1_2_18(broker: Broker) -> None:
    client = broker.open()
    client.send(raw_connect(text(broker.client_id()), text("user"), text("a password"), flags=0x82))
    assert client.expect_closed() == []


def test_mqtt_3_1_2_19(broker: Broker) -> None:
    client = broker.open()
    client.send(raw_connect(text(broker.client_id()), text("user"), flags=0xC2))
    assert client.expect_closed() == []


def test_mqtt_3_1_2_19_alone(broker: Broker) -> None:
    """A password without a user name is well formed in MQTT 5; this one is only wrong."""
    client = broker.open()
    client.send(raw_connect(text(broker.client_id()), text("wrong"), flags=0x42))
    refuse(client, ReasonCode.NOT_AUTHORIZED)


def test_mqtt_3_1_3_1(broker: Broker) -> None:
    """Each field has the meaning of its place: client id, will properties, topic and payload, user name, password."""
    watcher, topic, client_id = watch(broker, "will"), broker.topic("will"), broker.client_id()
    client = broker.open()
    will = (section(b"\x03" + text("kind")), text(topic), text("words"))
    client.send(raw_connect(text(client_id), *will, text("user"), text("password"), flags=0xC6))
    refuse(client, ReasonCode.NOT_AUTHORIZED)  # nobody has these credentials
    client = broker.open()
    client.send(raw_connect(text(client_id), *will, flags=0x06))
    assert isinstance(client.read(), Connack)
    client.drop()
    message = watcher.message()
    assert (message.payload, message.properties) == (b"words", {PropertyId.CONTENT_TYPE: "kind"})


def test_mqtt_3_1_3_2(broker: Broker) -> None:
    one, other = broker.client_id(), broker.client_id()
    broker.connect(one, properties=LASTING).disconnect()
    assert not sign_in(broker, other, clean_session=False)[1].session_present
    assert not sign_in(broker, one.upper(), clean_session=False)[1].session_present
    assert sign_in(broker, one, clean_session=False)[1].session_present


def test_mqtt_3_1_3_2_of_another_principal(broker: Broker) -> None:
    client_id = broker.client_id()
    mine = broker.connect(client_id, properties=LASTING)
    administrator = {"username": "any", "password": ADMIN_TOKEN.encode(), "clean_session": False}
    other, connack = sign_in(broker, client_id, **administrator)
    assert not connack.session_present
    mine.ping()
    other.disconnect()
    mine.drop()
    assert not sign_in(broker, client_id, **administrator)[1].session_present
    broker.resume(client_id)


def test_mqtt_3_1_3_3(broker: Broker) -> None:
    client = broker.open()
    client.send(raw_connect())
    assert client.expect_closed() == []


def test_mqtt_3_1_3_4(broker: Broker) -> None:
    client = broker.open()
    client.send(raw_connect(text(b"\xff\xfe")))
    assert client.expect_closed() == []


@pytest.mark.parametrize(
    "client_id", ["a", "Z", "0", "0123456789abcdefghijklm", "ABCDEFGHIJKLMNOPQRSTUVW", "nopqrstuvwxyz"]
)
def test_mqtt_3_1_3_5(broker: Broker, client_id: str) -> None:
    assert sign_in(broker, client_id)[1].reason_code == ReasonCode.SUCCESS


@pytest.mark.parametrize("clean_start", [True, False])
def test_mqtt_3_1_3_6(broker: Broker, clean_start: bool) -> None:
    assigned = set()
    for _ in range(5):
        _, connack = sign_in(broker, "", clean_session=clean_start)
        assert not connack.session_present
        assigned.add(connack.properties[PropertyId.ASSIGNED_CLIENT_IDENTIFIER])
    assert len(assigned) == 5


def test_mqtt_3_1_3_7(broker: Broker) -> None:
    client, connack = sign_in(broker, "", properties=LASTING)
    client.subscribe(broker.topic(), qos=1)
    client.disconnect()
    broker.connect().publish(broker.topic(), b"m", 1)
    assert broker.resume(connack.properties[PropertyId.ASSIGNED_CLIENT_IDENTIFIER]).take().payload == b"m"


def test_mqtt_3_1_3_7_only_for_an_empty_one(broker: Broker) -> None:
    assert PropertyId.ASSIGNED_CLIENT_IDENTIFIER not in sign_in(broker)[1].properties


def test_mqtt_3_1_3_8(broker: Broker) -> None:
    client = broker.open()
    client.send(broker.connect_packet("x" * 129))
    refuse(client, ReasonCode.CLIENT_IDENTIFIER_NOT_VALID)


def test_mqtt_3_1_3_12(broker: Broker) -> None:
    client = broker.open()
    client.send(raw_connect(text(broker.client_id()), text(b"\xc3\x28"), flags=0x82))
    assert client.expect_closed() == []


@pytest.mark.parametrize(
    "properties",
    [
        section(b"\x21\0\0"),
        section(b"\x27\0\0\0\0"),
        section(b"\x17\2"),
        section(b"\x19\2"),
        section(b"\x16" + text("data without a method")),
        section(b"\x11\0\0\0\1" * 2),
        section(b"\x22\0\1" * 2),
        section(b"\x01\0"),
        section(b"\x7f\0"),
        section(b"\x11\0\0"),
        b"\x7f",
    ],
)
def test_mqtt_3_1_4_1(broker: Broker, properties: bytes) -> None:
    client = broker.open()
    client.send(raw_connect(text(broker.client_id()), properties=properties))
    assert client.expect_closed() == []


def test_mqtt_3_1_4_1_with_bytes_left_over(broker: Broker) -> None:
    client = broker.open()
    client.send(raw_connect(text(broker.client_id()), b"\0"))
    assert client.expect_closed() == []


def test_mqtt_3_1_4_1_with_single_properties_of_a_will_twice(broker: Broker) -> None:
    for properties in (section(b"\x18\0\0\0\1" * 2), section(b"\x01\2"), section(b"\x08" + text("a/+"))):
        client = broker.open()
        client.send(raw_connect(text(broker.client_id()), properties, text("t"), text("w"), flags=0x06))
        assert client.expect_closed() == []


def test_mqtt_3_1_4_2(broker: Broker) -> None:
    client = broker.open()
    client.send(broker.connect_packet(username="nobody", password=b"wrong"))
    refuse(client, ReasonCode.NOT_AUTHORIZED)
    client = broker.open()
    client.send(broker.connect_packet(will=Will("$SYS/will", b"", 0, False)))
    refuse(client, ReasonCode.TOPIC_NAME_INVALID)


def test_mqtt_3_1_4_3(broker: Broker) -> None:
    client_id = broker.client_id()
    older = broker.connect(client_id)
    newer = broker.connect(client_id)
    explain_end(older, ReasonCode.SESSION_TAKEN_OVER)
    newer.ping()


def test_mqtt_3_1_4_3_by_an_older_version(broker: Broker) -> None:
    client_id = broker.client_id()
    older = broker.connect(client_id)
    newer = broker.connect(client_id, level=ProtocolLevel.V311)
    explain_end(older, ReasonCode.SESSION_TAKEN_OVER)
    newer.ping()


def test_mqtt_3_1_4_3_goes_on_with_the_session(broker: Broker) -> None:
    client_id = broker.client_id()
    older = broker.connect(client_id, properties=LASTING)
    older.subscribe(broker.topic(), qos=1)
    broker.connect().publish(broker.topic(), b"m", 1)
    assert not older.message().dup
    newer = broker.resume(client_id, properties=LASTING)
    message = newer.take()
    assert (message.payload, message.dup) == (b"m", True)


def test_mqtt_3_1_4_4(broker: Broker) -> None:
    client_id = broker.client_id()
    for clean_start, expected in ((True, False), (False, True), (True, False), (False, True)):
        client, connack = sign_in(broker, client_id, clean_session=clean_start, properties=LASTING)
        assert connack.session_present is expected
        client.disconnect()


def test_mqtt_3_1_4_5(broker: Broker) -> None:
    client = broker.open()
    client.send(broker.connect_packet())
    connack = client.read()
    assert isinstance(connack, Connack)
    assert connack.reason_code == ReasonCode.SUCCESS


def test_mqtt_3_1_4_5_before_packets_that_did_not_wait(broker: Broker) -> None:
    client = broker.open()
    client.send(broker.connect_packet(), Pingreq())
    assert isinstance(client.read(), Connack)
    assert client.read() == Pingresp()


def test_mqtt_3_1_4_6(broker: Broker) -> None:
    watcher, client = watch(broker), broker.open()
    connect = Connect(broker.client_id(), username="nobody", password=b"wrong", level=ProtocolLevel.V5)
    client.send(render_packet(connect) + render_packet(Publish(broker.topic(), b"no", retain=True), 5) + frame(0xC0))
    refuse(client, ReasonCode.NOT_AUTHORIZED)
    assert watcher.remaining() == []
