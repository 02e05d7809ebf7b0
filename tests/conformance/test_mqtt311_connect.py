"""MQTT 3.1.1, sections 3.1 and 3.2: CONNECT and CONNACK, without wills and sessions."""

from __future__ import annotations

import string
import time

import pytest

from headwater.mqtt.packets import Connack, ConnectReturnCode, Pingreq, Publish

from .client import Client
from .conftest import Broker
from .exchanges import watch
from .packets import frame, text


def raw_connect(*payload: bytes, flags: int = 0x02, name: str = "MQTT", level: int = 4, keep_alive: int = 0) -> bytes:
    """A CONNECT byte by byte; the payload is the client id and what follows it."""
    return frame(0x10, text(name), bytes((level, flags)), keep_alive.to_bytes(2, "big"), *payload)


def answers(broker: Broker, *packets: bytes) -> list[object]:
    """What comes before the server closes."""
    client = broker.open()
    client.send(*packets)
    return list(client.expect_closed())


def check_refused(client: Client, code: ConnectReturnCode) -> None:
    """A CONNACK with this code and Session Present 0, then the end."""
    assert client.read_frame() == bytes((0x20, 2, 0, code))
    assert client.expect_closed() == []


@pytest.mark.parametrize("first_byte", [*range(0x00, 0x10), *range(0x20, 0x100, 0x0F)])
def test_mqtt_3_1_0_1(broker: Broker, first_byte: int) -> None:
    """Judged by the first byte: nothing more has to come."""
    assert answers(broker, bytes((first_byte,))) == []


def test_mqtt_3_1_0_1_and_nothing_is_done(broker: Broker) -> None:
    subscriber = watch(broker)
    assert answers(broker, frame(0x30, text(broker.topic()), b"m")) == []
    assert subscriber.remaining() == []


def test_mqtt_3_1_0_2(broker: Broker) -> None:
    client = broker.connect("")
    client.send(broker.connect_packet())
    assert client.expect_closed() == []


def test_mqtt_3_1_0_2_before_connack(broker: Broker) -> None:
    client = broker.open()
    client.send(broker.connect_packet(), broker.connect_packet())
    assert client.expect_closed() == [Connack(False, 0)]


@pytest.mark.parametrize("name", ["", "MQT", "mqtt", "MQTTX", "hj", "HTTP"])
def test_mqtt_3_1_2_1(broker: Broker, name: str) -> None:
    assert answers(broker, raw_connect(text("c"), name=name)) == []


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_mqtt_3_1_2_2(broker: Broker, level: int) -> None:
    client = broker.open()
    client.send(raw_connect(text("c"), level=level))
    check_refused(client, ConnectReturnCode.UNACCEPTABLE_PROTOCOL_VERSION)


@pytest.mark.parametrize("level", [6, 127, 255])
def test_mqtt_3_1_2_2_above_all_that_are_known(broker: Broker, level: int) -> None:
    """Said in the form of 5.0, whose code for it is 84."""
    client = broker.open()
    client.send(raw_connect(text("c"), level=level))
    assert client.read_frame()[:4] in (b"\x20\x03\x00\x84", b"\x20\x02\x00\x01")
    assert client.expect_closed() == []


def test_mqtt_3_1_2_3(broker: Broker) -> None:
    assert answers(broker, raw_connect(text("c"), flags=0x03)) == []


@pytest.mark.parametrize(
    ("flags", "fields"),
    [
        (0x02, ["c", "user"]),
        (0x82, ["c"]),
        (0x82, ["c", "user", "password"]),
        (0xC2, ["c", "user"]),
        (0x42, ["c", "password"]),
        (0x02, []),
        (0x02, ["c", "will/topic", "will"]),
        (0x06, ["c", "will/topic"]),
        (0x06, ["c"]),
        (0x06, ["c", "will/topic", "will", "more"]),
    ],
    ids=[
        "a user name without its flag",
        "a flag without a user name",
        "a password without its flag",
        "a flag without a password",
        "a password without a user name",
        "no client id",
        "a will without its flag",
        "no will message",
        "no will",
        "something after the will",
    ],
)
def test_mqtt_3_1_4_1(broker: Broker, flags: int, fields: list[str]) -> None:
    assert answers(broker, raw_connect(*map(text, fields), flags=flags)) == []


