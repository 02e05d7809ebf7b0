"""Values of the broker's state, with defaults for what a test does not care about."""

from __future__ import annotations

from typing import Any

from headwater.persistence import StoredOutgoing, StoredRetained, StoredSession, StoredSubscription, StoredWill

WILL = StoredWill("home/porch/state", b"gone", 1, True, b"\x01\x01")


def session(session_id: int, client_id: str | None = None, **values: Any) -> StoredSession:
    defaults: dict[str, Any] = {"owner": "account:5", "expiry_s": 3600, "disconnected_at_ns": None}
    client_id = f"client-{session_id}" if client_id is None else client_id
    return StoredSession(session_id=session_id, client_id=client_id, **({"will": None} | defaults | values))


def subscription(session_id: int, topic_filter: str, options: int = 1, identifier: int = 0) -> StoredSubscription:
    return StoredSubscription(session_id, topic_filter, options, identifier)


def outgoing(session_id: int, packet_id: int, position: int | None = None, **values: Any) -> StoredOutgoing:
    defaults: dict[str, Any] = {"topic": "home/porch", "payload": b"21.5", "qos": 1, "retain": False}
    defaults |= {"properties": b"", "expires_at_ns": None, "subscription_ids": ()}
    position = packet_id if position is None else position
    return StoredOutgoing(session_id=session_id, packet_id=packet_id, position=position, **(defaults | values))


def retained(topic: str, tree: str = "account:5", **values: Any) -> StoredRetained:
    defaults: dict[str, Any] = {"payload": b"on", "qos": 1, "properties": b"", "expires_at_ns": None}
    return StoredRetained(tree=tree, topic=topic, **(defaults | values))
