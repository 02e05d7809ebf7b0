"""What the broker counts, put together when somebody asks (see `services.presence`). On the hot path connections count
for themselves; here their counts are added up."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from headwater.logs import Log
from headwater.mqtt.message import Message
from headwater.mqtt.packets import ProtocolLevel
from headwater.mqtt.reason_codes import ReasonCode
from headwater.mqtt.session import Session
from headwater.services.presence import AccountTotals, ClientInfo, Totals
from headwater.services.refusals import Refusals

if TYPE_CHECKING:
    from headwater.broker.broker import Broker
    from headwater.broker.connection import Connection

DROPPING_ENDS_S = 60.0
"""Messages for a client that are dropped again after so long are logged again."""
END_REASONS = (
    "a message could not be stored",
    "an internal fault",
    "bad authentication method",
    "banned",
    "client identifier not valid",
    "does not read its last bytes",
    "does not read what it is sent",
    "keep alive ran out",
    "limit max_connections",
    "limit max_connections_per_address",
    "limit max_connects_per_second_per_address",
    "malformed packet",
    "no CONNECT in time",
    "not authorized",
    "packet too large",
    "protocol error",
    "quota exceeded",
    "receive maximum exceeded",
    "server busy",
    "topic alias invalid",
    "topic name invalid",
    "unsupported protocol version",
)
DROP_LIMITS = (
    "max_queued_bytes",
    "max_queued_bytes_per_account",
    "max_queued_bytes_total",
    "max_queued_messages",
    "max_write_buffer_bytes",
    "maximum_packet_size",
    "message_expiry",
    "packet_identifiers",
    "session_ended",
)
"""Counted from the start, at 0: what watches a counter for growth does not see the first step of one that appears
with it."""
_PROTOCOLS = {ProtocolLevel.V31: "3.1", ProtocolLevel.V311: "3.1.1", ProtocolLevel.V5: "5.0"}

log = Log(__name__)


class Figures:
    """The broker's counters; a `services.presence.PresenceSource`."""

    def __init__(self, broker: Broker, refusals: Refusals) -> None:
        self._broker = broker
        self._refusals = refusals
        self._started_at_ns = time.time_ns()
        self._gone: dict[int | None, Counter[str]] = {}
        """What connections that are gone had counted, by account."""
        self._refused = Counter(dict.fromkeys(END_REASONS, 0))
        self._dropped = Counter(dict.fromkeys(DROP_LIMITS, 0))
        self._dropped_by_account: Counter[int | None] = Counter()
        self._dropping: dict[int, float] = {}

    # -- counting ----------------------------------------------------------------------------------------------

    def count_end(self, reason: str) -> None:
        """A connection was refused, or ended for a fault, from this side. `reason` is one of END_REASONS."""
        self._refused[reason] += 1

    def count_gone(self, connection: Connection) -> None:
        """A connection is gone, its counts remain."""
        _add(self._gone.setdefault(connection.principal.account_id, Counter()), connection)

    def count_drop(self, session: Session, limit: str, _message: Message) -> None:
        """A message for a client was dropped: say so once an episode."""
        self._dropped[limit] += 1
        principal = self._broker.sessions.principal_of(session)
        self._dropped_by_account[principal.account_id] += 1
        self._refusals.note_dropped(limit, device_id=principal.device_id, account_device_id=principal.account_device_id)
        now_s = self._broker.loop.time()
        last_s = self._dropping.get(id(session))
        self._dropping[id(session)] = now_s
        if last_s is None or now_s - last_s > DROPPING_ENDS_S:
            log.warning("messages for a client are dropped", client_id=session.client_id, limit=limit)

    def forget_old(self, account_ids: Collection[int]) -> None:
        """Let go of accounts that are gone, and of episodes that are over."""
        since_s = self._broker.loop.time() - DROPPING_ENDS_S
        self._dropping = {session: at_s for session, at_s in self._dropping.items() if at_s > since_s}
        for account_id in [i for i in self._gone if i is not None and i not in account_ids]:
            kept = self._gone.setdefault(None, Counter())
            kept.update(self._gone.pop(account_id))
        for account_id in [i for i in self._dropped_by_account if i is not None and i not in account_ids]:
            self._dropped_by_account[None] += self._dropped_by_account.pop(account_id)

    # -- services.presence.PresenceSource -----------------------------------------------------------------------

    def clients(self) -> Sequence[ClientInfo]:
        return [self._client(connection) for connection in self._signed_in()]

    def client(self, number: int) -> ClientInfo | None:
        connection = self._broker.connection_numbered(number)
        return None if connection is None or not _is_signed_in(connection) else self._client(connection)

    def totals(self) -> Totals:
        broker = self._broker
        counts: Counter[str] = Counter()
        for gone in self._gone.values():
            counts.update(gone)
        for connection in broker.each_connection():
            _add(counts, connection)
        sessions, budget, retained = broker.sessions, broker.sessions.budget, broker.retained
        return Totals(
            started_at_ns=self._started_at_ns,
            connections=broker.sign_in.clients,
            max_connections=broker.sign_in.most_clients,
            connections_total=broker.sign_in.clients_total,
            refused=dict(self._refused),
            messages_in=counts["messages_in"],
            messages_out=counts["messages_out"],
            bytes_in=counts["bytes_in"],
            bytes_out=counts["bytes_out"],
            dropped=dict(self._dropped),
            subscriptions=broker.router.subscriptions,
            sessions=len(sessions),
            sessions_offline=sessions.offline,
            queued_messages=budget.messages,
            queued_bytes=budget.bytes,
            retained_messages=retained.messages,
            retained_bytes=retained.bytes,
        )

    def account_totals(self) -> Sequence[AccountTotals]:
        counts: dict[int | None, Counter[str]] = {account: Counter(gone) for account, gone in self._gone.items()}
        connections: Counter[int | None] = Counter()
        for connection in self._signed_in():
            account_id = connection.principal.account_id
            connections[account_id] += 1
            _add(counts.setdefault(account_id, Counter()), connection)
        for account_id in self._dropped_by_account:  # whose clients may all be away since the start
            counts.setdefault(account_id, Counter())
        return [
            AccountTotals(
                account_id,
                connections[account_id],
                of_account["messages_in"],
                of_account["messages_out"],
                of_account["bytes_in"],
                of_account["bytes_out"],
                self._dropped_by_account[account_id],
            )
            for account_id, of_account in counts.items()
        ]

    def disconnect(self, number: int) -> bool:
        connection = self._broker.connection_numbered(number)
        if connection is None or not _is_signed_in(connection):
            return False
        connection.close("disconnected by a person", ReasonCode.ADMINISTRATIVE_ACTION, is_fault=False)
        return True

    def _signed_in(self) -> Iterable[Connection]:
        return filter(_is_signed_in, self._broker.each_connection())

    def _client(self, connection: Connection) -> ClientInfo:
        protocol, principal, session = connection.protocol, connection.principal, connection.protocol.session
        assert session is not None
        idle_s = max(0.0, self._broker.loop.time() - connection.active_at_s)
        return ClientInfo(
            number=connection.number,
            account_id=principal.account_id,
            device_id=principal.device_id,
            client_id=session.client_id,
            address=connection.address,
            transport=connection.transport_name,
            protocol=_PROTOCOLS[ProtocolLevel(protocol.level)],
            connected_at_ns=connection.connected_at_ns,
            active_at_ns=time.time_ns() - int(idle_s * 1_000_000_000),
            keep_alive_s=protocol.keep_alive_s,
            is_persistent=session.record is not None,
            subscriptions=len(session.subscriptions or ()),
            in_flight=session.in_flight,
            queued=session.queued,
            messages_in=protocol.received_messages,
            messages_out=protocol.sent_messages,
            bytes_in=connection.received_bytes,
            bytes_out=connection.sent_bytes,
            dropped=dict(session.dropped or {}),
            account_device_id=principal.account_device_id,
        )


def _is_signed_in(connection: Connection) -> bool:
    return connection.protocol.session is not None and connection.is_here


def _add(counts: Counter[str], connection: Connection) -> None:
    counts["messages_in"] += connection.protocol.received_messages
    counts["messages_out"] += connection.protocol.sent_messages
    counts["bytes_in"] += connection.received_bytes
    counts["bytes_out"] += connection.sent_bytes