@pytest.mark.parametrize("cut", range(2, 13))
def test_mqtt_3_1_4_1_cut_short(broker: Broker, cut: int) -> None:
    whole = raw_connect(text("c"))
    assert len(whole) == 15
    assert answers(broker, frame(0x10, whole[2:cut])) == []


@pytest.mark.parametrize(
    ("flags", "fields"),
    [
        (0x02, [b"\xed\xa0\x80"]),
        (0x06, [b"c", b"\xed\xa0\x80", b"will"]),
        (0x82, [b"c", b"\xed\xa0\x80"]),
    ],
    ids=["client id", "will topic", "user name"],
)
def test_mqtt_3_1_4_1_with_ill_formed_strings(broker: Broker, flags: int, fields: list[bytes]) -> None:
    assert answers(broker, raw_connect(*map(text, fields), flags=flags)) == []


def test_mqtt_3_1_2_22(broker: Broker) -> None:
    assert answers(broker, raw_connect(text("c"), text("password"), flags=0x42)) == []


def test_mqtt_3_1_2_24(broker: Broker) -> None:
    client = broker.connect(keep_alive_s=1)
    since_s = time.monotonic()
    assert client.expect_closed() == []
    assert 1.4 < time.monotonic() - since_s < 6


def test_mqtt_3_1_2_24_is_no_matter_for_who_pings(broker: Broker) -> None:
    """Two clients with the same keep alive: one is silent and is closed, the other says something in between."""
    client, silent = broker.connect(keep_alive_s=2), broker.connect(keep_alive_s=1)
    assert silent.expect_closed() == []
    client.ping()
    silent = broker.connect(keep_alive_s=1)
    assert silent.expect_closed() == []
    client.ping()


def test_mqtt_3_1_2_24_a_part_of_a_packet_is_no_packet(broker: Broker) -> None:
    client = broker.connect(keep_alive_s=1)
    client.send(b"\x30\x7f\x00")
    assert client.expect_closed() == []


def test_mqtt_3_1_3_2(broker: Broker) -> None:
    """The session of a client id is found by exactly this id."""
    client_id = broker.client_id()
    broker.connect(client_id, clean_session=False).disconnect()
    for other in (client_id.upper(), client_id + "0", client_id[:-1]):
        assert not broker.open().sign_in(broker.connect_packet(other)).session_present
    broker.resume(client_id)


@pytest.mark.parametrize("client_id", ["a", "0", "Z", string.ascii_lowercase[:23], string.ascii_uppercase[-23:]])
def test_mqtt_3_1_3_5(broker: Broker, client_id: str) -> None:
    broker.connect(client_id).ping()


def test_mqtt_3_1_3_5_with_every_character(broker: Broker) -> None:
    characters = string.digits + string.ascii_letters
    for start in range(0, len(characters), 23):
        broker.connect(characters[start : start + 23]).ping()


@pytest.mark.parametrize("client_id", ["with space", "größe", "a/b", "a-b_c.d:e", "x" * 128])
def test_mqtt_3_1_3_5_and_more(broker: Broker, client_id: str) -> None:
    broker.connect(client_id).ping()


def test_mqtt_3_1_3_6(broker: Broker) -> None:
    """Two nameless clients are two clients."""
    first, second = broker.connect(""), broker.connect("")
    first.ping()
    second.ping()
    first.subscribe(broker.topic(), qos=1)
    second.publish(broker.topic(), b"m", 1)
    assert first.take().payload == b"m"


def test_mqtt_3_1_3_8(broker: Broker) -> None:
    client = broker.open()
    client.send(broker.connect_packet("", clean_session=False))
    check_refused(client, ConnectReturnCode.IDENTIFIER_REJECTED)


def test_mqtt_3_1_3_9(broker: Broker) -> None:
    client = broker.open()
    client.send(broker.connect_packet("x" * 129))
    check_refused(client, ConnectReturnCode.IDENTIFIER_REJECTED)


@pytest.mark.parametrize("clean_session", [True, False])
def test_mqtt_3_1_4_2(broker: Broker, clean_session: bool) -> None:
    client_id = broker.client_id()
    older = broker.connect(client_id)
    newer = broker.connect(client_id, clean_session=clean_session)
    assert older.expect_closed() == []
    newer.ping()


def test_mqtt_3_1_4_3(broker: Broker) -> None:
    client_id = broker.client_id()
    broker.connect(client_id, clean_session=False).disconnect()
    broker.resume(client_id).disconnect()
    client = broker.connect(client_id, clean_session=True)
    client.disconnect()
    assert not broker.open().sign_in(broker.connect_packet(client_id, clean_session=False)).session_present


