"""One client's socket: what comes in, what goes out, and every way to misbehave on it."""

from __future__ import annotations

import asyncio
import gc
import os
import ssl
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gated_store import until
from headwater.broker import connection as connection_module
from headwater.broker.connection import Connection
from headwater.certificates import prepare_identity, server_context
from headwater.errors import StorageError
from headwater.mqtt.encode import render_packet, render_remaining_length
from headwater.mqtt.outlet import FLUSH_BYTES
from headwater.mqtt.packets import (
    SUBACK_FAILURE,
    Acknowledgement,
    Connack,
    Connect,
    ConnectReturnCode,
    Disconnect,
    Packet,
    PacketType,
    Pingreq,
    Pingresp,
    Publish,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
)
from headwater.services.ingest import IngestLimits
from headwater.settings import Settings

from .house import ADA, PORCH, READER, SENSOR, House, as_account, as_device, as_nobody, write_key_of

Build = Callable[..., Any]
PUBLISH_TOPIC = f"channels/{PORCH}/publish"
SUBSCRIBE_TOPIC = f"channels/{PORCH}/subscribe"


def puback(packet_id: int) -> Acknowledgement:
    return Acknowledgement(PacketType.PUBACK, packet_id)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# -- the ordinary day -----------------------------------------------------------------------------------------------


async def test_publish_store_and_deliver(house: House) -> None:
    device, reader = await house.connect(as_device(SENSOR)), await house.connect(as_device(READER))
    assert await reader.subscribe(f"{SUBSCRIBE_TOPIC}/fields/field1", 1) == 1
    await device.publish(PUBLISH_TOPIC, b"field1=20.5", qos=0)
    assert await reader.message() == Publish(f"{SUBSCRIBE_TOPIC}/fields/field1", b"20.5", 1, 1)
    await device.publish(PUBLISH_TOPIC, b"field1=21.5", qos=1)
    assert await reader.message() == Publish(f"{SUBSCRIBE_TOPIC}/fields/field1", b"21.5", 1, 2)
    assert await house.stored() == ["20.5", "21.5"]


async def test_a_key_in_the_topic_needs_no_credentials(house: House) -> None:
    nobody = await house.connect(as_nobody())
    await nobody.publish(f"{PUBLISH_TOPIC}/{write_key_of(PORCH)}", b"field1=1")
    await nobody.publish(f"{PUBLISH_TOPIC}/WRONG", b"field1=2")
    await nobody.publish(PUBLISH_TOPIC, b"field1=3")
    assert await house.stored() == ["1"]
    assert house.refusals.total == 2


async def test_an_unsubscribed_filter_is_silent(house: House) -> None:
    """[MQTT-3.10.4-2]"""
    client = await house.connect(as_account(ADA, "client"))
    assert await client.subscribe("room/+", 1) == 1
    await client.publish("room/light", b"on", qos=0)
    assert await client.message() == Publish("room/light", b"on")
    client.send(Unsubscribe(9, ("room/+", "never")))
    await client.expect(Unsuback(9))
    await client.publish("room/light", b"off")
    await client.ping()
    assert client.received == []


async def test_one_byte_at_a_time(house: House) -> None:
    client = await house.connect()
    for byte in render_packet(as_device(SENSOR)) + render_packet(Publish(PUBLISH_TOPIC, b"field1=5", 1, 7)):
        client.send(bytes((byte,)))
        await client.writer.drain()
        await asyncio.sleep(0)
    await client.expect(Connack(False, 0))
    await client.expect(puback(7))
    assert await house.stored() == ["5"]


async def test_everything_in_one_write(house: House) -> None:
    """Section 3.1.4: nobody has to wait for CONNACK. More than one receive buffer of it."""
    client = await house.connect()
    messages = [Publish(PUBLISH_TOPIC, b"field1=%d" % number, 1, number) for number in range(1, 12_001)]
    client.send(as_device(SENSOR), *messages, Pingreq(), Disconnect())
    packets = await client.expect_closed()
    assert packets[0] == Connack(False, 0)
    assert Pingresp() in packets
    pubacks = [packet.packet_id for packet in packets if isinstance(packet, Acknowledgement)]
    assert pubacks == list(range(1, len(pubacks) + 1)), "what was acknowledged before the end, in order"
    await house.ingest.drain()
    assert house.entries.last_entry_id(PORCH) == 12_000


