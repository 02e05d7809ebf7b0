"""A message that is owed to a client, and the two sides of a session's contract about it: the way to the client and the
way to disk."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Protocol

from headwater.mqtt.message import Message
from headwater.mqtt.publishing import Pending
from headwater.mqtt.topic_tree import SharedGroup

if TYPE_CHECKING:
    from headwater.mqtt.session import Session

OUTGOING_BYTES = 300
"""What a message that waits takes beside its bytes, against the limit for all sessions together."""


class OutgoingState(enum.IntEnum):
    QUEUED = 0
    SENT = 1
    RELEASED = 2
    """QoS 2: PUBREC has come, and only PUBREL is owed [MQTT-4.3.3-5]."""


class Outgoing:
    """A QoS 1 or 2 message that is owed to the client."""

    __slots__ = ("group", "is_held", "is_revoked", "message", "packet_id", "qos", "retain", "state", "subscription_ids")

    def __init__(
        self,
        message: Message,
        packet_id: int,
        qos: int,
        retain: bool,
        subscription_ids: tuple[int, ...],
        group: SharedGroup[Session] | None,
        state: OutgoingState = OutgoingState.QUEUED,
    ) -> None:
        self.message = message
        self.packet_id = packet_id
        self.qos = qos
        self.retain = retain
        self.subscription_ids = subscription_ids
        self.group = group
        """The shared subscription it came by; another member may get it while it has not been sent."""
        self.state = state
        self.is_held = False
        """It must be on disk before the client may see it (or its PUBREL)."""
        self.is_revoked = False
        """It went out while the client had a right to it, and must not go out again."""


class Link(Protocol):
    """A session's way to its client while that is connected."""

    window: int
    """The most QoS 1 and 2 messages that may be unacknowledged [MQTT-3.3.4-9]."""
    is_congested: bool
    """The client does not read what it was sent."""

    def send_qos0(self, message: Message, retain: bool, subscription_ids: tuple[int, ...]) -> str | None:
        """Send a message, or answer the limit because of which it was dropped."""

    def send_outgoing(self, outgoing: Outgoing, *, dup: bool) -> str | None:
        """Send a PUBLISH of QoS 1 or 2, or answer the limit because of which the client can never get it."""

    def send_pubrel(self, packet_id: int) -> None:
        """Send the PUBREL of a message whose PUBREC came."""


class SessionRecord(Protocol):
    """Where a persistent session writes down what must survive."""

    def save_outgoing(self, outgoing: Outgoing) -> None: ...

    def mark_sent(self, packet_id: int) -> None: ...

    def mark_released(self, packet_id: int) -> None: ...

    def delete_outgoing(self, packet_id: int) -> None: ...

    def save_received(self, packet_id: int) -> None: ...

    def delete_received(self, packet_id: int) -> None: ...

    def written(self) -> Pending | None:
        """Kept once everything recorded so far is on disk; None when it is."""
