"""What a batch of changes comes to: for each key, the last word only. Knows no disk.

With one change left for each key, the order between them no longer matters, except that deleted sessions go first.
So a store may take all of a kind together, which is what makes large batches fast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from headwater.persistence import (
    Change,
    ChangeKind,
    PacketKey,
    StoredOutgoing,
    StoredRetained,
    StoredSession,
    StoredSubscription,
)


class PartChanges:
    """The changes to the parts of one session, by topic filter or packet id. None: it was deleted."""

    __slots__ = ("outgoing", "received", "released", "sent", "subscriptions")

    def __init__(self) -> None:
        self.subscriptions: dict[str, StoredSubscription | None] = {}
        self.outgoing: dict[int, StoredOutgoing | None] = {}
        self.sent: set[int] = set()
        """Marks of messages that came with an earlier batch; those of this batch are marked in `outgoing`."""
        self.released: set[int] = set()
        self.received: dict[int, PacketKey | None] = {}


class NetEffect:
    """The outcome of changes. To be made in this order: deleted sessions, then the rest in any order."""

    def __init__(self, changes: Iterable[Change]) -> None:
        self.deleted_sessions: set[int] = set()
        self.sessions: dict[int, StoredSession] = {}
        """In the order of saving, because one replaces another of the same owner and client id."""
        self.parts: dict[int, PartChanges] = {}
        self.retained: dict[tuple[str, str], StoredRetained | None] = {}
        handlers = self._handlers()
        for kind, value in changes:
            handlers[kind](value)

    def _handlers(self) -> tuple[Callable[[Any], None], ...]:
        by_kind: dict[ChangeKind, Callable[[Any], None]] = {
            ChangeKind.SAVE_SESSION: self._save_session,
            ChangeKind.DELETE_SESSION: self._delete_session,
            ChangeKind.SAVE_SUBSCRIPTION: self._save_subscription,
            ChangeKind.DELETE_SUBSCRIPTION: self._delete_subscription,
            ChangeKind.SAVE_OUTGOING: self._save_outgoing,
            ChangeKind.MARK_SENT: self._mark_sent,
            ChangeKind.MARK_RELEASED: self._mark_released,
            ChangeKind.DELETE_OUTGOING: self._delete_outgoing,
            ChangeKind.SAVE_RECEIVED: self._save_received,
            ChangeKind.DELETE_RECEIVED: self._delete_received,
            ChangeKind.SAVE_RETAINED: self._save_retained,
            ChangeKind.DELETE_RETAINED: self._delete_retained,
        }
        return tuple(by_kind[kind] for kind in ChangeKind)

    def saved_subscriptions(self) -> Iterator[StoredSubscription]:
        for parts in self.parts.values():
            yield from filter(None, parts.subscriptions.values())

    def deleted_subscriptions(self) -> Iterator[tuple[int, str]]:
        for session_id, parts in self.parts.items():
            for topic_filter, subscription in parts.subscriptions.items():
                if subscription is None:
                    yield session_id, topic_filter

    def saved_outgoing(self) -> Iterator[StoredOutgoing]:
        for parts in self.parts.values():
            yield from filter(None, parts.outgoing.values())

    def deleted_outgoing(self) -> Iterator[PacketKey]:
        return self._deleted_packets(lambda parts: parts.outgoing)

    def sent(self) -> Iterator[PacketKey]:
        return self._marked_packets(lambda parts: parts.sent)

    def released(self) -> Iterator[PacketKey]:
        return self._marked_packets(lambda parts: parts.released)

    def saved_received(self) -> Iterator[PacketKey]:
        for parts in self.parts.values():
            yield from filter(None, parts.received.values())

    def deleted_received(self) -> Iterator[PacketKey]:
        return self._deleted_packets(lambda parts: parts.received)

    def saved_retained(self) -> Iterator[StoredRetained]:
        return filter(None, self.retained.values())

    def deleted_retained(self) -> Iterator[tuple[str, str]]:
        return (key for key, message in self.retained.items() if message is None)

    def _deleted_packets(self, of: Callable[[PartChanges], dict[int, Any]]) -> Iterator[PacketKey]:
        for session_id, parts in self.parts.items():
            for packet_id, value in of(parts).items():
                if value is None:
                    yield PacketKey(session_id, packet_id)

    def _marked_packets(self, of: Callable[[PartChanges], set[int]]) -> Iterator[PacketKey]:
        for session_id, parts in self.parts.items():
            for packet_id in of(parts):
                yield PacketKey(session_id, packet_id)

    # -- one change each --------------------------------------------------------------------------------------

    def _parts_of(self, session_id: int) -> PartChanges:
        try:
            return self.parts[session_id]
        except KeyError:
            parts = self.parts[session_id] = PartChanges()
            return parts

    def _save_session(self, session: StoredSession) -> None:
        self.sessions.pop(session.session_id, None)  # it goes to the end
        self.sessions[session.session_id] = session

    def _delete_session(self, session_id: int) -> None:
        self.sessions.pop(session_id, None)
        self.parts.pop(session_id, None)
        self.deleted_sessions.add(session_id)

    def _save_subscription(self, subscription: StoredSubscription) -> None:
        self._parts_of(subscription.session_id).subscriptions[subscription.topic_filter] = subscription

    def _delete_subscription(self, key: tuple[int, str]) -> None:
        session_id, topic_filter = key
        self._parts_of(session_id).subscriptions[topic_filter] = None

    def _save_outgoing(self, message: StoredOutgoing) -> None:
        parts = self._parts_of(message.session_id)
        packet_id = message.packet_id
        parts.outgoing[packet_id] = message
        if parts.sent or parts.released:  # marks of the message that had this packet id before
            parts.sent.discard(packet_id)
            parts.released.discard(packet_id)

    def _delete_outgoing(self, key: tuple[int, int]) -> None:
        session_id, packet_id = key
        self._parts_of(session_id).outgoing[packet_id] = None

    def _mark_sent(self, key: tuple[int, int]) -> None:
        session_id, packet_id = key
        parts = self._parts_of(session_id)
        message = parts.outgoing.get(packet_id)
        if message is not None:
            parts.outgoing[packet_id] = message._replace(is_sent=True)
        elif packet_id not in parts.outgoing:
            parts.sent.add(packet_id)

    def _mark_released(self, key: tuple[int, int]) -> None:
        session_id, packet_id = key
        parts = self._parts_of(session_id)
        message = parts.outgoing.get(packet_id)
        if message is not None:
            parts.outgoing[packet_id] = message._replace(is_released=True)
        elif packet_id not in parts.outgoing:
            parts.released.add(packet_id)

    def _save_received(self, key: tuple[int, int]) -> None:
        session_id, packet_id = key
        self._parts_of(session_id).received[packet_id] = PacketKey(session_id, packet_id)

    def _delete_received(self, key: tuple[int, int]) -> None:
        session_id, packet_id = key
        self._parts_of(session_id).received[packet_id] = None

    def _save_retained(self, message: StoredRetained) -> None:
        self.retained[message.tree, message.topic] = message

    def _delete_retained(self, key: tuple[str, str]) -> None:
        self.retained[key] = None
