"""What one connection's client may do, and how much of it at a time; as values, set by others."""

from __future__ import annotations

from dataclasses import dataclass, field

from headwater.mqtt.properties import DEFAULT_LIMITS, PropertyLimits

COPIES_PER_TURN = 5_000
"""Copies of messages that one client may cause before the others have their turn."""
COPIES_PER_FILTER = 20
"""What it costs to subscribe or unsubscribe with one filter, measured in copies: 5 to 13 microseconds."""
COPIES_PER_ACKNOWLEDGEMENT = 10
"""The same for PUBREC, PUBREL, PUBCOMP and what answers nothing known: 3 to 7 microseconds, and a client may send them
without end. The PUBACK of a message that was sent is not counted: there is one for each."""
UNREAD_FILTERS_PER_COPY = 4
"""Filters that are only looked at in passing, being too many for one packet."""


@dataclass(frozen=True, slots=True)
class ProtocolLimits:
    max_packet_bytes: int = 262_144
    max_connect_bytes: int = 65_536
    """A CONNECT holds names and a will; nobody unknown may make us keep more."""
    max_subscribe_bytes: int = 65_536
    """SUBSCRIBE and UNSUBSCRIBE: a limit of their own, because a byte of a filter costs more than one of a payload."""
    max_control_bytes: int = 4_096
    """Acknowledgements, PINGREQ, DISCONNECT and AUTH: a few bytes, and at most a reason in words."""
    max_topic_bytes: int = 1_024
    max_topic_levels: int = 32
    max_wildcard_levels: int = 8
    max_client_id_bytes: int = 128
    max_subscribe_filters: int = 50
    max_in_flight: int = 20
    receive_maximum: int = 100
    """Of an MQTT 5 client's QoS 1 and 2 messages, how many may be unacknowledged (5.0 section 3.2.2.3.3)."""
    max_unreleased: int = 1_000
    """Of an older client's QoS 2 messages, how many may be received and not released: nobody tells it a limit."""
    topic_alias_maximum: int = 10
    max_session_expiry_s: int = 604_800
    properties: PropertyLimits = field(default=DEFAULT_LIMITS)


class Turn:
    """What one client may cause before the others have their turn: copies of messages, counted down by the router, and
    what else takes as long."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = 0
