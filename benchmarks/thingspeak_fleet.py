"""A fleet of ThingSpeak devices: each connected over MQTT with credentials of its own, each sending one update a second
with QoS 1 to a channel of its own.

Some of them are asked over REST for what they have just published: that is when an update counts as readable. At the
end every update must be on disk. Usage:

    python benchmarks/thingspeak_fleet.py [--devices 10000] [--seconds 300]

Ends with status 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from comparison import raise_file_limit
from fleet_members import Member, Prober, Published, Publishers, furnish
from servers import Target, headwater

MOST_UNTIL_READABLE_S = 0.25
"""Of 99 of 100."""
PROBED = 20


class Usage:
    """Processor time and memory of the server from here on."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._before_s = self._cpu_s()
        self.rss_before_bytes = target.rss_bytes()

    def _cpu_s(self) -> float:
        fields = Path(f"/proc/{self._target.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def cpu_s(self) -> float:
        return self._cpu_s() - self._before_s


def run(devices: int, seconds: int) -> bool:
    """The whole run; whether every target was met."""
    members: list[Member] = []
    with Progress(transient=True) as progress:
        making = progress.add_task("making channels and devices", total=devices)
        with headwater(lambda data: members.extend(furnish(data, devices, lambda: progress.advance(making)))) as target:
            assert target.http_port is not None
            signing_in = progress.add_task("signing in", total=devices - PROBED)
            publishers = Publishers(members[PROBED:], target.mqtt_port, lambda: progress.advance(signing_in))
            prober = Prober(members[:PROBED], target.mqtt_port, target.http_port, seconds)
            usage = Usage(target)
            publishing = progress.add_task("publishing", total=seconds)
            published = publishers.publish(seconds, lambda: progress.advance(publishing))
            probed, readable_s = prober.result()
            cpu_s, rss_bytes = usage.cpu_s(), target.rss_bytes()
            publishers.close()
            for member, sent in zip(members, [*probed, *published.sent], strict=True):
                target.expect_entries(member.channel_id, sent)
    # Here the server has stopped, and what it acknowledged was counted in its files.
    return report(published, readable_s, seconds, cpu_s, usage.rss_before_bytes, rss_bytes)


def report(
    published: Published, readable_s: list[float], seconds: int, cpu_s: float, rss_before: int, rss_after: int
) -> bool:
    sent, devices = sum(published.sent) + len(readable_s), len(published.sent) + PROBED
    table = Table(title=f"{devices:,} devices, one update a second each, {seconds} s", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_row("updates sent, all found on disk", f"{sent:,}")
    table.add_row("publish to acknowledged: median, 99 %, most", _milliseconds(published.waits_s))
    table.add_row("publish to readable: median, 99 %, most", _milliseconds(readable_s))
    table.add_row("the load was late by, at most", f"{published.late_s * 1000:,.0f} ms")
    table.add_row("processor time of the server", f"{cpu_s / seconds:.0%} of one core")
    table.add_row("memory of the server, before and after", f"{rss_before / 1e6:,.0f} MB, {rss_after / 1e6:,.0f} MB")
    console = Console()
    console.print(table)
    is_met = _quantile(readable_s, 0.99) < MOST_UNTIL_READABLE_S
    target = f"target (99 % readable within {MOST_UNTIL_READABLE_S * 1000:g} ms)"
    console.print(f"The {target} is met." if is_met else f"[bold red]Missed: the {target}.")
    return is_met


def _milliseconds(waits_s: list[float]) -> str:
    return ", ".join(f"{_quantile(waits_s, share) * 1000:,.1f}" for share in (0.5, 0.99, 1.0)) + " ms"


def _quantile(waits_s: list[float], share: float) -> float:
    ordered = sorted(waits_s)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=300)
    arguments = parser.parse_args()
    raise_file_limit()
    sys.exit(0 if run(arguments.devices, arguments.seconds) else 1)


if __name__ == "__main__":
    main()
