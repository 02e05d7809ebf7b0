"""MQTT 5.0, sections 3.15 and 4.12: AUTH and enhanced authentication, which is refused."""

from __future__ import annotations

import pytest

from headwater.mqtt.packets import Auth, Connack, PropertyId
from headwater.mqtt.reason_codes import ReasonCode

from .client import Client
from .conftest import Broker
from .exchanges import explain_end, refuse, sign_in
from .packets import frame, section, text

METHOD = PropertyId.AUTHENTICATION_METHOD
CONTINUE, AGAIN = ReasonCode.CONTINUE_AUTHENTICATION, ReasonCode.REAUTHENTICATE


def _with_method(broker: Broker, method: str = "SCRAM-SHA-256", data: bytes | None = b"n,,n=user") -> Client:
    properties: dict[PropertyId, str | bytes] = {METHOD: method}
    if data is not None:
        properties[PropertyId.AUTHENTICATION_DATA] = data
    client = broker.open()
    client.send(broker.connect_packet(properties=properties))
    return client


@pytest.mark.parametrize("flags", range(1, 16))
def test_mqtt_3_15_1_1(broker: Broker, flags: int) -> None:
    client = broker.connect()
    client.send(bytes((0xF0 | flags, 0)))
    explain_end(client, ReasonCode.MALFORMED_PACKET)


@pytest.mark.parametrize("code", [0x01, 0x17, 0x80, 0x8C, 0xFF])
def test_mqtt_3_15_2_1(broker: Broker, code: int) -> None:
    client = broker.connect()
    client.send(frame(0xF0, bytes((code,)), section(b"\x15" + text("X"))))
    explain_end(client, ReasonCode.PROTOCOL_ERROR)


def test_mqtt_3_15_2_2(broker: Broker) -> None:
    assert not any(isinstance(packet, Auth) for packet in _with_method(broker).expect_closed())


def test_mqtt_3_15_2_3(broker: Broker) -> None:
    client = _with_method(broker)
    client.send(Auth(CONTINUE, {METHOD: "SCRAM-SHA-256"}))
    assert not any(isinstance(packet, Auth) for packet in client.expect_closed())


@pytest.mark.parametrize("method", ["SCRAM-SHA-1", "GS2-KRB5", "PLAIN", "", "x" * 1000])
@pytest.mark.parametrize("data", [None, b"", b"data"])
def test_mqtt_4_12_0_1(broker: Broker, method: str, data: bytes | None) -> None:
    refuse(_with_method(broker, method, data), ReasonCode.BAD_AUTHENTICATION_METHOD)


def test_mqtt_4_12_0_2(broker: Broker) -> None:
    assert not any(isinstance(packet, Auth) for packet in _with_method(broker).expect_closed())


def test_mqtt_4_12_0_4(broker: Broker) -> None:
    [connack] = _with_method(broker).expect_closed()
    assert isinstance(connack, Connack)
    assert connack.reason_code >= 0x80


def test_mqtt_4_12_0_5(broker: Broker) -> None:
    for packet in _with_method(broker).expect_closed():
        assert not (isinstance(packet, Connack) and packet.reason_code == ReasonCode.SUCCESS)
        assert not isinstance(packet, Auth)


def test_mqtt_4_12_0_6(broker: Broker) -> None:
    client, connack = sign_in(broker)
    assert METHOD not in connack.properties
    assert PropertyId.AUTHENTICATION_DATA not in connack.properties
    client.ping()  # nothing came in between


@pytest.mark.parametrize("code", [CONTINUE, AGAIN])
def test_mqtt_4_12_0_7(broker: Broker, code: ReasonCode) -> None:
    client = broker.connect()
    client.send(Auth(code, {METHOD: "X"}))
    explain_end(client, ReasonCode.PROTOCOL_ERROR)


def test_mqtt_4_12_0_7_in_its_shortest_form(broker: Broker) -> None:
    client = broker.connect()
    client.send(b"\xf0\x00")
    explain_end(client, ReasonCode.PROTOCOL_ERROR)


def test_mqtt_4_12_1_2(broker: Broker) -> None:
    client = broker.connect()
    client.send(Auth(AGAIN, {METHOD: "X", PropertyId.AUTHENTICATION_DATA: b"again"}))
    explain_end(client, ReasonCode.PROTOCOL_ERROR)
