"""Ingest over MQTT: Headwater stores every entry durably; Mosquitto beside it only takes and acknowledges messages.

Both are measured in turn, several times, in one run on one machine, with the same bytes from the same publisher.
Every connection writes to a channel of its own. Usage:

    python benchmarks/mqtt_ingest.py [--only qos1] [--seconds 3] [--rounds 3] [--connections 10]

Ends with status 1 when a target is missed.
"""

from __future__ import annotations

import argparse

from comparison import Load, Measured, add_arguments, compare
from mqtt_load import connect, publish_qos0, publish_qos1, render_blocks
from servers import Target, headwater, mosquitto

QOS1_TARGET = 1.0
WINDOW = 5_000
"""Unacknowledged messages a connection; far from filling a packet identifier space of 65,535."""


def measure(target: Target, qos: int, connections: int, seconds: float) -> Measured:
    """Every message that was taken must be found as an entry on disk, or the server's stop fails."""
    topics = _topics(target, connections)
    blocks = [render_blocks(topic, qos, seed) for seed, topic in enumerate(topics)]
    clients = [connect(target, f"sensor-{n}") for n in range(connections)]
    if qos:
        measured, taken = publish_qos1(clients, blocks, WINDOW, seconds)
    else:
        measured, taken = publish_qos0(clients, topics, blocks, seconds)
    for topic, count in zip(topics, taken, strict=True):
        target.expect_entries(int(topic.split("/")[1]), count)
    return measured


def _topics(target: Target, connections: int) -> list[str]:
    if target.http_port is None:
        return [f"channels/{n}/publish" for n in range(connections)]
    return [f"channels/{target.create_channel(f'sensor {n}')}/publish" for n in range(connections)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, ["qos0", "qos1"])
    parser.add_argument("--connections", type=int, default=10)
    arguments = parser.parse_args()

    def load(qos: int, title: str, least_ratio: float | None) -> Load:
        def put(target: Target, seconds: float) -> Measured:
            return measure(target, qos, arguments.connections, seconds)

        return Load(f"qos{qos}", title, put, headwater, mosquitto, least_ratio)

    loads = [load(0, "QoS 0", None), load(1, f"QoS 1, {WINDOW:,} unacknowledged at most", QOS1_TARGET)]
    title = f"Two-field entries from {arguments.connections} connections: stored durably beside acknowledged"
    compare(title, "Mosquitto", loads, arguments)


if __name__ == "__main__":
    main()
