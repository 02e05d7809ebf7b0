"""MQTT 5.0, sections 3.4 to 3.7: PUBACK, PUBREC, PUBREL and PUBCOMP."""

from __future__ import annotations

import pytest

from headwater.mqtt.packets import Acknowledgement, PacketType, PropertyId, Publish
from headwater.mqtt.reason_codes import ReasonCode
from headwater.mqtt.reason_lists import REASON_CODES

from .client import Client
from .conftest import Broker
from .exchanges import answer_to, explain_end, watch
from .packets import LASTING, frame, puback, pubcomp, pubrec, pubrel, section, text

FORBIDDEN = "$SYS/forbidden"
"""A topic to which no client may publish."""


def _owed(broker: Broker, qos: int) -> tuple[Client, Publish]:
    """A client with a message that it has not acknowledged."""
    client = watch(broker)
    broker.connect().publish(broker.topic(), b"m", qos)
    return client, client.message()


def _codes_not_of(kind: PacketType) -> list[int]:
    return [code for code in ReasonCode if code not in REASON_CODES[kind]]


@pytest.mark.parametrize("code", _codes_not_of(PacketType.PUBACK))
def test_mqtt_3_4_2_1(broker: Broker, code: int) -> None:
    client, message = _owed(broker, 1)
    client.send(puback(message.packet_id, code))
    explain_end(client, ReasonCode.PROTOCOL_ERROR)


def test_mqtt_3_4_2_1_from_the_server(broker: Broker) -> None:
    client = broker.connect()
    assert answer_to(client, broker.topic(), 1).reason_code in (
        ReasonCode.SUCCESS,
        ReasonCode.NO_MATCHING_SUBSCRIBERS,
    )
    assert answer_to(client, FORBIDDEN, 1).reason_code == ReasonCode.NOT_AUTHORIZED


@pytest.mark.parametrize("code", sorted(REASON_CODES[PacketType.PUBACK]))
def test_mqtt_3_4_2_1_of_every_code(broker: Broker, code: int) -> None:
    client, message = _owed(broker, 1)
    client.send(puback(message.packet_id, code))
    client.ping()


def _limited(broker: Broker) -> Client:
    return broker.connect(properties={PropertyId.MAXIMUM_PACKET_SIZE: 40})


def test_mqtt_3_4_2_2(broker: Broker) -> None:
    assert answer_to(_limited(broker), FORBIDDEN, 1, packet_id=5) == puback(5, ReasonCode.NOT_AUTHORIZED)
    assert PropertyId.REASON_STRING in answer_to(broker.connect(), FORBIDDEN, 1).properties


def test_mqtt_3_4_2_3(broker: Broker) -> None:
    for client in (_limited(broker), broker.connect()):
        assert PropertyId.USER_PROPERTY not in answer_to(client, FORBIDDEN, 1).properties


@pytest.mark.parametrize("code", _codes_not_of(PacketType.PUBREC))
def test_mqtt_3_5_2_1(broker: Broker, code: int) -> None:
    client, message = _owed(broker, 2)
    client.send(pubrec(message.packet_id, code))
    explain_end(client, ReasonCode.PROTOCOL_ERROR)


def test_mqtt_3_5_2_1_from_the_server(broker: Broker) -> None:
    client = broker.connect()
    assert answer_to(client, broker.topic(), 2).reason_code in (
        ReasonCode.SUCCESS,
        ReasonCode.NO_MATCHING_SUBSCRIBERS,
    )
    assert answer_to(client, FORBIDDEN, 2).reason_code == ReasonCode.NOT_AUTHORIZED


def test_mqtt_3_5_2_2(broker: Broker) -> None:
    assert answer_to(_limited(broker), FORBIDDEN, 2, packet_id=5) == pubrec(5, ReasonCode.NOT_AUTHORIZED)
    assert PropertyId.REASON_STRING in answer_to(broker.connect(), FORBIDDEN, 2).properties


def test_mqtt_3_5_2_3(broker: Broker) -> None:
    for client in (_limited(broker), broker.connect()):
        assert PropertyId.USER_PROPERTY not in answer_to(client, FORBIDDEN, 2).properties


