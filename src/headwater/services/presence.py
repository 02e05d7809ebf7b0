"""Who is connected over MQTT, and what the broker counts: values for the console, `$SYS` and `/metrics`.

The broker is the source; everybody else knows it only through `PresenceSource`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """One connected client, as of now."""

    number: int
    """Of the connection, unique while the process lives."""
    account_id: int | None
    """Whose things it may touch; None for clients that only show keys in topics and for anonymous ones."""
    device_id: int | None
    """Of an MQTT device."""
    client_id: str
    address: str
    transport: str
    """`tcp`, `tls`, `proxied`, `websocket` or `secure websocket`."""
    protocol: str
    """`3.1`, `3.1.1` or `5.0`."""
    connected_at_ns: int
    active_at_ns: int
    """When its last packet arrived."""
    keep_alive_s: int
    is_persistent: bool
    """Its session outlives the connection."""
    subscriptions: int
    in_flight: int
    queued: int
    messages_in: int
    """PUBLISH packets."""
    messages_out: int
    bytes_in: int
    bytes_out: int
    dropped: Mapping[str, int]
    """Messages for this client that were dropped, by the name of the limit that was reached."""
    account_device_id: int | None = None
    """An account device has ids of its own."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What the broker has counted since it started, and what there is now."""

    started_at_ns: int
    connections: int
    """Clients that are signed in, as in the next two."""
    max_connections: int
    """The most there were at the same time."""
    connections_total: int
    refused: Mapping[str, int]
    """Connections that were refused or ended for a fault, by every reason there is. Those that ended on purpose are
    not among them: taken over, disconnected by a person, credentials withdrawn, the server shut down."""
    messages_in: int
    messages_out: int
    bytes_in: int
    bytes_out: int
    dropped: Mapping[str, int]
    """Messages for clients that were dropped, by every limit that there is."""
    subscriptions: int
    sessions: int
    """Sessions, connected or not."""
    sessions_offline: int
    queued_messages: int
    """Of QoS 1 and 2, owed to clients: not sent yet, or not acknowledged."""
    queued_bytes: int
    retained_messages: int
    retained_bytes: int


@dataclass(frozen=True, slots=True)
class AccountTotals:
    """The share of one account in what the broker counts."""

    account_id: int | None
    connections: int
    messages_in: int
    messages_out: int
    bytes_in: int
    bytes_out: int
    dropped: int


class PresenceSource(Protocol):
    """What the broker tells."""

    def clients(self) -> Sequence[ClientInfo]:
        """Everybody who is signed in, in the order of connecting."""

    def client(self, number: int) -> ClientInfo | None:
        """One of them, by its number; None when it is gone. Cheap: an open page asks for the same few every moment."""

    def totals(self) -> Totals: ...

    def account_totals(self) -> Sequence[AccountTotals]:
        """By account, since the start; clients without an account are one line."""

    def disconnect(self, number: int) -> bool:
        """End a connection by administrative action. False when it is gone already."""


class Presence:
    """Where the console finds the broker. Before the broker is there, nobody is connected."""

    def __init__(self) -> None:
        self._source: PresenceSource | None = None

    def attach(self, source: PresenceSource) -> None:
        """The broker has started."""
        self._source = source

    def clients(self, account_id: int | None = None) -> list[ClientInfo]:
        """Clients of one account, or of all."""
        clients = [] if self._source is None else self._source.clients()
        return [client for client in clients if account_id in (None, client.account_id)]

    def client(self, number: int, account_id: int | None = None) -> ClientInfo | None:
        """One client, provided it is that account's (None: anybody's)."""
        client = None if self._source is None else self._source.client(number)
        return client if client is not None and account_id in (None, client.account_id) else None

    def totals(self) -> Totals | None:
        """What the broker counts; None before it has started."""
        return None if self._source is None else self._source.totals()

    def account_totals(self) -> list[AccountTotals]:
        return [] if self._source is None else list(self._source.account_totals())

    def disconnect(self, number: int, account_id: int | None = None) -> bool:
        """End a connection, provided it is that account's (None: anybody's). False when there is none."""
        if self._source is None or self.client(number, account_id) is None:
            return False
        return self._source.disconnect(number)
