"""A long, mixed load on a broker that must lose nothing and must not grow.

Devices with persistent sessions publish numbered messages (QoS 0, 1 and 2) to each other, keep a retained state, and
come and go, with and without DISCONNECT; visitors with clean sessions read retained states in between. A watcher
collects the wills of those who went without a word. Half of the clients speak 3.1.1, half 5.0. At the end everything
that QoS 1 and 2 and wills promise must have arrived, QoS 2 exactly once. Usage:

    python benchmarks/mqtt_soak.py [--minutes 60] [--connections 2000] [--server headwater|mosquitto]

Ends with status 1 on any loss, duplicate of QoS 2, broken connection or lost session, and when the server's resident
memory grew faster than --max-slope-kb-per-min after the first sixth of the time. Runs of less than half an hour mostly
see a server warm up.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import time

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from comparison import raise_file_limit
from headwater.mqtt.packets import ProtocolLevel
from servers import Target, headwater, mosquitto
from soak_members import Device, Soak, Visitor, Watcher

VISITOR_SHARE = 0.2
SAMPLE_INTERVAL_S = 5.0
WARM_UP_SHARE = 1 / 6
MAX_SLOPE_KB_PER_MIN = 64.0
"""Less than 4 MB an hour, or 2 KB a connection."""
QUIET_S = 15.0
"""What has not come after so long without anything coming is lost."""

Samples = list[tuple[float, int]]
"""(minutes, resident bytes)."""


async def run(soak: Soak, connections: int, minutes: float, progress: Progress) -> Samples:
    """The whole soak: everybody signs up, lives, comes back for what is owed to them, and goes. Answers the server's
    memory over time."""
    levels = (ProtocolLevel.V311, ProtocolLevel.V5)
    count = connections - int(connections * VISITOR_SHARE)
    devices = [Device(soak, number, count, levels[number % 2]) for number in range(count)]
    topics = [device.state_topic for device in devices]
    visitors = [Visitor(soak, number, topics, levels[number % 2]) for number in range(connections - count)]
    watcher = Watcher(soak, "watcher", ProtocolLevel.V5)
    await watcher.enrol()
    watching = asyncio.create_task(watcher.live())
    await asyncio.gather(*(device.enrol() for device in devices))
    samples: Samples = []
    sampling = asyncio.create_task(_sample(soak.target, samples))
    async with asyncio.TaskGroup() as group:
        for member in (*devices, *visitors):
            group.create_task(member.live())
        task = progress.add_task(f"soaking {soak.target.name}", total=minutes * 60)
        ends_at_s = time.monotonic() + minutes * 60
        while (left_s := ends_at_s - time.monotonic()) > 0:
            await asyncio.sleep(min(1.0, left_s))
            faults = sum((+soak.ledger.faults).values())
            description = f"{soak.target.name}: {soak.ledger.counts['connections']:,} connections, {faults:,} faults"
            progress.update(task, completed=minutes * 60 - left_s, description=description)
        sampling.cancel()
        soak.stopping.set()
    await _settle(soak, devices)
    for device in devices:
        device.leave()
    watching.cancel()
    if watcher.client is not None:
        watcher.leave()
    return samples


async def _sample(target: Target, samples: Samples) -> None:
    started_s = time.monotonic()
    while True:
        samples.append(((time.monotonic() - started_s) / 60, target.rss_bytes()))
        await asyncio.sleep(SAMPLE_INTERVAL_S)


async def _settle(soak: Soak, devices: list[Device]) -> None:
    """Wait until nothing is owed, or nothing moves any more."""
    last, moved_at_s = (-1, -1), time.monotonic()
    while True:
        in_flight = sum(len(device.session.in_flight) for device in devices)
        owed = (soak.ledger.outstanding().total(), in_flight)
        if owed == (0, 0):
            break
        if owed != last:
            last, moved_at_s = owed, time.monotonic()
        elif time.monotonic() - moved_at_s > QUIET_S:
            break
        await asyncio.sleep(0.2)
    soak.ledger.close()
    soak.ledger.faults["exchanges never finished"] += in_flight


def slope_kb_per_min(samples: Samples, minutes: float) -> float | None:
    """Least squares through the resident memory after the warm-up; None for too few samples."""
    late = [(at_min, rss / 1024) for at_min, rss in samples if at_min >= minutes * WARM_UP_SHARE]
    if len(late) < 3:
        return None
    return statistics.linear_regression(*zip(*late, strict=True)).slope


def report(soak: Soak, samples: Samples, minutes: float, max_slope: float) -> bool:
    """Print everything; whether all is well."""
    console = Console()
    table = Table(title=f"{soak.target.name}, {minutes:g} minutes", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, count in sorted(soak.ledger.counts.items()):
        table.add_row(name, f"{count:,}")
    table.add_section()
    faults = +soak.ledger.faults
    for name, count in sorted(faults.items()):
        table.add_row(f"[bold red]{name}", f"{count:,}")
    if not faults:
        table.add_row("losses, duplicates and other faults", "0")
    table.add_section()
    slope = slope_kb_per_min(samples, minutes)
    memory = [rss for _, rss in samples]
    table.add_row("resident memory, first and last", f"{memory[0] / 2**20:,.1f} / {memory[-1] / 2**20:,.1f} MiB")
    table.add_row("slope after the warm-up", "too short a run" if slope is None else f"{slope:,.1f} KB/min")
    table.add_row("allowed", f"{max_slope:,.1f} KB/min")
    console.print(table)
    return not faults and slope is not None and slope <= max_slope


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--connections", type=int, default=2_000)
    parser.add_argument("--server", choices=("headwater", "mosquitto"), default="headwater")
    parser.add_argument(
        "--rate", type=float, default=1_000.0, help="messages published per second, all clients together"
    )
    parser.add_argument("--life", type=float, default=30.0, help="mean seconds that a client stays connected")
    parser.add_argument("--max-slope-kb-per-min", type=float, default=MAX_SLOPE_KB_PER_MIN)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    raise_file_limit()
    interval_s = arguments.connections * (1 - VISITOR_SHARE) / arguments.rate
    start = headwater if arguments.server == "headwater" else mosquitto
    with start() as target, Progress(transient=True) as progress:
        soak = Soak(target, arguments.life, interval_s, random.Random(arguments.seed))
        samples = asyncio.run(run(soak, arguments.connections, arguments.minutes, progress))
    sys.exit(0 if report(soak, samples, arguments.minutes, arguments.max_slope_kb_per_min) else 1)


if __name__ == "__main__":
    main()
