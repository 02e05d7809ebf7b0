"""A message on its way: sizes, expiry, and bytes that are rendered once for many."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headwater.mqtt.decode import parse_packet
from headwater.mqtt.encode import render_packet
from headwater.mqtt.framing import parse_frame_length
from headwater.mqtt.message import Message, message_of, render_qos0
from headwater.mqtt.packets import PropertyId, Publish
from headwater.mqtt.properties import render_property_list
from headwater.mqtt.publish_properties import PublishProperties

from .strategies import payloads, topic_names


def parse(packet: bytes, level: int) -> object:
    header = parse_frame_length(packet, 0, len(packet))
    assert header is not None
    assert sum(header) == len(packet)
    return parse_packet(packet[0], packet[header[0] :], level)


@given(topic_names, st.one_of(payloads, st.integers(100, 20_000).map(bytes)), st.booleans())
def test_the_quick_form_is_the_one_of_the_encoder(topic: str, payload: bytes, retain: bool) -> None:
    expected = render_packet(Publish(topic, payload, retain=retain))
    assert render_qos0(topic.encode(), payload, retain=retain) == expected


def test_a_packet_is_rendered_once_for_all_who_get_the_same() -> None:
    properties = {PropertyId.CONTENT_TYPE: "text/plain", PropertyId.USER_PROPERTY: (("unit", "°C"),)}
    message = Message("room/temp", b"room/temp", b"21", 1, True, render_property_list(properties))
    assert parse(message.packet4(), 4) == Publish("room/temp", b"21")
    assert parse(message.packet5(), 5) == Publish("room/temp", b"21", properties=properties)
    assert message.packet4() is message.packet4()
    assert message.packet5() is message.packet5()


def test_what_a_message_takes_from_its_publish() -> None:
    plain = message_of("t", b"t", b"x", 0b1011, None, 100.0)
    assert (plain.qos, plain.retain, plain.expires_at_s, plain.properties) == (1, True, None, b"")
    lasting = message_of("t", b"t", b"x", 0b0100, PublishProperties(b"\x03\x00\x01t", 30, 7), 100.0)
    assert (lasting.qos, lasting.retain, lasting.expires_at_s) == (2, False, 130.0)
    assert lasting.properties == b"\x03\x00\x01t", "an alias is the connection's, not the message's"
    assert lasting.size == len(b"t") + len(b"x") + len(b"\x03\x00\x01t")


def test_3_3_2_5_a_message_expires() -> None:
    """[MQTT-3.3.2-5] [MQTT-3.3.2-6]"""
    message = message_of("t", b"t", b"x", 0, PublishProperties(expiry_s=30), 100.0)
    assert not message.is_expired(129.9)
    assert message.is_expired(130.0)
    assert [message.remaining_s(now_s) for now_s in (100.0, 100.4, 110.0, 130.0, 500.0)] == [30, 30, 20, 0, 0]
    for_ever = message_of("t", b"t", b"x", 0, PublishProperties(), 100.0)
    assert not for_ever.is_expired(1e12)
    assert for_ever.remaining_s(1e12) is None


def test_no_message_lasts_longer_than_the_limit() -> None:
    for expiry_s, expires_at_s in (
        (30, 130.0),
        (60, 160.0),
        (61, 160.0),
        (0xFFFF_FFFF, 160.0),
        (None, 160.0),
        (0, 100.0),
    ):
        given = PublishProperties(expiry_s=expiry_s)
        assert message_of("t", b"t", b"x", 2, given, 100.0, max_expiry_s=60).expires_at_s == expires_at_s
    assert message_of("t", b"t", b"x", 2, None, 100.0, max_expiry_s=60).expires_at_s == 160.0
    assert message_of("t", b"t", b"x", 2, None, 100.0).expires_at_s is None
