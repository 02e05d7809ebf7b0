"""What a packet may begin with: every byte, at every level, against the tables of the specifications written out."""

from __future__ import annotations

import pytest

from headwater.mqtt.errors import MqttProtocolError
from headwater.mqtt.first_bytes import PUBLISH_FIRST_BYTES, check_first_byte
from headwater.mqtt.packets import PacketType
from headwater.mqtt.reason_codes import ReasonCode

PUBLISHES = {0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x3A, 0x3B, 0x3C, 0x3D}
OTHERS = {0x10, 0x20, 0x40, 0x50, 0x62, 0x70, 0x82, 0x90, 0xA2, 0xB0, 0xC0, 0xD0, 0xE0}
POSSIBLE = {
    3: PUBLISHES | OTHERS | {byte | 0x08 for byte in OTHERS},
    4: PUBLISHES | OTHERS,
    5: PUBLISHES | OTHERS | {0xF0},
}
"""By level; MQTT 3.1 sets DUP in any packet that is sent again."""


def is_possible(first_byte: int, level: int) -> bool:
    try:
        return check_first_byte(first_byte, level) is PacketType(first_byte >> 4)
    except MqttProtocolError:
        return False


@pytest.mark.parametrize("level", [3, 4, 5])
def test_2_1_3_1_every_first_byte(level: int) -> None:
    """[MQTT-2.1.3-1] of 5.0, [MQTT-2.2.2-1] and [MQTT-2.2.2-2] of 3.1.1"""
    assert {byte for byte in range(256) if is_possible(byte, level)} == POSSIBLE[level]


def test_the_short_list_of_the_loop_is_the_whole_one() -> None:
    assert PUBLISH_FIRST_BYTES == PUBLISHES


def test_a_reserved_type_is_another_fault_than_wrong_flags() -> None:
    for first_byte, level, code in (
        (0x00, 4, ReasonCode.PROTOCOL_ERROR),
        (0x0A, 5, ReasonCode.PROTOCOL_ERROR),
        (0xF0, 4, ReasonCode.PROTOCOL_ERROR),
        (0xF1, 5, ReasonCode.MALFORMED_PACKET),
        (0x80, 5, ReasonCode.MALFORMED_PACKET),
    ):
        with pytest.raises(MqttProtocolError) as caught:
            check_first_byte(first_byte, level)
        assert caught.value.reason_code == code
