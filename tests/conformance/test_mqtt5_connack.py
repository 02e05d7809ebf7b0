"""MQTT 5.0, section 3.2: CONNACK."""

from __future__ import annotations

import pytest

from headwater.mqtt.packets import Connack, PacketType, Pingreq, PropertyId, Publish
from headwater.mqtt.reason_codes import ReasonCode
from headwater.mqtt.reason_lists import REASON_CODES

from .client import Client
from .conftest import Broker
from .exchanges import explain_end, refuse, sign_in, watch, will_of
from .packets import LASTING, frame, raw_connect, text


def refused_clients(broker: Broker) -> list[Client]:
    """Clients whose CONNECT is well formed and cannot be accepted."""
    clients = [broker.open() for _ in range(4)]
    clients[0].send(broker.connect_packet(username="nobody", password=b"wrong", clean_session=False))
    clients[1].send(broker.connect_packet("x" * 200, clean_session=False))
    clients[2].send(broker.connect_packet(properties={PropertyId.AUTHENTICATION_METHOD: "X"}, clean_session=False))
    clients[3].send(raw_connect(text("x"), level=9))
    return clients


def test_mqtt_3_2_0_1(broker: Broker) -> None:
    """Also before what the session is owed."""
    client_id = broker.client_id()
    client = broker.connect(client_id, properties=LASTING)
    client.subscribe(broker.topic(), qos=1)
    client.disconnect()
    broker.connect().publish(broker.topic(), b"owed", 1)
    client = broker.open()
    client.send(broker.connect_packet(client_id, clean_session=False, properties=LASTING))
    assert isinstance(client.read(), Connack)
    assert client.take().payload == b"owed"


def test_mqtt_3_2_0_2(broker: Broker) -> None:
    client_id = broker.client_id()
    client = broker.connect(client_id)
    client.ping()
    client.send(broker.connect_packet(client_id))
    assert not any(isinstance(packet, Connack) for packet in client.expect_closed())


def test_mqtt_3_2_2_1(broker: Broker) -> None:
    client_id = broker.client_id()
    for expected in (0, 1):
        client = broker.open()
        client.send(broker.connect_packet(client_id, clean_session=False, properties=LASTING))
        assert client.read_frame()[2] == expected
        client.drop()


def test_mqtt_3_2_2_2(broker: Broker) -> None:
    client_id = broker.client_id()
    broker.connect(client_id, properties=LASTING).disconnect()
    connack = sign_in(broker, client_id)[1]
    assert (connack.session_present, connack.reason_code) == (False, ReasonCode.SUCCESS)


def test_mqtt_3_2_2_3(broker: Broker) -> None:
    client_id = broker.client_id()
    client, connack = sign_in(broker, client_id, clean_session=False, properties=LASTING)
    assert (connack.session_present, connack.reason_code) == (False, ReasonCode.SUCCESS)
    client.disconnect()
    connack = sign_in(broker, client_id, clean_session=False, properties=LASTING)[1]
    assert (connack.session_present, connack.reason_code) == (True, ReasonCode.SUCCESS)


def test_mqtt_3_2_2_6(broker: Broker) -> None:
    for client in refused_clients(broker):
        connack = client.read()
        assert isinstance(connack, Connack)
        assert connack.reason_code >= 0x80
        assert not connack.session_present


def test_mqtt_3_2_2_7(broker: Broker) -> None:
    for client in refused_clients(broker):
        [connack] = client.expect_closed()
        assert isinstance(connack, Connack)
        assert connack.reason_code >= 0x80


def test_mqtt_3_2_2_8(broker: Broker) -> None:
    codes = [client.read_frame()[3] for client in refused_clients(broker)]
    assert codes == [
        ReasonCode.NOT_AUTHORIZED,
        ReasonCode.CLIENT_IDENTIFIER_NOT_VALID,
        ReasonCode.BAD_AUTHENTICATION_METHOD,
        ReasonCode.UNSUPPORTED_PROTOCOL_VERSION,
    ]
    assert REASON_CODES[PacketType.CONNACK].issuperset(codes)


