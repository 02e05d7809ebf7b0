"""What the broker keeps across restarts: the values, the changes to them, and the interface of what stores them.

Two engines implement `SessionStore`: `headwater.persistence.sqlite` (one file, durable) and
`headwater.persistence.memory` (for tests and throw-away servers). Both pass the same suite,
`tests/contracts/test_persistence.py`. A store knows accounts and devices as a text, properties as bytes, and nothing
of what MQTT does with them.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias

MAX_SESSION_ID = 2**47 - 1
"""A session id and a packet id make one 64-bit key."""


class StoredWill(NamedTuple):
    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: bytes
    """As the broker encodes them, expiry and delay among them; empty when there are none."""


class StoredSession(NamedTuple):
    """A session without its parts: subscriptions, outgoing messages and received packet ids are stored each apart."""

    session_id: int
    """1 to MAX_SESSION_ID; given by the broker, never given again while anything of the old session is stored."""
    owner: str
    """Such as `account:5`, `device:7`, `anonymous`."""
    client_id: str
    """With the owner, what tells a session from all others. Neither changes while the session exists."""
    expiry_s: int
    """How long it outlives its connection."""
    disconnected_at_ns: int | None
    """None while it is connected."""
    will: StoredWill | None


class StoredSubscription(NamedTuple):
    session_id: int
    topic_filter: str
    options: int
    """The byte that follows the filter in SUBSCRIBE."""
    identifier: int = 0
    """0 when it has none."""


class StoredOutgoing(NamedTuple):
    """A message of QoS 1 or 2 that is owed to a session."""

    session_id: int
    packet_id: int
    position: int
    """Its place in the order of the session's messages."""
    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: bytes
    expires_at_ns: int | None
    subscription_ids: tuple[int, ...]
    is_released: bool = False
    """PUBREC came: only PUBREL is owed."""
    is_sent: bool = False
    """It went out before, so it goes out as a duplicate from now on."""


class StoredRetained(NamedTuple):
    tree: str
    """Whose topics: the tree of an account, or a tree that accounts share."""
    topic: str
    payload: bytes
    qos: int
    properties: bytes
    expires_at_ns: int | None


class PacketKey(NamedTuple):
    """A packet identifier in its session."""

    session_id: int
    packet_id: int


class ChangeKind(enum.IntEnum):
    """What a change does, and (after the colon) the value that it carries."""

    SAVE_SESSION = 0  # : StoredSession. Its parts stay as they are
    DELETE_SESSION = 1  # : int, the session id. Everything of the session goes
    SAVE_SUBSCRIPTION = 2  # : StoredSubscription
    DELETE_SUBSCRIPTION = 3  # : (session_id, topic_filter)
    SAVE_OUTGOING = 4  # : StoredOutgoing
    MARK_SENT = 5  # : (session_id, packet_id)
    MARK_RELEASED = 6  # : (session_id, packet_id)
    DELETE_OUTGOING = 7  # : (session_id, packet_id)
    SAVE_RECEIVED = 8  # : (session_id, packet_id)
    DELETE_RECEIVED = 9  # : (session_id, packet_id)
    SAVE_RETAINED = 10  # : StoredRetained
    DELETE_RETAINED = 11  # : (tree, topic)


Change: TypeAlias = tuple[ChangeKind, Any]
"""A kind and its value. A plain tuple, because one or two are made for every message that is delivered."""


@dataclass(slots=True)
class LoadedState:
    """Everything that is stored. Each part belongs to a session of `sessions`."""

    sessions: list[StoredSession] = field(default_factory=list)
    """By ascending id; no two of one owner and client id."""
    subscriptions: list[StoredSubscription] = field(default_factory=list)
    """By session."""
    outgoing: list[StoredOutgoing] = field(default_factory=list)
    """By session, then by position."""
    received: list[PacketKey] = field(default_factory=list)
    """QoS 2 packet ids of received messages that were not released, by session."""
    retained: list[StoredRetained] = field(default_factory=list)
    """In no particular order."""


class SessionStore(Protocol):
    """Durable state of the broker. Every method may block on disk: call it from a worker thread, one call at a time.

    Errors: `StorageError` for whatever the disk refuses, and for any call after `close`.
    """

    def load(self) -> LoadedState:
        """Everything, as the changes so far have left it; to be called before the first `apply`.

        What belongs to no session is left out and deleted. (There is none unless a session was replaced by another
        one of the same owner and client id, or its parts were saved after it was deleted.)
        """

    def apply(self, changes: Sequence[Change]) -> None:
        """Make these changes in one transaction, with the outcome that they have one after the other. When this
        returns, they are on disk; when it raises, nothing of them is.

        Saving replaces what is there under the same key; a session also replaces another one of the same owner and
        client id. Deleting or marking what is not there changes nothing, so that making the same changes again is
        safe. Raises StorageError when the disk refuses; anything else means that a change holds a value of a wrong
        type or range, which no later try can store.
        """

    def close(self) -> None:
        """Release the file. May be called again, to no effect."""