async def test_two_unfinished_packets_do_not_mix(house: House) -> None:
    """All connections read into one buffer; each keeps its own unfinished packet."""
    clients = [await house.connect(as_account(ADA, f"c{number}")) for number in range(2)]
    for number, client in enumerate(clients):
        assert await client.subscribe(f"t{number}") == 0
    wires = [render_packet(Publish(f"t{number}", bytes((65 + number,)) * 500)) for number in range(2)]
    for position in range(0, len(wires[0]), 100):
        for client, wire in zip(clients, wires, strict=True):
            client.send(wire[position : position + 100])
            await client.writer.drain()
            await asyncio.sleep(0)
    for number, client in enumerate(clients):
        assert (await client.message()).payload == bytes((65 + number,)) * 500


async def test_over_tls(build: Build, tmp_path: Path) -> None:
    identity = prepare_identity(Settings(data=tmp_path), machine_names=("localhost",), now=datetime.now(UTC))
    house: House = await build(tls=server_context(identity))
    trusting = ssl.create_default_context(cafile=identity.ca_certificate)
    device = await house.connect(as_device(SENSOR), tls=trusting)
    device.send(*(Publish(PUBLISH_TOPIC, b"field1=%d" % number, 1, number) for number in range(1, 2_001)))
    for number in range(1, 2_001):
        await device.expect(puback(number))
    assert len(await house.stored()) == 2_000
    plain = await house.connect()
    plain.send(as_device(SENSOR))
    assert await plain.expect_closed() == [], "plain MQTT to the TLS port"
    await device.ping()