def test_mqtt_3_1_4_4(broker: Broker) -> None:
    client = broker.open()
    client.send(broker.connect_packet())
    assert client.read_frame() == b"\x20\x02\x00\x00"
    client.ping()


@pytest.mark.parametrize(
    "options",
    [{"client_id": "", "clean_session": False}, {"username": "nobody", "password": b"wrong"}],
    ids=["a client id that is refused", "a wrong password"],
)
def test_mqtt_3_1_4_5(broker: Broker, options: dict[str, object]) -> None:
    subscriber = watch(broker)
    client = broker.open()
    client.send(broker.connect_packet(**options), Publish(broker.topic(), b"m", retain=True), Pingreq())  # type: ignore[arg-type]
    (connack,) = client.expect_closed()
    assert isinstance(connack, Connack)
    assert connack.reason_code
    assert subscriber.remaining() == []
    assert watch(broker).remaining() == []


def test_mqtt_3_2_0_1(broker: Broker) -> None:
    """Even with answers to give and messages to send at once."""
    broker.connect().publish(broker.topic(), b"kept", 1, retain=True)
    client = broker.open()
    subscribe = frame(0x82, b"\0\1", text(broker.topic()), b"\1")
    client.send(broker.connect_packet(), Pingreq(), subscribe, Publish(broker.topic(), b"", 1, 2))
    assert client.read() == Connack(False, 0)


def test_mqtt_3_2_0_1_for_a_session_that_goes_on(broker: Broker) -> None:
    client_id = broker.client_id()
    client = broker.connect(client_id, clean_session=False)
    client.subscribe(broker.topic(), qos=1)
    client.disconnect()
    broker.connect().publish(broker.topic(), b"waiting", 1)
    client = broker.resume(client_id)
    assert client.take().payload == b"waiting"


def test_mqtt_3_2_2_1(broker: Broker) -> None:
    client_id = broker.client_id()
    broker.connect(client_id, clean_session=False).disconnect()
    client = broker.open()
    client.send(broker.connect_packet(client_id, clean_session=True))
    assert client.read_frame() == b"\x20\x02\x00\x00"


def test_mqtt_3_2_2_2(broker: Broker) -> None:
    client_id = broker.client_id()
    broker.connect(client_id, clean_session=False).disconnect()
    client = broker.open()
    client.send(broker.connect_packet(client_id, clean_session=False))
    assert client.read_frame() == b"\x20\x02\x01\x00"


def test_mqtt_3_2_2_2_while_the_old_connection_is_there(broker: Broker) -> None:
    client_id = broker.client_id()
    broker.connect(client_id, clean_session=False)
    broker.resume(client_id)


def test_mqtt_3_2_2_3(broker: Broker) -> None:
    client = broker.open()
    client.send(broker.connect_packet(clean_session=False))
    assert client.read_frame() == b"\x20\x02\x00\x00"


def test_mqtt_3_2_2_3_after_a_clean_session(broker: Broker) -> None:
    client_id = broker.client_id()
    broker.connect(client_id, clean_session=True).disconnect()
    client = broker.open()
    client.send(broker.connect_packet(client_id, clean_session=False))
    assert client.read_frame() == b"\x20\x02\x00\x00"


def test_mqtt_3_2_2_4(broker: Broker) -> None:
    """A session is there, and yet it is not said to be."""
    client_id = broker.client_id()
    broker.connect(client_id, clean_session=False).disconnect()
    client = broker.open()
    client.send(broker.connect_packet(client_id, clean_session=False, username="nobody", password=b"wrong"))
    check_refused(client, ConnectReturnCode.NOT_AUTHORIZED)


def test_mqtt_3_2_2_5(broker: Broker) -> None:
    client = broker.open()
    client.send(broker.connect_packet(username="nobody", password=b"wrong"))
    check_refused(client, ConnectReturnCode.NOT_AUTHORIZED)


@pytest.mark.parametrize(
    "packet",
    [raw_connect(text("c"), name="AMQP"), raw_connect(text("c"), text("a/+"), text("will"), flags=0x06)],
    ids=["another protocol", "a will topic with a wildcard"],
)
def test_mqtt_3_2_2_6(broker: Broker, packet: bytes) -> None:
    assert answers(broker, packet) == []
