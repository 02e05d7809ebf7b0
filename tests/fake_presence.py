"""A broker that only tells: what a test says is connected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from headwater.services.presence import AccountTotals, ClientInfo, Totals

STARTED_AT_NS = 1_700_000_000_000_000_000

TOTALS = Totals(
    started_at_ns=STARTED_AT_NS,
    connections=3,
    max_connections=9,
    connections_total=40,
    refused={"bad credentials": 4, "too many connections": 1},
    messages_in=1000,
    messages_out=2000,
    bytes_in=30_000,
    bytes_out=60_000,
    dropped={"max_queued_messages": 7, "max_write_buffer_bytes": 5},
    subscriptions=6,
    sessions=5,
    sessions_offline=2,
    queued_messages=11,
    queued_bytes=1100,
    retained_messages=13,
    retained_bytes=1300,
)

CLIENT = ClientInfo(
    number=1,
    account_id=None,
    device_id=None,
    client_id="client",
    address="192.0.2.1:5000",
    transport="tcp",
    protocol="3.1.1",
    connected_at_ns=STARTED_AT_NS,
    active_at_ns=STARTED_AT_NS,
    keep_alive_s=60,
    is_persistent=False,
    subscriptions=0,
    in_flight=0,
    queued=0,
    messages_in=0,
    messages_out=0,
    bytes_in=0,
    bytes_out=0,
    dropped={},
)


@dataclass
class FakeBroker:
    """A `PresenceSource`."""

    told: Totals = TOTALS
    by_account: list[AccountTotals] = field(default_factory=list)
    connected: dict[int, ClientInfo] = field(default_factory=dict)
    ended: list[int] = field(default_factory=list)

    def connect(self, **values: Any) -> ClientInfo:
        """A client that differs from `CLIENT` in these values; it gets the next number."""
        number = max(self.connected, default=0) + 1
        client = replace(
            CLIENT, **{"number": number, "connected_at_ns": STARTED_AT_NS + number, "client_id": f"c{number}"} | values
        )
        self.connected[client.number] = client
        return client

    def clients(self) -> Sequence[ClientInfo]:
        return list(self.connected.values())

    def client(self, number: int) -> ClientInfo | None:
        return self.connected.get(number)

    def totals(self) -> Totals:
        return self.told

    def account_totals(self) -> Sequence[AccountTotals]:
        return self.by_account

    def disconnect(self, number: int) -> bool:
        if self.connected.pop(number, None) is None:
            return False
        self.ended.append(number)
        return True