def test_mqtt_3_2_2_9(broker: Broker) -> None:
    client, connack = sign_in(broker)
    assert PropertyId.MAXIMUM_QOS not in connack.properties
    for qos in (0, 1, 2):
        client.publish(broker.topic(), b"m", qos)


def test_mqtt_3_2_2_10(broker: Broker) -> None:
    client = broker.connect()
    for qos in (0, 1, 2):
        assert client.subscribe(broker.topic(), qos=qos) == (qos,)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_3_2_2_12(broker: Broker, qos: int) -> None:
    assert sign_in(broker, will=will_of(broker, qos=qos))[1].reason_code == ReasonCode.SUCCESS


def test_mqtt_3_2_2_13(broker: Broker) -> None:
    client, connack = sign_in(broker, will=will_of(broker, retain=True))
    assert PropertyId.RETAIN_AVAILABLE not in connack.properties
    client.drop()


def test_mqtt_3_2_2_15(broker: Broker) -> None:
    """A packet that is one byte too large is refused by its header; one that is just not too large is served."""
    client, connack = sign_in(broker)
    most = connack.properties[PropertyId.MAXIMUM_PACKET_SIZE]
    client.subscribe(broker.topic())
    head = len(text(broker.topic())) + 1
    client.publish(broker.topic(), b"x" * (most - head - 4))
    assert len(client.message().payload) == most - head - 4
    large = frame(0x30, text(broker.topic()), b"\0", b"x" * (most - head + 1))
    client.send(large[:5])
    explain_end(client, ReasonCode.PACKET_TOO_LARGE)


def test_mqtt_3_2_2_16(broker: Broker) -> None:
    ids = [sign_in(broker, "")[1].properties[PropertyId.ASSIGNED_CLIENT_IDENTIFIER] for _ in range(10)]
    assert len(set(ids)) == 10
    assert min(map(len, ids)) >= 16


def test_mqtt_3_2_2_17(broker: Broker) -> None:
    client, connack = sign_in(broker)
    above = connack.properties[PropertyId.TOPIC_ALIAS_MAXIMUM] + 1
    client.send(Publish(broker.topic(), b"m", properties={PropertyId.TOPIC_ALIAS: above}))
    explain_end(client, ReasonCode.TOPIC_ALIAS_INVALID)


def test_mqtt_3_2_2_19(broker: Broker) -> None:
    """The answer to an authentication method has a Reason String, unless it has no room."""
    properties = {PropertyId.AUTHENTICATION_METHOD: "X"}
    client = broker.open()
    client.send(broker.connect_packet(properties=properties))
    assert PropertyId.REASON_STRING in refuse(client, ReasonCode.BAD_AUTHENTICATION_METHOD).properties
    client = broker.open()
    client.send(broker.connect_packet(properties=properties | {PropertyId.MAXIMUM_PACKET_SIZE: 20}))
    assert refuse(client, ReasonCode.BAD_AUTHENTICATION_METHOD).properties == {}


def test_mqtt_3_2_2_20(broker: Broker) -> None:
    for most in (30, 1000):
        connack = sign_in(broker, properties={PropertyId.MAXIMUM_PACKET_SIZE: most})[1]
        assert PropertyId.USER_PROPERTY not in connack.properties


def test_mqtt_3_2_2_22(broker: Broker) -> None:
    client, connack = sign_in(broker, keep_alive_s=1)
    assert PropertyId.SERVER_KEEP_ALIVE not in connack.properties
    explain_end(client, ReasonCode.KEEP_ALIVE_TIMEOUT)


@pytest.mark.parametrize("asked_s", [0, 3601, 65_535])
def test_mqtt_3_2_2_22_above_the_cap(broker: Broker, asked_s: int) -> None:
    assert sign_in(broker, keep_alive_s=asked_s)[1].properties[PropertyId.SERVER_KEEP_ALIVE] == 3600


def test_mqtt_3_2_2_22_up_to_the_cap(broker: Broker) -> None:
    client, connack = sign_in(broker, keep_alive_s=3600)
    assert PropertyId.SERVER_KEEP_ALIVE not in connack.properties
    watch(broker).send(Pingreq())
    client.ping()
