"""Whole connections under bytes led by coverage: several clients of two accounts and every version, on one broker
without sockets (`tests/hostile/world.py`, which says what must hold). Run it with `make fuzz`."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["headwater.mqtt", "headwater.broker"]):
    from headwater.broker.broker import Broker  # noqa: F401 - to be watched
    from headwater.mqtt.encode import render_packet

from campaign import run
from grammar import Choices, make_connect, make_packet

from hostile.test_sessions_machine import SMALL
from hostile.world import SteppedTransport, World

MAX_CLIENTS = 5
MAX_STEPS = 60


def check(data: bytes) -> None:
    """One input: a world, some steps, and its end."""
    choices = Choices(data)
    world = World(SMALL)
    for _ in range(MAX_STEPS):
        if choices.is_used_up:
            break
        _step(choices, world)
    world.check_end()


def _step(choices: Choices, world: World) -> None:
    what = choices.below(32)
    clients = world.clients
    if not clients or (what == 0 and len(clients) < MAX_CLIENTS):
        client = world.connect()
        world.feed(client, render_packet(make_connect(choices)))
        return
    client = choices.of(clients)
    match what:
        case 1:
            world.commit()
        case 2:
            world.commit(fails=True)
        case 3:
            world.advance(choices.of((0.1, 5.0, 60.0, 2_000.0)))
        case 4:
            world.lose(client)
        case 5:
            world.stop_reading(client)
        case 6:
            world.read_again(client)
        case 7:
            world.feed(client, choices.take(1 + choices.below(30)))
        case 8:
            if choices.one_in(4):
                world.crash()
        case 9 | 10 | 11 | 12:
            _acknowledge(choices, world, client)
        case _:
            level = client.connection.protocol.level
            packets = b"".join(make_packet(choices, level) for _ in range(1 + choices.below(4)))
            if choices.one_in(4):  # in two parts
                cut = choices.below(len(packets)) if packets else 0
                world.feed(client, packets[:cut])
                packets = packets[cut:]
            world.feed(client, packets)


def _acknowledge(choices: Choices, world: World, client: SteppedTransport) -> None:
    owed = client.watcher.to_acknowledge
    count = 1 + choices.below(4)
    taken, owed[:] = owed[:count], owed[count:]
    world.feed(client, b"".join(render_packet(packet, client.connection.protocol.level) for packet in taken))


if __name__ == "__main__":
    run(sys.argv, check)
