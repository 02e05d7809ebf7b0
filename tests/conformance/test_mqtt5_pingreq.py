"""MQTT 5.0, section 3.12: PINGREQ."""

from __future__ import annotations

from headwater.mqtt.packets import Pingreq, Pingresp
from headwater.mqtt.reason_codes import ReasonCode

from .conftest import Broker
from .exchanges import explain_end


def test_mqtt_3_12_4_1(broker: Broker) -> None:
    client = broker.connect()
    client.send(Pingreq())
    assert client.read_frame() == b"\xd0\x00"
    client.send(*[Pingreq()] * 50)
    assert [client.read() for _ in range(50)] == [Pingresp()] * 50


def test_mqtt_3_12_4_1_without_a_body(broker: Broker) -> None:
    client = broker.connect()
    client.send(b"\xc0\x01\x00")
    explain_end(client, ReasonCode.MALFORMED_PACKET)


def test_a_client_that_sends_pingresp_is_closed(broker: Broker) -> None:
    client = broker.connect()
    client.send(Pingresp())
    explain_end(client, ReasonCode.PROTOCOL_ERROR)
