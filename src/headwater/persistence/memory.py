"""The broker's state in memory, for tests and throw-away servers. Keeps every promise but that of the disk.

Makes its changes one after the other, in the plainest way, so that the contract suite holds the durable engine
against something simple.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from headwater.errors import StorageError
from headwater.persistence import (
    Change,
    ChangeKind,
    LoadedState,
    PacketKey,
    StoredOutgoing,
    StoredRetained,
    StoredSession,
    StoredSubscription,
)


@dataclass(slots=True)
class _Parts:
    """What one session consists of."""

    subscriptions: dict[str, StoredSubscription] = field(default_factory=dict)
    outgoing: dict[int, StoredOutgoing] = field(default_factory=dict)
    received: set[int] = field(default_factory=set)

    def mark_sent(self, packet_id: int) -> None:
        if (message := self.outgoing.get(packet_id)) is not None:
            self.outgoing[packet_id] = message._replace(is_sent=True)

    def mark_released(self, packet_id: int) -> None:
        if (message := self.outgoing.get(packet_id)) is not None:
            self.outgoing[packet_id] = message._replace(is_released=True)


class MemorySessionStore:
    """A `SessionStore` of dictionaries."""

    def __init__(self) -> None:
        self._sessions: dict[int, StoredSession] = {}
        self._session_ids: dict[tuple[str, str], int] = {}
        """By owner and client id."""
        self._parts: defaultdict[int, _Parts] = defaultdict(_Parts)
        self._retained: dict[tuple[str, str], StoredRetained] = {}
        self._is_closed = False

    def load(self) -> LoadedState:
        self._check_open()
        for session_id in self._parts.keys() - self._sessions.keys():
            del self._parts[session_id]
        parts = sorted(self._parts.items())
        return LoadedState(
            sessions=[session for _, session in sorted(self._sessions.items())],
            subscriptions=[subscription for _, part in parts for subscription in part.subscriptions.values()],
            outgoing=[
                message
                for _, part in parts
                for message in sorted(part.outgoing.values(), key=lambda message: message.position)
            ],
            received=[
                PacketKey(session_id, packet_id) for session_id, part in parts for packet_id in sorted(part.received)
            ],
            retained=list(self._retained.values()),
        )

    def apply(self, changes: Sequence[Change]) -> None:
        self._check_open()
        for kind, value in changes:
            self._apply(kind, value)

    def _apply(self, kind: ChangeKind, value: Any) -> None:
        match kind:
            case ChangeKind.SAVE_SESSION:
                self._save_session(value)
            case ChangeKind.DELETE_SESSION:
                self._delete_session(value)
            case ChangeKind.SAVE_SUBSCRIPTION:
                self._parts[value.session_id].subscriptions[value.topic_filter] = value
            case ChangeKind.DELETE_SUBSCRIPTION:
                self._parts[value[0]].subscriptions.pop(value[1], None)
            case ChangeKind.SAVE_OUTGOING:
                self._parts[value.session_id].outgoing[value.packet_id] = value
            case ChangeKind.MARK_SENT:
                self._parts[value[0]].mark_sent(value[1])
            case ChangeKind.MARK_RELEASED:
                self._parts[value[0]].mark_released(value[1])
            case ChangeKind.DELETE_OUTGOING:
                self._parts[value[0]].outgoing.pop(value[1], None)
            case ChangeKind.SAVE_RECEIVED:
                self._parts[value[0]].received.add(value[1])
            case ChangeKind.DELETE_RECEIVED:
                self._parts[value[0]].received.discard(value[1])
            case ChangeKind.SAVE_RETAINED:
                self._retained[value.tree, value.topic] = value
            case ChangeKind.DELETE_RETAINED:
                self._retained.pop(value, None)

    def _save_session(self, session: StoredSession) -> None:
        replaced_id = self._session_ids.get((session.owner, session.client_id), session.session_id)
        if replaced_id != session.session_id:
            self._delete_session(replaced_id)
        self._sessions[session.session_id] = session
        self._session_ids[session.owner, session.client_id] = session.session_id

    def _delete_session(self, session_id: int) -> None:
        self._parts.pop(session_id, None)
        session = self._sessions.pop(session_id, None)
        if session is not None:
            del self._session_ids[session.owner, session.client_id]

    def close(self) -> None:
        self._is_closed = True

    def _check_open(self) -> None:
        if self._is_closed:
            raise StorageError("The broker's state is closed.")
