"""The control packets as values, under the specification's own names. Knows no bytes: see `decode` and `encode`.

Every type carries what MQTT 5.0 adds (`properties`, reason codes) with the 3.1.1 meaning as default, so that the
session and the broker do not change shape with the version.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple


class PropertyId(enum.IntEnum):
    """The properties of MQTT 5.0 (section 2.2.2.2)."""

    PAYLOAD_FORMAT_INDICATOR = 0x01
    MESSAGE_EXPIRY_INTERVAL = 0x02
    CONTENT_TYPE = 0x03
    RESPONSE_TOPIC = 0x08
    CORRELATION_DATA = 0x09
    SUBSCRIPTION_IDENTIFIER = 0x0B
    SESSION_EXPIRY_INTERVAL = 0x11
    ASSIGNED_CLIENT_IDENTIFIER = 0x12
    SERVER_KEEP_ALIVE = 0x13
    AUTHENTICATION_METHOD = 0x15
    AUTHENTICATION_DATA = 0x16
    REQUEST_PROBLEM_INFORMATION = 0x17
    WILL_DELAY_INTERVAL = 0x18
    REQUEST_RESPONSE_INFORMATION = 0x19
    RESPONSE_INFORMATION = 0x1A
    SERVER_REFERENCE = 0x1C
    REASON_STRING = 0x1F
    RECEIVE_MAXIMUM = 0x21
    TOPIC_ALIAS_MAXIMUM = 0x22
    TOPIC_ALIAS = 0x23
    MAXIMUM_QOS = 0x24
    RETAIN_AVAILABLE = 0x25
    USER_PROPERTY = 0x26
    MAXIMUM_PACKET_SIZE = 0x27
    WILDCARD_SUBSCRIPTION_AVAILABLE = 0x28
    SUBSCRIPTION_IDENTIFIER_AVAILABLE = 0x29
    SHARED_SUBSCRIPTION_AVAILABLE = 0x2A


Properties = Mapping[PropertyId, Any]
"""Values by property: int, str or bytes as the specification's types say; USER_PROPERTY is a tuple of (name, value)
pairs in order, SUBSCRIPTION_IDENTIFIER a tuple of integers."""
NO_PROPERTIES: Properties = MappingProxyType({})


def _no_properties() -> Properties:
    return NO_PROPERTIES


class PacketType(enum.IntEnum):
    """The upper four bits of a packet's first byte (3.1.1 section 2.2.1)."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14
    AUTH = 15


class ProtocolLevel(enum.IntEnum):
    """The version byte of CONNECT."""

    V31 = 3
    V311 = 4
    V5 = 5


class ConnectReturnCode(enum.IntEnum):
    """CONNACK's answer (3.1.1 section 3.2.2.3)."""

    ACCEPTED = 0
    UNACCEPTABLE_PROTOCOL_VERSION = 1
    IDENTIFIER_REJECTED = 2
    SERVER_UNAVAILABLE = 3
    BAD_USERNAME_OR_PASSWORD = 4
    NOT_AUTHORIZED = 5


SUBACK_FAILURE = 0x80
"""The one failure code of SUBACK in 3.1.1 (section 3.9.3)."""


@dataclass(frozen=True, slots=True)
class Will:
    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: Properties = field(default_factory=_no_properties)


@dataclass(frozen=True, slots=True)
class Connect:
    client_id: str
    clean_session: bool = True
    keep_alive_s: int = 60
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)
    will: Will | None = None
    level: ProtocolLevel = ProtocolLevel.V311
    properties: Properties = field(default_factory=_no_properties)


@dataclass(frozen=True, slots=True)
class Connack:
    session_present: bool
    reason_code: int
    """A ConnectReturnCode in 3.1.1, a ReasonCode in 5.0."""
    properties: Properties = field(default_factory=_no_properties)


@dataclass(frozen=True, slots=True)
class Publish:
    topic: str
    payload: bytes
    qos: int = 0
    packet_id: int | None = None
    """1 to 65535 for QoS 1 and 2, None for QoS 0 [MQTT-2.3.1-1] [MQTT-2.3.1-5]."""
    retain: bool = False
    dup: bool = False
    properties: Properties = field(default_factory=_no_properties)


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """PUBACK, PUBREC, PUBREL or PUBCOMP: they differ in type only."""

    type: PacketType
    packet_id: int
    reason_code: int = 0
    properties: Properties = field(default_factory=_no_properties)


class Subscription(NamedTuple):
    """A topic filter with its subscription options (5.0 section 3.8.3.1)."""

    topic_filter: str
    qos: int
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0
    """Retained messages are sent: 0 always, 1 when the subscription is new, 2 never."""


@dataclass(frozen=True, slots=True)
class Subscribe:
    packet_id: int
    subscriptions: tuple[Subscription, ...]
    properties: Properties = field(default_factory=_no_properties)
    unread: int = 0
    """How many more subscriptions the packet asked for than its reader was willing to look at."""


@dataclass(frozen=True, slots=True)
class Suback:
    packet_id: int
    reason_codes: tuple[int, ...]
    properties: Properties = field(default_factory=_no_properties)


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    packet_id: int
    topic_filters: tuple[str, ...]
    properties: Properties = field(default_factory=_no_properties)


@dataclass(frozen=True, slots=True)
class Unsuback:
    packet_id: int
    reason_codes: tuple[int, ...] = ()
    """One for each filter in 5.0, none in 3.1.1."""
    properties: Properties = field(default_factory=_no_properties)


@dataclass(frozen=True, slots=True)
class Pingreq:
    pass


@dataclass(frozen=True, slots=True)
class Pingresp:
    pass


@dataclass(frozen=True, slots=True)
class Disconnect:
    reason_code: int = 0
    properties: Properties = field(default_factory=_no_properties)


@dataclass(frozen=True, slots=True)
class Auth:
    """Enhanced authentication (5.0 section 3.15)."""

    reason_code: int = 0
    properties: Properties = field(default_factory=_no_properties)


Packet = (
    Connect
    | Connack
    | Publish
    | Acknowledgement
    | Subscribe
    | Suback
    | Unsubscribe
    | Unsuback
    | Pingreq
    | Pingresp
    | Disconnect
    | Auth
)
