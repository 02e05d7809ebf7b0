"""The data types that packets are made of (5.0 section 1.5), bytes to values and back. Knows no packet.

Each `parse_*` takes the bytes, where to begin and where they stop, and answers the value and the position after it, or
raises MalformedPacket. Each `render_*` raises ValueError for what the type cannot hold.
"""

from __future__ import annotations

from headwater.mqtt.errors import MalformedPacket
from headwater.mqtt.topics import parse_text

MAX_VARIABLE_INT = 268_435_455
"""Four bytes of seven bits (5.0 section 1.5.5)."""
_MAX_VARIABLE_INT_BYTES = 4


def parse_byte(data: bytes, position: int, stop: int) -> tuple[int, int]:
    if position >= stop:
        raise _cut_short()
    return data[position], position + 1


def parse_uint16(data: bytes, position: int, stop: int) -> tuple[int, int]:
    after = position + 2
    if after > stop:
        raise _cut_short()
    return data[position] << 8 | data[position + 1], after


def parse_uint32(data: bytes, position: int, stop: int) -> tuple[int, int]:
    after = position + 4
    if after > stop:
        raise _cut_short()
    return int.from_bytes(data[position:after], "big"), after


def parse_variable_int(data: bytes, position: int, stop: int) -> tuple[int, int]:
    """A variable byte integer of MQTT 5.0: at most four bytes, and no more than the value needs [MQTT-1.5.5-1].

    3.1.1 asks for no shortest form of its Remaining Length, so there a longer one is accepted; who cuts a stream into
    packets decides that, not this function.
    """
    if position < stop and data[position] < 0x80:  # nearly always
        return data[position], position + 1
    value = shift = 0
    for index in range(position, min(position + _MAX_VARIABLE_INT_BYTES, stop)):
        digit = data[index]
        value |= (digit & 0x7F) << shift
        if digit < 0x80:
            if shift and not digit:
                raise MalformedPacket("a variable byte integer is longer than it need be")
            return value, index + 1
        shift += 7
    if stop - position >= _MAX_VARIABLE_INT_BYTES:
        raise MalformedPacket("a variable byte integer has more than four bytes")
    raise _cut_short()


def parse_binary(data: bytes, position: int, stop: int) -> tuple[bytes, int]:
    """Binary data behind its length in two bytes."""
    length, start = parse_uint16(data, position, stop)
    after = start + length
    if after > stop:
        raise _cut_short()
    return data[start:after], after


def parse_string(data: bytes, position: int, stop: int) -> tuple[str, int]:
    """A UTF-8 encoded string; `topics.parse_text` says which characters are accepted."""
    raw, after = parse_binary(data, position, stop)
    return parse_text(raw), after


def parse_string_pair(data: bytes, position: int, stop: int) -> tuple[tuple[str, str], int]:
    name, position = parse_string(data, position, stop)
    value, position = parse_string(data, position, stop)
    return (name, value), position


def render_byte(value: int) -> bytes:
    return _render_uint(value, 1)


def render_uint16(value: int) -> bytes:
    return _render_uint(value, 2)


def render_uint32(value: int) -> bytes:
    return _render_uint(value, 4)


def render_variable_int(value: int) -> bytes:
    """In the fewest bytes that hold it."""
    if 0 <= value < 0x80:  # nearly every packet and property section
        return bytes((value,))
    if not 0 <= value <= MAX_VARIABLE_INT:
        raise ValueError(f"a variable byte integer is 0 to {MAX_VARIABLE_INT}")
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def render_binary(value: bytes) -> bytes:
    if len(value) > 0xFFFF:
        raise ValueError("a field of the protocol can hold 65,535 bytes")
    return len(value).to_bytes(2, "big") + value


def render_string(value: str) -> bytes:
    return render_binary(value.encode("utf-8"))


def render_string_pair(value: tuple[str, str]) -> bytes:
    return render_string(value[0]) + render_string(value[1])


def _render_uint(value: int, length: int) -> bytes:
    if not 0 <= value < 1 << 8 * length:
        raise ValueError(f"a number in {length} bytes is 0 to {(1 << 8 * length) - 1}")
    return value.to_bytes(length, "big")


def _cut_short() -> MalformedPacket:
    return MalformedPacket("a packet ends in the middle of a field")
