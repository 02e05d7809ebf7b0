"""The `$SYS` tree: what the broker counts, as topics and payloads. Knows no subscription, timer or session.

Names and formats are Mosquitto's where it has them, so that its dashboards and exporters work; what only Headwater
counts stands below `$SYS/broker/headwater/`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping

from headwater.services.presence import Totals

_ROOT = "$SYS/broker/"
_OWN = _ROOT + "headwater/"
_NANOSECONDS = 1_000_000_000
_NOT_IN_A_LEVEL = re.compile(r"[/+#\s\x00-\x1f\x7f-\x9f]+")
"""What would make more than one level of a name, or no topic at all."""


def render_sys_topics(totals: Totals, version: str, now_ns: int) -> Iterator[tuple[str, bytes]]:
    """Every topic with its payload as of `now_ns`, each topic once."""
    uptime_s = max(0, now_ns - totals.started_at_ns) // _NANOSECONDS
    yield _ROOT + "version", f"headwater version {version}".encode()
    yield _ROOT + "uptime", b"%d seconds" % uptime_s
    for name, number in _counts(totals):
        yield name, b"%d" % number


def _counts(totals: Totals) -> Iterator[tuple[str, int]]:
    for name, number in (
        ("clients/connected", totals.connections),
        ("clients/disconnected", totals.sessions_offline),
        ("clients/total", totals.sessions),
        ("clients/maximum", totals.max_connections),
        ("messages/received", totals.messages_in),
        ("messages/sent", totals.messages_out),
        ("bytes/received", totals.bytes_in),
        ("bytes/sent", totals.bytes_out),
        ("publish/messages/received", totals.messages_in),
        ("publish/messages/sent", totals.messages_out),
        ("publish/messages/dropped", sum(totals.dropped.values())),
        ("retained messages/count", totals.retained_messages),
        ("store/messages/count", totals.retained_messages + totals.queued_messages),
        ("store/messages/bytes", totals.retained_bytes + totals.queued_bytes),
        ("subscriptions/count", totals.subscriptions),
    ):
        yield _ROOT + name, number
    yield _OWN + "connections/total", totals.connections_total
    yield _OWN + "queued/messages", totals.queued_messages
    yield _OWN + "queued/bytes", totals.queued_bytes
    yield _OWN + "retained/bytes", totals.retained_bytes
    for limit, number in _by_level(totals.dropped):
        yield f"{_OWN}dropped/{limit}", number
    for reason, number in _by_level(totals.refused):
        yield f"{_OWN}refused/{reason}", number


def _by_level(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Counts by name, the names fit to be one topic level each; names that become the same are counted together."""
    levels: Counter[str] = Counter()
    for name, number in counts.items():
        levels[_NOT_IN_A_LEVEL.sub("_", name) or "_"] += number
    return sorted(levels.items())
