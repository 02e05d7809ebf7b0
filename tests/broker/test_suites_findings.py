"""What public test suites for brokers found, as scenarios of our own."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from headwater.mqtt.packets import Acknowledgement, Connack, Connect, PacketType, Pingreq, ProtocolLevel, Publish
from headwater.mqtt.reason_codes import ReasonCode

from .client import Client
from .house import ADA, House, as_account, as_lasting, token_of

V5 = ProtocolLevel.V5


async def keep_sending(client: Client, times: int = 50) -> None:
    """Send on as a client does that does not look up. Raises ConnectionError when the socket's peer is gone."""
    await client.writer.drain()
    descriptor = os.dup(client.writer.get_extra_info("socket").fileno())
    with socket.socket(fileno=descriptor) as raw:
        for _ in range(times):
            raw.send(b"\xc0\x00")
            await asyncio.sleep(0)


async def test_4_13_1_a_client_that_is_busy_sending_can_read_why_it_is_closed(house: House) -> None:
    """[MQTT-4.13.1-1]: what it still sends is not answered with a reset, which would come before the reason."""
    client = await house.connect(as_account(ADA, "busy", level=V5))
    assert client.connack is not None
    for packet_id in range(1, house.settings.mqtt.receive_maximum + 2):
        client.send(Publish("t", b"x", 2, packet_id))
    connection = house.connection("busy")
    while connection.is_here:
        await asyncio.sleep(0)
    await keep_sending(client)
    packets = await client.expect_closed()
    assert packets[0] == Acknowledgement(PacketType.PUBREC, 1)
    assert getattr(packets[-1], "reason_code", None) == ReasonCode.RECEIVE_MAXIMUM_EXCEEDED
    await house.only()


async def test_3_1_4_5_a_refused_client_that_sends_on_can_read_the_refusal(house: House) -> None:
    """[MQTT-3.1.4-5]: packets right behind CONNECT are legal, whatever becomes of it."""
    client = await house.connect()
    client.send(Connect("c", username="ada", password=b"wrong"), *[Pingreq()] * 100)
    assert await client.read() == Connack(False, 5)
    await keep_sending(client)
    assert await client.expect_closed() == []
    await house.only()


