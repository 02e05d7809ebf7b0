"""Ingest over MQTT: Headwater stores every entry durably; Mosquitto beside it only takes and acknowledges messages.

Both are measured in turn, several times, in one run on one machine, with the same bytes from the same publisher.
Every connection writes to a channel of its own. Usage:

    python benchmarks/mqtt_ingest.py [--seconds 5] [--rounds 3] [--connections 10] [--idle 5000]
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from mqtt_load import BLOCKS, PACKETS_PER_BLOCK, connect, publish_qos0, publish_qos1, render_blocks
from servers import Target, headwater, mosquitto

QOS1_TARGET = 0.75
IDLE_TARGET_BYTES = 6 * 1024
WINDOW = 5_000
"""Unacknowledged messages a connection; far from filling a packet identifier space of 65,535."""
QOS0_ROUNDS = 2


def topics_of(target: Target, connections: int, run: str) -> list[str]:
    if target.http_port is None:
        return [f"channels/{n}/publish" for n in range(connections)]
    return [f"channels/{target.create_channel(f'{run} {n}')}/publish" for n in range(connections)]


def measure_qos1(target: Target, connections: int, seconds: float, run: str) -> float:
    topics = topics_of(target, connections, run)
    blocks = [render_blocks(topic, 1, seed) for seed, topic in enumerate(topics)]
    clients = [connect(target, f"{run}-{n}") for n in range(connections)]
    rate, acknowledged = publish_qos1(clients, blocks, WINDOW, seconds)
    for client in clients:
        client.close()
    _expect(target, topics, acknowledged)
    return rate.per_s


def measure_qos0(target: Target, connections: int, seconds: float, run: str) -> float:
    topics = topics_of(target, connections, run)
    blocks = [render_blocks(topic, 0, seed) for seed, topic in enumerate(topics)]
    clients = [connect(target, f"{run}-{n}") for n in range(connections)]
    rate = publish_qos0(clients, topics, blocks, QOS0_ROUNDS)
    for client in clients:
        client.close()
    _expect(target, topics, [QOS0_ROUNDS * BLOCKS * PACKETS_PER_BLOCK + 1] * connections)
    return rate.per_s


def _expect(target: Target, topics: list[str], entries: list[int]) -> None:
    """Every message that was taken must have become an entry on disk."""
    for topic, count in zip(topics, entries, strict=True):
        target.expect_entries(int(topic.split("/")[1]), count)


def measure_idle(target: Target, connections: int) -> float:
    """Growth of resident memory per connection that has signed in and says nothing."""
    warm = [connect(target, f"warm-{n}") for n in range(200)]
    time.sleep(1)
    before = target.rss_bytes()
    idle = [connect(target, f"idle-{n}") for n in range(connections)]
    time.sleep(2)
    after = target.rss_bytes()
    for client in (*warm, *idle):
        client.close()
    return (after - before) / connections


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each QoS 1 measurement lasts")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each kind; the median counts")
    parser.add_argument("--connections", type=int, default=10)
    parser.add_argument("--idle", type=int, default=5_000, help="idle connections; 0 leaves that part out")
    arguments = parser.parse_args()
    _raise_file_limit()

    rates: dict[tuple[str, str], list[float]] = {}
    measures: list[tuple[str, Callable[[Target, int, float, str], float]]] = [
        ("QoS 0", measure_qos0),
        ("QoS 1", measure_qos1),
    ]
    memory: dict[str, float] = {}
    with Progress(transient=True) as progress:
        task = progress.add_task("measuring", total=2 * len(measures) * arguments.rounds + 2 * bool(arguments.idle))
        for round_number in range(arguments.rounds):
            for name, measure in measures:
                servers = (headwater, mosquitto) if round_number % 2 == 0 else (mosquitto, headwater)
                for start in servers:
                    with start() as target:
                        run = f"{name}-{round_number}"
                        rate = measure(target, arguments.connections, arguments.seconds, run)
                        rates.setdefault((name, target.name), []).append(rate)
                    progress.advance(task)
        if arguments.idle:
            for start in (headwater, mosquitto):
                with start() as target:
                    memory[target.name] = measure_idle(target, arguments.idle)
                progress.advance(task)
    _print(rates, memory, arguments)


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _print(rates: dict[tuple[str, str], list[float]], memory: dict[str, float], arguments: argparse.Namespace) -> None:
    console = Console()
    table = Table(title=f"Two-field entries from {arguments.connections} connections, median of {arguments.rounds}")
    for column in ("load", "Headwater, stored durably", "Mosquitto, acknowledged", "ratio", "target"):
        table.add_column(column, justify="left" if column == "load" else "right")
    for name in ("QoS 0", "QoS 1"):
        ours, theirs = (statistics.median(rates[name, server]) for server in ("headwater", "mosquitto"))
        target = f">= {QOS1_TARGET}" if name == "QoS 1" else ""
        table.add_row(name, f"{ours:,.0f}/s", f"{theirs:,.0f}/s", f"{ours / theirs:.2f}", target)
    if memory:
        ours, theirs = memory["headwater"], memory["mosquitto"]
        table.add_row(
            f"memory per idle connection ({arguments.idle:,})",
            f"{ours:,.0f} B",
            f"{theirs:,.0f} B",
            f"{ours / theirs:.2f}",
            f"< {IDLE_TARGET_BYTES:,} B",
        )
    console.print(table)


if __name__ == "__main__":
    main()
