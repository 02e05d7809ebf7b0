"""The codec under bytes led by coverage: whatever comes, a packet or MqttProtocolError; what was read can be written
and read again, to the same packet. Run it with `make fuzz`."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["headwater.mqtt"]):
    from headwater.mqtt.decode import parse_packet
    from headwater.mqtt.encode import render_packet
    from headwater.mqtt.errors import MqttProtocolError
    from headwater.mqtt.framing import parse_frame_length
    from headwater.mqtt.packets import Connack, Connect

from campaign import run
from grammar import Choices, make_connect, make_packet, spoil


def check(data: bytes) -> None:
    """One input: the first byte says which version, and whether the rest is a packet or what to make one of."""
    choices = Choices(data)
    mode = choices.below(4)
    level = 5 if mode & 1 else 4
    if mode & 2:
        raw = data[1:]
    else:
        raw = make_packet(choices, level)
        if choices.one_in(4):
            raw = spoil(choices, render_packet(make_connect(choices)))
    try:
        header = parse_frame_length(raw, 0, len(raw))
        if header is None:
            return
        start, length = header
        packet = parse_packet(raw[0], raw[start : start + length], level, max_filters=10)
    except MqttProtocolError:
        return
    if isinstance(packet, Connect):
        level = packet.level
    if getattr(packet, "unread", 0):
        return
    if isinstance(packet, Connack) and level != 5 and packet.reason_code > 5:  # read, but never written
        return
    rendered = render_packet(packet, level)
    start, length = parse_frame_length(rendered, 0, len(rendered)) or (0, 0)
    assert start + length == len(rendered), "the length is wrong"
    again = parse_packet(rendered[0], rendered[start:], level)
    assert again == packet, f"{again} is not {packet}"


if __name__ == "__main__":
    run(sys.argv, check)
