"""The reason codes of each packet, against table 2-6 written out by hand."""

from __future__ import annotations

import pytest

from headwater.mqtt.packets import PacketType
from headwater.mqtt.reason_lists import CLIENT_DISCONNECT, REASON_CODES

PUBLISHED = "00 10 80 83 87 90 91 97 99"
TABLE = {
    "CONNACK": "00 80 81 82 83 84 85 86 87 88 89 8a 8c 90 95 97 99 9a 9b 9c 9d 9f",
    "PUBACK": PUBLISHED,
    "PUBREC": PUBLISHED,
    "PUBREL": "00 92",
    "PUBCOMP": "00 92",
    "SUBACK": "00 01 02 80 83 87 8f 91 97 9e a1 a2",
    "UNSUBACK": "00 11 80 83 87 8f 91",
    "DISCONNECT": "00 04 80 81 82 83 87 89 8b 8c 8d 8e 8f 90 93 94 95 96 97 98 99 9a 9b 9c 9d 9e 9f a0 a1 a2",
    "AUTH": "00 18 19",
}


@pytest.mark.parametrize("name", TABLE)
def test_each_packet_has_its_own_codes(name: str) -> None:
    assert sorted(REASON_CODES[PacketType[name]]) == list(bytes.fromhex(TABLE[name]))


def test_no_other_packet_has_any() -> None:
    assert {packet_type.name for packet_type in REASON_CODES} == set(TABLE)


def test_a_client_may_give_fewer_reasons_for_its_disconnect() -> None:
    """Section 3.14.2.1."""
    assert sorted(CLIENT_DISCONNECT) == list(bytes.fromhex("00 04 80 81 82 83 90 93 94 95 96 97 98 99"))
