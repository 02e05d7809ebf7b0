"""How sessions and messages look on disk: from the values of `mqtt/` to those of `persistence/` and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from headwater.broker.journal import Journal
from headwater.mqtt.message import Message
from headwater.mqtt.outgoing import Outgoing, OutgoingState
from headwater.mqtt.packets import NO_PROPERTIES, Subscription, Will
from headwater.mqtt.properties import parse_properties, render_properties
from headwater.mqtt.publishing import Pending
from headwater.persistence import StoredOutgoing, StoredRetained, StoredSession, StoredSubscription, StoredWill

_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Clocks:
    """Messages expire by a clock that nobody sets; on disk there is the time of day."""

    now_s: Callable[[], float]
    now_ns: Callable[[], int]

    def to_wall_ns(self, at_s: float | None) -> int | None:
        return None if at_s is None else self.now_ns() + int((at_s - self.now_s()) * _NS)

    def to_monotonic_s(self, at_ns: int | None) -> float | None:
        return None if at_ns is None else self.now_s() + (at_ns - self.now_ns()) / _NS


class JournalRecord:
    """One session's record (see `mqtt.session.SessionRecord`)."""

    __slots__ = ("_clocks", "_journal", "_position", "session_id")

    def __init__(self, journal: Journal, clocks: Clocks, session_id: int, position: int = 0) -> None:
        self._journal = journal
        self._clocks = clocks
        self.session_id = session_id
        self._position = position

    def save_outgoing(self, outgoing: Outgoing) -> None:
        self._position += 1
        message = outgoing.message
        self._journal.save_outgoing(
            StoredOutgoing(
                self.session_id,
                outgoing.packet_id,
                self._position,
                message.topic,
                message.payload,
                outgoing.qos,
                outgoing.retain,
                message.properties,
                self._clocks.to_wall_ns(message.expires_at_s),
                outgoing.subscription_ids,
            )
        )

    def mark_sent(self, packet_id: int) -> None:
        self._journal.mark_sent(self.session_id, packet_id)

    def mark_released(self, packet_id: int) -> None:
        self._journal.mark_released(self.session_id, packet_id)

    def delete_outgoing(self, packet_id: int) -> None:
        self._journal.delete_outgoing(self.session_id, packet_id)

    def save_received(self, packet_id: int) -> None:
        self._journal.save_received(self.session_id, packet_id)

    def delete_received(self, packet_id: int) -> None:
        self._journal.delete_received(self.session_id, packet_id)

    def written(self) -> Pending | None:
        return self._journal.written()


def outgoing_of(stored: StoredOutgoing, clocks: Clocks) -> Outgoing:
    """A message that is owed, as it was when the server stopped. One that may have been sent is sent again as a
    duplicate only if that was noted: the client knows its packet identifier either way."""
    expires_at_s = clocks.to_monotonic_s(stored.expires_at_ns)
    message = Message(
        stored.topic, stored.topic.encode(), stored.payload, stored.qos, stored.retain, stored.properties, expires_at_s
    )
    state = OutgoingState.QUEUED
    if stored.is_released:
        state = OutgoingState.RELEASED
    elif stored.is_sent:
        state = OutgoingState.SENT
    return Outgoing(message, stored.packet_id, stored.qos, stored.retain, stored.subscription_ids, None, state)


def retained_row(tree: str, message: Message, clocks: Clocks) -> StoredRetained:
    expires_at_ns = clocks.to_wall_ns(message.expires_at_s)
    topic, payload, qos, properties = message.topic, message.payload, message.qos, message.properties
    return StoredRetained(tree, topic, payload, qos, properties, expires_at_ns)


def read_retained(stored: StoredRetained, clocks: Clocks) -> Message:
    expires_at_s = clocks.to_monotonic_s(stored.expires_at_ns)
    raw_topic = stored.topic.encode()
    return Message(stored.topic, raw_topic, stored.payload, stored.qos, True, stored.properties, expires_at_s)


def subscription_row(session_id: int, subscription: Subscription, subscription_id: int) -> StoredSubscription:
    options = (
        subscription.qos
        | subscription.no_local << 2
        | subscription.retain_as_published << 3
        | subscription.retain_handling << 4
    )
    return StoredSubscription(session_id, subscription.topic_filter, options, subscription_id)


def read_subscription(stored: StoredSubscription) -> Subscription:
    options = stored.options
    return Subscription(stored.topic_filter, options & 3, bool(options & 4), bool(options & 8), options >> 4 & 3)


def will_row(will: Will | None) -> StoredWill | None:
    if will is None:
        return None
    properties = render_properties(will.properties) if will.properties else b""
    return StoredWill(will.topic, will.payload, will.qos, will.retain, properties)


def read_will(stored: StoredWill | None) -> Will | None:
    if stored is None:
        return None
    properties = parse_properties(stored.properties, 0, "will")[0] if stored.properties else NO_PROPERTIES
    return Will(stored.topic, stored.payload, stored.qos, stored.retain, properties)


def session_row(
    session_id: int,
    owner: str,
    client_id: str,
    *,
    expiry_s: int,
    disconnected_at_ns: int | None,
    will: Will | None,
) -> StoredSession:
    return StoredSession(session_id, owner, client_id, expiry_s, disconnected_at_ns, will_row(will))