async def test_a_client_that_never_closes_does_not_keep_its_connection(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater.broker.connection.LINGER_S", 0.05)
    client = await house.connect(as_account(ADA, "stays", level=V5))
    client.send(b"\x00\x00")
    await house.only()
    with pytest.raises(ConnectionError):
        await keep_sending(client, times=1_000)


@pytest.mark.parametrize(("level", "expected"), [(ProtocolLevel.V311, []), (V5, [ReasonCode.MALFORMED_PACKET])])
@pytest.mark.parametrize("filters", [b"\0\0", b"\0\0\0\1q", b"\0\1q\0\0"])
async def test_4_7_3_1_unsubscribe_with_an_empty_filter(
    house: House, level: ProtocolLevel, expected: list[int], filters: bytes
) -> None:
    """[MQTT-4.7.3-1]: a topic filter has at least one character."""
    client = await house.connect(as_account(ADA, "c", level=level))
    body = b"\0\1" + (b"\0" if level == V5 else b"") + filters
    client.send(b"\xa2" + bytes((len(body),)) + body)
    assert [getattr(packet, "reason_code", None) for packet in await client.expect_closed()] == expected


async def test_a_client_that_was_reset_has_left_before_it_is_back(house: House) -> None:
    """The old connection's end, which the event loop tells of later, must not take the session from the new one."""
    for _ in range(20):
        client = await house.connect(as_lasting(as_account(ADA, "c")))
        await client.subscribe("t", 2)
        client.send(Publish("u", b"x", 1, 7))
        await client.writer.drain()
        client.reset()
        again = await house.connect(as_lasting(as_account(ADA, "c")))
        await again.publish("t", b"x", 2)
        assert (await again.message(acknowledge=True)).payload == b"x"


async def test_a_closed_connection_leaves_when_its_place_is_taken(house: House) -> None:
    client = await house.connect(as_account(ADA, "c"))
    connection = house.connection("c")
    assert connection._transport is not None
    connection._transport.abort()
    connection.close("taken over", ReasonCode.SESSION_TAKEN_OVER)
    assert not connection.is_here
    await client.expect_closed()


def connect_of_3_1(flags: int, client_id: bytes) -> bytes:
    token = token_of(ADA).encode()
    body = b"\0\6MQIsdp\3" + bytes((flags | 0xC0,)) + b"\0\x3c" + len(client_id).to_bytes(2, "big") + client_id
    body += b"\0\3ada" + len(token).to_bytes(2, "big") + token
    return b"\x10" + bytes((len(body),)) + body


async def test_mqtt_3_1_does_not_use_the_last_connect_flag(house: House) -> None:
    """MQTT 3.1, section 3.1: the bit is unused there; only from 3.1.1 on must it be zero [MQTT-3.1.2-3]."""
    client = await house.connect()
    client.send(connect_of_3_1(0x03, b"old"))
    assert await client.read() == Connack(False, 0)


async def test_mqtt_3_1_does_not_say_that_a_session_was_present(house: House) -> None:
    """MQTT 3.1, section 3.2: the byte is reserved; 3.1.1 made Session Present of it."""
    for _ in range(2):
        client = await house.connect()
        client.send(connect_of_3_1(0x00, b"old"))
        assert await client.read() == Connack(False, 0)
        assert await client.subscribe("t", 1) == 1
        await client.close()


async def test_mqtt_3_1_wants_a_client_id(house: House) -> None:
    """MQTT 3.1, section 3.1: between 1 and 23 characters, or return code 2."""
    client = await house.connect()
    client.send(connect_of_3_1(0x02, b""))
    assert await client.expect_closed() == [Connack(False, 2)]


@pytest.mark.parametrize(
    ("packet", "answer"),
    [
        (b"\x8a\x06\0\1\0\1a\0", b"\x90\x03\0\1\0"),
        (b"\xaa\x05\0\1\0\1a", b"\xb0\x02\0\1"),
        (b"\x6a\x02\0\1", b"\x70\x02\0\1"),
    ],
    ids=["SUBSCRIBE", "UNSUBSCRIBE", "PUBREL"],
)
async def test_mqtt_3_1_marks_what_is_sent_again(house: House, packet: bytes, answer: bytes) -> None:
    """MQTT 3.1, section 2.1: DUP is set on these when they are sent again; 3.1.1 made it a reserved bit."""
    client = await house.connect()
    client.send(connect_of_3_1(0x02, b"old"))
    assert await client.read() == Connack(False, 0)
    client.send(packet)
    assert await asyncio.wait_for(client.reader.readexactly(len(answer)), 10) == answer
    newer = await house.connect(as_account(ADA, "new", level=ProtocolLevel.V311))
    newer.send(packet)
    assert await newer.expect_closed() == []


@pytest.mark.parametrize("level", [ProtocolLevel.V311, V5])
@pytest.mark.parametrize(
    ("qos", "kinds"),
    [
        (1, [PacketType.PUBREC]),
        (1, [PacketType.PUBCOMP]),
        (2, [PacketType.PUBACK]),
        (2, [PacketType.PUBCOMP]),
        (2, [PacketType.PUBREC, PacketType.PUBACK]),
    ],
)
async def test_an_answer_that_does_not_go_with_the_message(
    house: House, level: ProtocolLevel, qos: int, kinds: list[PacketType]
) -> None:
    """MQTT 5.0, section 4.3: who confuses the exchanges cannot be trusted with the message."""
    client = await house.connect(as_account(ADA, "c", level=level))
    assert await client.subscribe("t", qos) == qos
    publisher = await house.connect(as_account(ADA, "p"))
    await publisher.publish("t", b"x", qos)
    packet_id = (await client.message()).packet_id
    assert packet_id is not None
    for kind in kinds:
        client.send(Acknowledgement(kind, packet_id))
    answers = [packet for packet in await client.expect_closed() if not isinstance(packet, Acknowledgement)]
    assert [getattr(packet, "reason_code", None) for packet in answers] == (
        [ReasonCode.PROTOCOL_ERROR] if level == V5 else []
    )
    await publisher.ping()
