"""Table 2-4 of MQTT 5.0, written out by hand: an example of each property, and where it may stand."""

from __future__ import annotations

from typing import Any, NamedTuple

from headwater.mqtt.packets import PacketType, PropertyId
from headwater.mqtt.properties import WILL, Carrier

CARRIERS: list[Carrier] = [WILL, *(t for t in PacketType if t not in (PacketType.PINGREQ, PacketType.PINGRESP))]
"""Everything that has a section of properties."""


class Row(NamedTuple):
    wire: bytes
    value: Any
    carriers: frozenset[Carrier]

    @property
    def identifier(self) -> PropertyId:
        return PropertyId(self.wire[0])


def _row(wire: str, value: Any, *names: str) -> Row:
    carriers: list[Carrier] = [WILL if name == WILL else PacketType[name] for name in names]
    return Row(bytes.fromhex(wire), value, frozenset(carriers))


_ACKNOWLEDGEMENTS = ("PUBACK", "PUBREC", "PUBREL", "PUBCOMP")
_ANSWERS = ("CONNACK", *_ACKNOWLEDGEMENTS, "SUBACK", "UNSUBACK", "DISCONNECT", "AUTH")

ROWS = [
    _row("01 01", 1, "PUBLISH", "will"),
    _row("02 00000e10", 3600, "PUBLISH", "will"),
    _row("03 0003 612f62", "a/b", "PUBLISH", "will"),
    _row("08 0003 722f31", "r/1", "PUBLISH", "will"),
    _row("09 0002 00ff", b"\x00\xff", "PUBLISH", "will"),
    _row("0b ffffff7f", (268_435_455,), "PUBLISH", "SUBSCRIBE"),
    _row("11 ffffffff", 0xFFFFFFFF, "CONNECT", "CONNACK", "DISCONNECT"),
    _row("12 0002 6964", "id", "CONNACK"),
    _row("13 003c", 60, "CONNACK"),
    _row("15 0001 6d", "m", "CONNECT", "CONNACK", "AUTH"),
    _row("16 0001 64", b"d", "CONNECT", "CONNACK", "AUTH"),
    _row("17 00", 0, "CONNECT"),
    _row("18 0000000a", 10, "will"),
    _row("19 01", 1, "CONNECT"),
    _row("1a 0001 69", "i", "CONNACK"),
    _row("1c 0001 73", "s", "CONNACK", "DISCONNECT"),
    _row("1f 0003 776879", "why", *_ANSWERS),
    _row("21 0014", 20, "CONNECT", "CONNACK"),
    _row("22 0000", 0, "CONNECT", "CONNACK"),
    _row("23 ffff", 65_535, "PUBLISH"),
    _row("24 01", 1, "CONNACK"),
    _row("25 00", 0, "CONNACK"),
    _row(
        "26 0001 6e 0001 76",
        (("n", "v"),),
        "CONNECT",
        *_ANSWERS,
        "PUBLISH",
        "will",
        "SUBSCRIBE",
        "UNSUBSCRIBE",
    ),
    _row("27 00000001", 1, "CONNECT", "CONNACK"),
    _row("28 01", 1, "CONNACK"),
    _row("29 00", 0, "CONNACK"),
    _row("2a 01", 1, "CONNACK"),
]


def in_company(row: Row) -> bytes:
    """The example with what it cannot be without: authentication data needs a method."""
    return b"\x15\x00\x01m" + row.wire if row.identifier is PropertyId.AUTHENTICATION_DATA else row.wire


def section(properties: bytes) -> bytes:
    """Fewer than 128 bytes of properties, with their length in front."""
    return bytes((len(properties),)) + properties


def packet_with(carrier: Carrier, properties: bytes) -> tuple[int, bytes]:
    """First byte and body of an otherwise faultless packet that holds a section of properties as it is given."""
    if carrier == WILL:
        return 0x10, b"\0\4MQTT\5\x06\0\0\0\0\1c" + properties + b"\0\1t\0\0"
    before, after = {
        PacketType.CONNECT: (b"\0\4MQTT\5\2\0\0", b"\0\1c"),
        PacketType.CONNACK: (b"\0\0", b""),
        PacketType.PUBLISH: (b"\0\1t", b""),
        PacketType.SUBSCRIBE: (b"\0\1", b"\0\1t\0"),
        PacketType.SUBACK: (b"\0\1", b"\0"),
        PacketType.UNSUBSCRIBE: (b"\0\1", b"\0\1t"),
        PacketType.UNSUBACK: (b"\0\1", b"\0"),
        PacketType.DISCONNECT: (b"\0", b""),
        PacketType.AUTH: (b"\0", b""),
    }.get(carrier, (b"\0\1\0", b""))
    flags = 2 if carrier in (PacketType.PUBREL, PacketType.SUBSCRIBE, PacketType.UNSUBSCRIBE) else 0
    return carrier << 4 | flags, before + properties + after
