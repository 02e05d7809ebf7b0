"""Headwater and Mosquitto 2 as brokers: the same loads, in turn, several times, in one run on one machine.

Topics are plain ones (nothing is stored); `mqtt_ingest.py` measures the durable path. Mosquitto runs without
persistence and, but for the connection load, without authentication; Headwater always authenticates. Usage:

    python benchmarks/mqtt_broker.py [--only fan-out-1-1] [--seconds 3] [--rounds 3]

Ends with status 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import functools
import time

from comparison import Load, Measured, add_arguments, compare
from mqtt_exchanges import connect_and_leave, exchange, qos1_script, qos2_script
from mqtt_fan_out import fan_out
from mqtt_load import connect, publish_qos0, render_blocks
from servers import Target, headwater, mosquitto

INGEST_CONNECTIONS = 10
INGEST_BLOCKS = 4
"""2,000 different packets a connection, sent over and over."""
REQUEST_CONNECTIONS = 1_000
QOS2_CONNECTIONS = 50
QOS2_WINDOW = 10
VISITORS = 16
IDLE_CONNECTIONS = 10_000
IDLE_TARGET_BYTES = 4 * 1024
WARM_CONNECTIONS = 200


def ingest_qos0(target: Target, seconds: float) -> Measured:
    topics = [f"plant/{n}/climate" for n in range(INGEST_CONNECTIONS)]
    blocks = [render_blocks(topic, 0, seed, INGEST_BLOCKS) for seed, topic in enumerate(topics)]
    clients = [connect(target, f"sensor-{n}") for n in range(INGEST_CONNECTIONS)]
    return publish_qos0(clients, topics, blocks, seconds)[0]


def request_response_qos1(target: Target, seconds: float) -> Measured:
    scripts = [qos1_script(f"plant/{n}/climate") for n in range(REQUEST_CONNECTIONS)]
    return exchange(target, scripts, 1, seconds)


def round_trips_qos2(target: Target, seconds: float) -> Measured:
    scripts = [qos2_script(f"plant/{n}/climate", QOS2_WINDOW) for n in range(QOS2_CONNECTIONS)]
    return exchange(target, scripts, QOS2_WINDOW, seconds)


def visit(target: Target, seconds: float) -> Measured:
    return connect_and_leave(target, VISITORS, seconds)


def idle(target: Target, _seconds: float) -> Measured:
    """Growth of resident memory per connection that has signed in and says nothing."""
    warm = [connect(target, f"warm-{n}") for n in range(WARM_CONNECTIONS)]
    time.sleep(1)
    before = target.rss_bytes()
    clients = [connect(target, f"idle-{n}") for n in range(IDLE_CONNECTIONS)]
    time.sleep(2)
    after = target.rss_bytes()
    for client in (*warm, *clients):
        client.close()
    return Measured((after - before) / IDLE_CONNECTIONS)


def _fan_out(publishers: int, subscribers: int, window: int, messages_per_write: int, least_ratio: float) -> Load:
    return Load(
        f"fan-out-{publishers}-{subscribers}",
        f"QoS 0, {publishers} to {subscribers}",
        lambda target, seconds: fan_out(
            target, publishers, subscribers, seconds, window=window, messages_per_write=messages_per_write
        ),
        headwater,
        mosquitto,
        least_ratio,
    )


LOADS = [
    Load("ingest-qos0", f"QoS 0 in, {INGEST_CONNECTIONS} connections", ingest_qos0, headwater, mosquitto, 2.0),
    _fan_out(1, 1, window=4_000, messages_per_write=500, least_ratio=2.0),
    _fan_out(1, 100, window=1_000, messages_per_write=100, least_ratio=1.0),
    _fan_out(100, 1, window=4_000, messages_per_write=20, least_ratio=1.0),
    Load(
        "request-qos1",
        f"QoS 1, one at a time, {REQUEST_CONNECTIONS:,} connections",
        request_response_qos1,
        headwater,
        functools.partial(mosquitto, no_delay=True),
        0.9,
    ),
    Load(
        "round-trip-qos2",
        f"QoS 2, {QOS2_WINDOW} at a time, {QOS2_CONNECTIONS} connections",
        round_trips_qos2,
        headwater,
        functools.partial(mosquitto, no_delay=True),
        0.8,
    ),
    Load(
        "connect",
        "connections with password, made and ended",
        visit,
        headwater,
        functools.partial(mosquitto, with_password=True, no_delay=True),
        0.7,
    ),
    Load(
        "idle",
        f"memory a connection, {IDLE_CONNECTIONS:,} idle",
        idle,
        headwater,
        mosquitto,
        most=IDLE_TARGET_BYTES,
        unit=" B",
        rounds=1,
    ),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, [load.name for load in LOADS])
    compare("Broker", "Mosquitto", LOADS, parser.parse_args())


if __name__ == "__main__":
    main()