@pytest.mark.parametrize("flags", [flags for flags in range(16) if flags != 2])
def test_mqtt_3_6_1_1(broker: Broker, flags: int) -> None:
    client = broker.connect()
    answer_to(client, broker.topic(), 2, packet_id=1)
    client.send(frame(0x60 | flags, b"\0\1"))
    explain_end(client, ReasonCode.MALFORMED_PACKET)


def test_mqtt_3_6_1_1_from_the_server(broker: Broker) -> None:
    client, message = _owed(broker, 2)
    client.send(pubrec(message.packet_id))
    assert client.read_frame()[0] == 0x62


@pytest.mark.parametrize("code", _codes_not_of(PacketType.PUBREL))
def test_mqtt_3_6_2_1(broker: Broker, code: int) -> None:
    client = broker.connect()
    answer_to(client, broker.topic(), 2, packet_id=1)
    client.send(Acknowledgement(PacketType.PUBREL, 1, code))
    explain_end(client, ReasonCode.PROTOCOL_ERROR)


def test_mqtt_3_6_2_1_from_the_server(broker: Broker) -> None:
    client, message = _owed(broker, 2)
    client.send(pubrec(message.packet_id))
    client.expect(pubrel(message.packet_id))


def test_mqtt_4_3_3_4_for_what_is_not_known(broker: Broker) -> None:
    """A PUBREC that answers nothing is overlooked: nobody sent the message that its PUBREL would release."""
    client_id = broker.client_id()
    broker.connect(client_id, properties=LASTING).disconnect()
    client = broker.resume(client_id)
    client.send(pubrec(77))
    client.ping()


def test_mqtt_3_6_2_2(broker: Broker) -> None:
    client, message = _owed(broker, 2)
    client.send(pubrec(message.packet_id))
    answer = client.answer()
    assert isinstance(answer, Acknowledgement)
    assert PropertyId.REASON_STRING not in answer.properties


def test_mqtt_3_6_2_3(broker: Broker) -> None:
    client, message = _owed(broker, 2)
    client.send(pubrec(message.packet_id))
    answer = client.answer()
    assert isinstance(answer, Acknowledgement)
    assert PropertyId.USER_PROPERTY not in answer.properties


@pytest.mark.parametrize("code", _codes_not_of(PacketType.PUBCOMP))
def test_mqtt_3_7_2_1(broker: Broker, code: int) -> None:
    client, message = _owed(broker, 2)
    client.send(pubrec(message.packet_id))
    client.expect(pubrel(message.packet_id))
    client.send(pubcomp(message.packet_id, code))
    explain_end(client, ReasonCode.PROTOCOL_ERROR)


def test_mqtt_3_7_2_1_from_the_server(broker: Broker) -> None:
    client = broker.connect()
    answer_to(client, broker.topic(), 2, packet_id=4)
    client.send(pubrel(4))
    client.expect(pubcomp(4))
    client.send(pubrel(4))
    client.expect(pubcomp(4, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND))


def test_mqtt_3_7_2_2(broker: Broker) -> None:
    client = _limited(broker)
    client.send(pubrel(9))
    client.expect(pubcomp(9, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND))


def test_mqtt_3_7_2_3(broker: Broker) -> None:
    client = broker.connect()
    client.send(pubrel(9))
    answer = client.answer()
    assert isinstance(answer, Acknowledgement)
    assert PropertyId.USER_PROPERTY not in answer.properties


@pytest.mark.parametrize("first_byte", [0x40, 0x50, 0x62, 0x70])
@pytest.mark.parametrize(
    "body", [b"", b"\0", b"\0\1\0\0\0", b"\0\1\0\5", b"\0\1\0\3\x11\0\0", b"\0\1\0\x05\x11\0\0\0\1"]
)
def test_acknowledgements_that_are_malformed_end_the_connection(broker: Broker, first_byte: int, body: bytes) -> None:
    client = broker.connect()
    client.send(frame(first_byte, body))
    explain_end(client, ReasonCode.MALFORMED_PACKET, ReasonCode.PROTOCOL_ERROR)


def test_acknowledgements_with_reasons_and_user_properties_are_read(broker: Broker) -> None:
    client, message = _owed(broker, 1)
    assert message.packet_id is not None
    properties = section(b"\x1f" + text("because"), b"\x26" + text("a") + text("b"), b"\x26" + text("a") + text("b"))
    client.send(frame(0x40, message.packet_id.to_bytes(2, "big"), b"\x80", properties))
    client.ping()