# -- CONNECT --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "connect",
    [as_device(SENSOR, "wrong"), Connect(f"device{SENSOR}"), Connect("other", username="ada", password=b"guess")],
    ids=["wrong password", "a device's client id alone", "unknown token"],
)
async def test_3_1_4_2_wrong_credentials(house: House, connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    """[MQTT-3.1.4-2] [MQTT-3.2.2-5]: CONNACK with the reason, then the end; nothing behind it is processed."""
    caplog.set_level("INFO", "headwater")
    client = await house.connect()
    client.send(connect, Publish(f"{PUBLISH_TOPIC}/{write_key_of(PORCH)}", b"field1=1", 1, 1))
    assert await client.expect_closed() == [Connack(False, ConnectReturnCode.NOT_AUTHORIZED)]
    [refused] = [record.__dict__ for record in caplog.records if record.getMessage() == "client closed"]
    assert connect.client_id in str(refused)
    assert "127.0.0.1" in str(refused)
    assert await house.stored() == []


async def test_3_1_2_2_unacceptable_level(house: House) -> None:
    """[MQTT-3.1.2-2]"""
    refused, refused_v5 = b"\x20\x02\x00\x01", b"\x20\x03\x00\x84\x00"
    for level, answer in ((0, refused), (3, refused), (6, refused_v5), (0x84, refused), (0x85, refused_v5)):
        client = await house.connect()
        client.send(b"\x10\x0d\x00\x04MQTT" + bytes((level,)) + b"\x02\x00\x3c\x00\x01a")
        assert await asyncio.wait_for(client.reader.read(), 5) == answer


async def test_3_1_0_1_anything_but_connect_first(house: House) -> None:
    """[MQTT-3.1.0-1]; closed on the first byte, nothing kept of a hundred megabytes."""
    await house.check_others_are_served()
    gc.collect()
    before = resident_bytes()
    for first_byte in [*range(0x00, 0x10), *range(0x20, 0x100, 0x10), *b"GPHS\x16"]:
        client = await house.connect()
        client.send(bytes((first_byte,)) + b"\xff\xff\xff\x7f")
        client.send(b"\0" * 100_000)
        assert await client.expect_closed() == []
    await house.check_others_are_served()
    assert resident_bytes() - before < 20_000_000


async def test_connect_time_out(build: Build) -> None:
    """Nothing at all, or a byte now and then; the slot is free again."""
    house: House = await build(connect_timeout_s=0.3)
    silent, slow = await house.connect(), await house.connect()
    started_s = time.monotonic()

    async def dribble() -> None:
        slow.send(b"\x10" + render_remaining_length(60_000))
        while True:
            slow.send(b"\0")
            await asyncio.sleep(0.02)

    dribbling = asyncio.create_task(dribble())
    assert await silent.expect_closed() == []
    assert await slow.expect_closed() == []
    dribbling.cancel()
    assert time.monotonic() - started_s > 0.25
    await house.check_others_are_served()
    await house.only()


async def test_a_huge_connect_is_refused_on_its_header(house: House) -> None:
    client = await house.connect()
    client.send(b"\x10\xff\xff\xff\x7f")
    assert await client.expect_closed() == []
    await house.check_others_are_served()


async def test_3_1_0_2_a_second_connect(house: House) -> None:
    """[MQTT-3.1.0-2]; also in the same write."""
    client = await house.connect()
    client.send(as_device(SENSOR), as_device(SENSOR))
    assert await client.expect_closed() == [Connack(False, 0)]
    await house.check_others_are_served()
    await house.only()


# -- keep alive -----------------------------------------------------------------------------------------------------


async def test_3_1_2_24_silence_beyond_one_and_a_half_keep_alives(house: House) -> None:
    """[MQTT-3.1.2-24]"""
    client = await house.connect(as_device(SENSOR, keep_alive_s=1))
    started_s = time.monotonic()
    assert await client.expect_closed() == []
    assert time.monotonic() - started_s > 1.4


async def test_packets_are_activity_and_parts_of_them_are_not(build: Build) -> None:
    """[MQTT-3.1.2-24]; a PUBLISH that never ends does not keep its connection; a longer or no keep alive is
    capped."""
    house: House = await build(max_keep_alive_s=1.0)
    lively = await house.connect(as_account(ADA, "lively", keep_alive_s=0))
    stalling = await house.connect(as_device(SENSOR, keep_alive_s=65_535))
    stalling.send(b"\x30" + render_remaining_length(200_000))
    closed = asyncio.create_task(stalling.expect_closed())
    started_s = time.monotonic()
    while not closed.done() or time.monotonic() - started_s < 2:
        assert time.monotonic() - started_s < 20
        if not closed.done():
            stalling.send(b"x")
        await lively.ping()
        await asyncio.sleep(0.02)
    assert closed.result() == []


# -- hostile packets ------------------------------------------------------------------------------------------------


def publish_bytes(topic: bytes, first_byte: int = 0x30, rest: bytes = b"") -> bytes:
    body = len(topic).to_bytes(2, "big") + topic + rest
    return bytes((first_byte,)) + render_remaining_length(len(body)) + body


def subscribe_bytes(*filters: bytes, packet_id: int = 1, qos: int = 0) -> bytes:
    body = packet_id.to_bytes(2, "big")
    body += b"".join(len(f).to_bytes(2, "big") + f + bytes((qos,)) for f in filters)
    return b"\x82" + render_remaining_length(len(body)) + body


HOSTILE: dict[str, list[bytes]] = {
    "larger than allowed": [b"\x30\xff\xff\xff\x7f", b"\x82\xff\xff\xff\x7f", b"\xc0\xff\xff\xff\x7f"],
    "five bytes of length": [b"\x30\x80\x80\x80\x80\x01", b"\xc0\xff\xff\xff\xff\x00"],
    "packets of a server": [b"\x20\x02\0\0", b"\x90\x03\0\1\0", b"\xb0\x02\0\1", b"\xd0\x00", b"\x20\x03\0\0\0"],
    "reserved types": [b"\x00\x00", b"\xf0\x00", b"\xf0\x02\x18\x00"],
    "wrong flags": [
        bytes((packet_type << 4 | flags,)) + body
        for packet_type, right, body in (
            (4, 0, b"\x02\0\1"), (5, 0, b"\x02\0\1"), (6, 2, b"\x02\0\1"), (7, 0, b"\x02\0\1"),
            (8, 2, b"\x06\0\1\0\1a\0"), (10, 2, b"\x05\0\1\0\1a"), (12, 0, b"\0"), (14, 0, b"\0"),
        )
        for flags in range(16)
        if flags != right
    ],
    "impossible QoS": [
        publish_bytes(b"t", 0x36, b"\0\1x"), publish_bytes(b"t", 0x38, b"x"), publish_bytes(b"t", 0x32, b"\0\0x"),
        publish_bytes(b"t", 0x34, b"\0\0x"), publish_bytes(b"t", 0x32), publish_bytes(b"t", 0x34, b"\1"),
    ],
    "topic length": [publish_bytes(b""), b"\x30\x03\x00\x05t", b"\x30\x00", b"\x30\x01\x00", b"\x32\x02\xff\xff"],
    "depth": [publish_bytes(b"/" * 65_535), subscribe_bytes(b"/" * 1_000), subscribe_bytes(b"+/" * 500 + b"+")],
    "topic text": [
        publish_bytes(topic)
        for topic in (b"a/+", b"#", b"a\0b", b"\xed\xa0\x80", b"\xc0\xaf", b"\xe2\x82", b"\xff", b"a\nb")
    ],
    "subscriptions": [
        b"\x82\x02\0\1", subscribe_bytes(b"a", packet_id=0), subscribe_bytes(b"a", qos=3), subscribe_bytes(b"a", qos=4),
        *(subscribe_bytes(f) for f in (b"", b"a/#/b", b"a+", b"#a", b"#/#", b"\xff", b"a\0")),
    ],
    "acknowledgements of nothing": [
        b"\x50\x02\0\0", b"\x70\x02\0\0", b"\x40\x02\0\0", b"\x62\x02\0\0", b"\x40\x01\0",
    ],
    "bytes left over": [b"\xe0\x01\0", b"\xc0\x01\0", b"\x40\x03\0\1\0", b"\xa2\x02\0\1"],
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_packets_close_their_own_connection_only(house: House, name: str) -> None:
    """[MQTT-4.8.0-1]: nothing is answered, and an unrelated client does not notice."""
    await house.check_others_are_served()
    for number, packet in enumerate(HOSTILE[name]):
        client = await house.connect(as_account(ADA, f"c{number}"))
        client.send(packet)
        assert await client.expect_closed() == [], packet[:20]
    await house.check_others_are_served()
    await house.only()


async def test_odd_but_legal_packets_are_served(house: House) -> None:
    """Long forms of lengths, a byte order mark, ten thousand filters, unknown identifiers."""
    client = await house.connect(as_account(ADA, "c"))
    client.send(b"\xc0\x80\x80\x00")
    await client.expect(Pingresp())
    assert await client.subscribe("#") == 0
    client.send(publish_bytes(b"\xef\xbb\xbft", rest=b"x"))
    assert await client.message() == Publish("\ufefft", b"x")
    client.send(subscribe_bytes(*[b"a"] * 10_000, packet_id=77))
    await client.expect(Suback(77, (0,) * 50 + (SUBACK_FAILURE,) * 9_950))
    client.send(Acknowledgement(PacketType.PUBREL, 5), puback(9))
    await client.expect(Acknowledgement(PacketType.PUBCOMP, 5))
    await client.ping()


@pytest.mark.parametrize("topic", ["$SYS/uptime", "$share/g/t", "$CONTROL/x", "$foo", "$"])
async def test_4_7_2_dollar_topics_are_acknowledged_and_dropped(house: House, topic: str) -> None:
    """[MQTT-3.3.5-2]; 3.1.1 has no other way to refuse; retained ones, too."""
    client = await house.connect(as_account(ADA, "c"))
    assert await client.subscribe("#") == 0
    refused = [topic] if await client.subscribe(topic) == SUBACK_FAILURE else []
    assert bool(refused) is not topic.startswith("$share/"), "that one is a shared subscription"
    client.send(Publish(topic, b"x", 1, 1), Publish(topic, b"x", 1, 2, retain=True))
    await client.expect(puback(1))
    await client.expect(puback(2))
    await client.ping()
    assert client.received == []
    assert house.refusals.total == 2 + len(refused)


async def test_random_bytes_disturb_nobody(house: House) -> None:
    """In small: every packet type with a damaged body, from many connections."""
    await house.check_others_are_served()
    packets: list[Packet] = [
        Publish("t/u", b"payload", 1, 1), Publish("t", b"x"), Unsubscribe(1, ("a", "b")), puback(1), Pingreq(),
    ]  # fmt: skip
    wires = [render_packet(packet) for packet in packets] + [subscribe_bytes(b"a/b", b"c/#")]
    for seed, wire in enumerate(wires):
        for position in range(len(wire)):
            damaged = bytearray(wire)
            damaged[position] ^= 1 << (seed + position) % 8
            client = await house.connect()
            client.send(as_account(ADA, f"{seed}.{position}"), bytes(damaged), Disconnect())
            client.reset() if position % 3 == 0 else await client.close()
    await house.check_others_are_served()
    await house.only()


async def test_a_created_at_beyond_what_a_store_can_hold_harms_no_other_message(house: House) -> None:
    device = await house.connect(as_device(SENSOR))
    await device.publish(PUBLISH_TOPIC, b"field1=1")
    device.send(
        Publish(PUBLISH_TOPIC, b"field1=2", 1, 2),
        Publish(PUBLISH_TOPIC, b"field1=3&created_at=9999-12-31T23:59:59Z", 1, 3),
        Publish(PUBLISH_TOPIC, b"field1=4&created_at=0001-01-01T00:00:00Z", 1, 4),
        Publish(PUBLISH_TOPIC, b"field1=5", 1, 5),
    )
    for packet_id in (2, 3, 4, 5):
        await device.expect(puback(packet_id))
    assert await house.stored() == ["1", "2", "5"]
    assert house.refusals.total == 2


# -- acknowledgements, the store and the end -------------------------------------------------------------------------


async def test_4_3_2_2_puback_only_after_the_commit(build: Build) -> None:
    """[MQTT-4.3.2-2]"""
    house: House = await build(limits=IngestLimits(flush_interval_s=0.0))
    device = await house.connect(as_device(SENSOR))
    house.store.shut()
    device.send(Publish(PUBLISH_TOPIC, b"field1=1", 1, 1))
    await until(lambda: house.store.appended)
    await device.ping()  # answered, while PUBACK is not
    house.store.open()
    await device.expect(puback(1))
    assert house.store.commits == 1


async def test_a_failing_store_closes_without_puback(build: Build) -> None:
    house: House = await build(limits=IngestLimits(flush_interval_s=0.0))
    device, reader = await house.connect(as_device(SENSOR)), await house.connect(as_device(READER))
    assert await reader.subscribe(SUBSCRIBE_TOPIC) == 0
    house.store.failures = [StorageError("the disk is full")]
    device.send(Publish(PUBLISH_TOPIC, b"field1=1", 1, 1))
    assert await device.expect_closed() == []
    again = await house.connect(as_device(SENSOR))
    await again.publish(PUBLISH_TOPIC, b"field1=1")
    assert b'"field1":"1"' in (await reader.message()).payload.replace(b" ", b"")
    await reader.ping()
    assert reader.received == []
    assert await house.stored() == ["1"]


async def test_3_14_4_disconnect_ends_it(house: House) -> None:
    """[MQTT-3.14.4-1] [MQTT-3.14.4-2]; the server closes, what follows is not processed."""
    client = await house.connect(as_device(SENSOR))
    client.send(Disconnect(), Publish(PUBLISH_TOPIC, b"field1=1", 1, 1), Pingreq())
    assert await client.expect_closed() == []
    await house.only()
    assert await house.stored() == []


@pytest.mark.parametrize("end", ["close", "half-close", "reset"])
async def test_a_client_that_goes_while_its_answer_is_on_the_way(build: Build, end: str) -> None:
    """What was taken in is stored, and nobody is troubled."""
    house: House = await build(limits=IngestLimits(flush_interval_s=0.0))
    await house.check_others_are_served()
    device = await house.connect(as_device(SENSOR))
    assert await device.subscribe(SUBSCRIBE_TOPIC, 1) == 1
    house.store.shut()
    device.send(Publish(PUBLISH_TOPIC, b"field1=1", 1, 1))
    await until(lambda: house.store.appended)
    if end == "reset":
        device.reset()
    elif end == "half-close":
        device.writer.write_eof()
        assert await device.expect_closed() == []
    else:
        await device.close()
    await house.only()
    house.store.open()
    await until(lambda: house.store.commits)
    assert await house.stored() == ["1"]
    await house.check_others_are_served()


# -- back-pressure --------------------------------------------------------------------------------------------------


async def test_when_the_store_stands_still_clients_wait_and_lose_nothing(build: Build) -> None:
    """Reading pauses. Neither a flood from many at once nor a keep alive that passes meanwhile closes anybody, and
    then everything is stored and acknowledged."""
    limits = IngestLimits(flush_interval_s=0.0, flush_points=10, max_pending_points=20)
    house: House = await build(limits=limits, max_keep_alive_s=0.1, bytes_per_turn=4_096)
    devices = [await house.connect() for _ in range(20)]
    topic = f"{PUBLISH_TOPIC}/{write_key_of(PORCH)}"
    house.store.shut()
    for device in devices:
        device.send(as_nobody(), *(Publish(topic, b"field1=1", 1, number) for number in range(1, 301)))
    await until(lambda: house.ingest.is_full)
    most = 0
    deadline_s = time.monotonic() + 0.5  # several keep alives
    while time.monotonic() < deadline_s:
        most = max(most, house.ingest.pending_points)
        await asyncio.sleep(0.01)
    assert house.broker.connections == 20
    assert most < 20 + 2 * 4_096 / 40 + 1, "one read above the limit, not one read a connection"
    house.store.open()
    for device in devices:
        await device.expect(Connack(False, 0))
        for number in range(1, 301):
            await device.expect(puback(number))
    assert len(await house.stored()) == 6_000


async def test_a_client_that_goes_while_it_waits_for_room(build: Build) -> None:
    limits = IngestLimits(flush_interval_s=0.0, flush_points=1, max_pending_points=1)
    house: House = await build(limits=limits)
    gone, patient = await house.connect(as_device(SENSOR)), await house.connect(as_account(ADA, "patient"))
    house.store.shut()
    gone.send(Publish(PUBLISH_TOPIC, b"field1=1", 1, 1))
    await until(lambda: house.ingest.is_full)
    connection = house.connection(f"device{SENSOR}")
    assert connection.waits_for_room, "the one that filled it is not read from again"
    patient.send(Publish(PUBLISH_TOPIC, b"field1=2", 1, 1))
    gone.send(Publish(PUBLISH_TOPIC, b"field1=3", 1, 2))
    house.put_device(SENSOR, is_enabled=False)
    await house.only(patient)
    house.store.open()
    await patient.expect(puback(1))
    assert await house.stored() == ["1", "2"]


async def test_connect_has_its_deadline_while_we_do_not_listen(build: Build) -> None:
    """A socket that is not read does not show that its client has gone, and there are only so many places."""
    limits = IngestLimits(flush_interval_s=0.0, flush_points=1, max_pending_points=1)
    house: House = await build(limits=limits, connect_timeout_s=0.5)
    device, late, silent = await house.connect(as_device(SENSOR)), await house.connect(), await house.connect()
    house.store.shut()
    device.send(Publish(PUBLISH_TOPIC, b"field1=1", 1, 1))
    await until(lambda: house.ingest.is_full)
    late.send(as_account(ADA, "late"))
    assert await silent.expect_closed() == []
    late.reset()
    await house.only(device)
    house.store.open()
    await device.expect(puback(1))


async def test_retained_messages_that_wait_do_not_keep_their_acknowledgements_from_being_read(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One segment subscribes to much that is retained, and then uses up the client's turn."""
    house: House = await build(max_in_flight=5)
    client = await house.connect(as_account(ADA, "c"))
    assert await client.subscribe("copies") == 0
    for number in range(50):
        await client.publish(f"r/{number}", b"retained", retain=True)
    monkeypatch.setattr(connection_module, "COPIES_PER_TURN", 3)
    subscribe = render_packet(Subscribe(9, (Subscription("r/#", 1),)), 4)
    client.send(subscribe + render_packet(Publish("copies", b"x"), 4) * 30)
    retained = copies = 0
    while retained < 50 or copies < 30:
        packet = await client.read()
        if isinstance(packet, Publish):
            retained += packet.retain
            copies += not packet.retain
            if packet.packet_id is not None:
                client.send(puback(packet.packet_id))
    await client.ping()


async def test_a_reader_is_slow_only_when_it_takes_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.connect(as_account(ADA, "slow"))
    connection = house.connection("slow")
    now_s = house.broker.loop.time()
    connection.pause_writing()
    transport, waiting_bytes = connection._transport, [1_000, 1_000, 999, 999, 1_500]
    looks = SimpleNamespace(get_write_buffer_size=lambda: waiting_bytes.pop(0))
    connection.sent_bytes = 2_000
    monkeypatch.setattr(connection, "_transport", looks)
    unread_s = [connection.unread_s(now_s + after_s) for after_s in (1, 11, 21, 31)]
    connection.sent_bytes += 600  # more is to be sent, and less waits than that: it has read
    unread_s.append(connection.unread_s(now_s + 41))
    monkeypatch.setattr(connection, "_transport", transport)
    connection.resume_writing()
    assert unread_s == pytest.approx([0, 10, 0, 10, 0])


async def test_one_client_that_floods_is_read_from_once_a_turn(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """uvloop would read up to 32 buffers of one socket before it looks at another."""
    loop, turn, reads = asyncio.get_running_loop(), 0, Counter[int]()
    receive = Connection._receive

    def next_turn() -> None:
        nonlocal turn
        turn += 1
        ticking[0] = loop.call_soon(next_turn)

    def count(connection: Connection, data: bytes) -> None:
        reads[turn] += 1
        receive(connection, data)

    flooding = await house.connect(as_account(ADA, "flooding"))
    monkeypatch.setattr(Connection, "_receive", count)
    ticking = [loop.call_soon(next_turn)]
    flooding.send(render_packet(Publish("t", b"x" * 1_000)) * 1_000)
    await flooding.ping()
    ticking[0].cancel()
    assert reads.total() >= 1_000_000 / house.settings.mqtt.bytes_per_turn
    assert max(reads.values()) == 1


# -- slow readers ---------------------------------------------------------------------------------------------------


async def test_a_reader_that_stops_loses_qos_0_and_then_its_connection(build: Build) -> None:
    """Bounded buffer, dropped and counted, then closed; the publisher is not slowed."""
    house: House = await build(max_write_buffer_bytes=65_536, write_timeout_s=0.5)
    slow = await house.connect(as_account(ADA, "slow"), receive_buffer_bytes=4_096)
    assert await slow.subscribe("flood") == 0
    quick = await house.connect(as_account(ADA, "quick"))
    assert await quick.subscribe("flood") == 0
    slow.writer.transport.pause_reading()
    connection = house.connection("slow")
    sent = 0
    deadline_s = time.monotonic() + 10
    while not house.session("slow").dropped:
        assert time.monotonic() < deadline_s, "nothing was dropped"
        await quick.publish("flood", b"x" * 50_000, qos=0)
        assert len((await quick.message()).payload) == 50_000
        sent += 1
    assert connection._transport is not None
    assert connection._transport.get_write_buffer_size() < 65_536 + 3 * 50_100
    await house.only(quick)
    await quick.ping()
    await house.check_others_are_served()


async def test_very_many_messages_at_once_are_bounded_too(build: Build, caplog: pytest.LogCaptureFixture) -> None:
    """A whole committed batch is delivered in one turn of the loop, before anything could be written."""
    house: House = await build(max_write_buffer_bytes=65_536)
    slow = await house.connect(as_account(ADA, "slow"), receive_buffer_bytes=4_096)
    assert await slow.subscribe("flood") == 0
    slow.writer.transport.pause_reading()
    connection = house.connection("slow")
    target = connection.resolve_publish("flood")
    for _ in range(20_000):
        target(b"x" * 1_000, 0, 0, None)
    assert house.session("slow").dropped
    assert connection._transport is not None
    assert connection._transport.get_write_buffer_size() < 65_536 + 2 * FLUSH_BYTES
    [line] = [record.getMessage() for record in caplog.records if "dropped" in record.getMessage()]
    assert "are dropped" in line
    connection.abort("the test is over", is_fault=False)


async def test_a_full_queue_is_logged_once(build: Build, caplog: pytest.LogCaptureFixture) -> None:
    house: House = await build(max_in_flight=1, max_queued_messages=1)
    lazy = await house.connect(as_account(ADA, "lazy"))
    assert await lazy.subscribe("t", 1) == 1
    for _ in range(10):
        await lazy.publish("t", b"x")
    assert [record.getMessage() for record in caplog.records].count("messages for a client are dropped") == 1


async def test_a_reader_that_catches_up_is_served_again(build: Build) -> None:
    house: House = await build(max_write_buffer_bytes=65_536, max_keep_alive_s=0.4)
    slow = await house.connect(as_account(ADA, "slow"), receive_buffer_bytes=4_096)
    quick = await house.connect(as_account(ADA, "quick"))
    assert await slow.subscribe("flood") == 0
    slow.writer.transport.pause_reading()
    connection = house.connection("slow")
    deadline_s = time.monotonic() + 10
    while not house.session("slow").dropped:
        assert time.monotonic() < deadline_s, "nothing was dropped"
        await quick.publish("flood", b"x" * 50_000)
    waited_until_s = time.monotonic() + 0.8  # beyond its keep alive: it was we who did not listen
    while time.monotonic() < waited_until_s:
        await quick.ping()
        await asyncio.sleep(0.05)
    slow.writer.transport.resume_reading()
    while connection.protocol.is_congested:
        await slow.message()
    for _ in range(5):
        await quick.ping()
        await asyncio.sleep(0.02)
    await slow.ping()
    await slow.publish("elsewhere", b"x")
    slow.received.clear()
    await quick.publish("flood", b"again")
    assert (await slow.message()).payload == b"again"


async def test_a_reader_that_does_not_acknowledge_gets_a_window_and_its_pings(build: Build) -> None:
    house: House = await build(max_in_flight=3, max_queued_messages=2)
    lazy = await house.connect(as_account(ADA, "lazy"))
    busy = await house.connect(as_account(ADA, "busy"))
    assert await lazy.subscribe("t", 1) == 1
    for number in range(10):
        await busy.publish("t", b"%d" % number)
    await lazy.ping()
    assert [message.payload for message in lazy.received] == [b"0", b"1", b"2"]
    lazy.received.clear()
    lazy.send(puback(1), puback(2), puback(3))
    await lazy.ping()
    assert [message.payload for message in lazy.received] == [b"8", b"9"]


async def test_a_closed_client_that_never_reads_its_last_bytes_is_dropped(build: Build) -> None:
    house: House = await build(write_timeout_s=0.3)
    slow = await house.connect(as_account(ADA, "slow"), receive_buffer_bytes=4_096)
    assert await slow.subscribe("flood") == 0
    slow.writer.transport.pause_reading()
    connection = house.connection("slow")
    busy = await house.connect(as_account(ADA, "busy"))
    transport = connection._transport
    assert transport is not None
    deadline_s = time.monotonic() + 10
    while not transport.get_write_buffer_size():
        assert time.monotonic() < deadline_s, "its buffers never filled"
        await busy.publish("flood", b"x" * 50_000)
    slow.send(b"\x00\x00")  # a protocol error: closed, but for what is still to be sent
    await until(transport.is_closing)
    await busy.publish("flood", b"x" * 50_000)
    await house.only(busy)
