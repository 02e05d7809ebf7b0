"""The data types of packets, at their edges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.mqtt import fields
from headwater.mqtt.errors import MalformedPacket

from .strategies import texts


@given(st.integers(0, fields.MAX_VARIABLE_INT))
def test_a_variable_byte_integer_survives_the_wire(value: int) -> None:
    wire = fields.render_variable_int(value)
    assert fields.parse_variable_int(b"\xff" + wire + b"\xff", 1, 1 + len(wire)) == (value, 1 + len(wire))


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (0, "00"),
        (127, "7f"),
        (128, "8001"),
        (16_383, "ff7f"),
        (16_384, "808001"),
        (2_097_151, "ffff7f"),
        (2_097_152, "80808001"),
        (268_435_455, "ffffff7f"),
    ],
)
def test_variable_byte_integers_at_the_edges_of_table_1_1(value: int, wire: str) -> None:
    assert fields.render_variable_int(value) == bytes.fromhex(wire)
    assert fields.parse_variable_int(bytes.fromhex(wire), 0, len(wire) // 2) == (value, len(wire) // 2)


@pytest.mark.parametrize("wire", ["8000", "ff00", "808000", "80808000"])
def test_mqtt_1_5_5_1_a_variable_byte_integer_is_as_short_as_can_be(wire: str) -> None:
    with pytest.raises(MalformedPacket, match="longer than it need be") as caught:
        fields.parse_variable_int(bytes.fromhex(wire), 0, len(wire) // 2)
    assert caught.value.reason_code == 0x81


@pytest.mark.parametrize("wire", ["8080808001", "ffffffff7f", "80808080", "ffffffffff"])
def test_a_variable_byte_integer_of_five_bytes_does_not_exist(wire: str) -> None:
    """Section 1.5.5."""
    with pytest.raises(MalformedPacket, match="more than four bytes"):
        fields.parse_variable_int(bytes.fromhex(wire), 0, len(wire) // 2)


Parse = Callable[[bytes, int, int], tuple[Any, int]]
WHOLE: list[tuple[Parse, bytes, Any]] = [
    (fields.parse_byte, b"\x7f", 127),
    (fields.parse_uint16, b"\x01\x02", 258),
    (fields.parse_uint32, b"\x01\x02\x03\x04", 16_909_060),
    (fields.parse_variable_int, b"\x80\x80\x80\x01", 2_097_152),
    (fields.parse_binary, b"\x00\x02\x00\xff", b"\x00\xff"),
    (fields.parse_string, b"\x00\x02\xc3\xa9", "é"),
    (fields.parse_string_pair, b"\x00\x01a\x00\x01b", ("a", "b")),
]


@pytest.mark.parametrize(("parse", "wire", "value"), WHOLE, ids=lambda v: getattr(v, "__name__", ""))
def test_a_field_that_is_cut_short_is_refused(parse: Parse, wire: bytes, value: Any) -> None:
    """However many bytes follow: what counts is where the field must stop."""
    assert parse(wire, 0, len(wire)) == (value, len(wire))
    for stop in range(len(wire)):
        with pytest.raises(MalformedPacket, match="in the middle of a field"):
            parse(wire, 0, stop)


@given(texts, texts, st.binary(max_size=100), st.integers(0, 65_535), st.integers(0, 2**32 - 1), st.integers(0, 255))
def test_each_type_survives_the_wire(name: str, value: str, data: bytes, short: int, long: int, byte: int) -> None:
    for parse, wire, expected in (
        (fields.parse_string, fields.render_string(name), name),
        (fields.parse_string_pair, fields.render_string_pair((name, value)), (name, value)),
        (fields.parse_binary, fields.render_binary(data), data),
        (fields.parse_uint16, fields.render_uint16(short), short),
        (fields.parse_uint32, fields.render_uint32(long), long),
        (fields.parse_byte, fields.render_byte(byte), byte),
    ):
        assert parse(wire, 0, len(wire)) == (expected, len(wire))


@pytest.mark.parametrize(
    ("render", "value"),
    [
        (fields.render_byte, 256),
        (fields.render_uint16, 65_536),
        (fields.render_uint16, -1),
        (fields.render_uint32, 1 << 32),
        (fields.render_variable_int, fields.MAX_VARIABLE_INT + 1),
        (fields.render_variable_int, -1),
        (fields.render_binary, bytes(65_536)),
        (fields.render_string, "é" * 32_768),
        (fields.render_string, "\ud800"),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_what_a_type_cannot_hold_is_a_value_error(render: Callable[[Any], bytes], value: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the texts differ
        render(value)
