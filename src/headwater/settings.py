"""The settings: one tree of frozen values, with the meaning, the unit and the limits of each beside it.

Every setting is a TOML key (`mqtt.max_connections`), an environment variable
(`HEADWATER_MQTT_MAX_CONNECTIONS`) and, where `flag` is given, an option of `headwater serve`; flag wins over
environment, environment over file, file over default. Reading is pure: this module opens no file and looks at
no environment of its own.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from headwater.errors import ConfigurationError
from headwater.setting_kinds import (
    ADDRESSES,
    ANY_ORIGIN,
    HOST_NAMES,
    HOSTS_AND_NETWORKS,
    ORIGINS,
    Directory,
    ForeignPassword,
    HostName,
    Kind,
    Line,
    MailAddress,
    Number,
    OneOf,
    OptionalFile,
    Secret,
    Switch,
    WebAddress,
    Whole,
)
from headwater.setting_kinds import Address as Address  # part of the tree, so to be had with it

ENVIRONMENT_PREFIX = "HEADWATER_"
CONFIG_VARIABLE = "HEADWATER_CONFIG"
"""Names the configuration file where `--config` does not."""
ADMIN_VARIABLES = ("HEADWATER_ADMIN_USER", "HEADWATER_ADMIN_PASSWORD", "HEADWATER_ADMIN_TOKEN")

_KUBERNETES_VARIABLE = re.compile(r"HEADWATER_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_\w+)?)")
"""Set by Kubernetes in every pod beside a service that is called `headwater`; nobody meant them for us."""

_MIB = 1024 * 1024
_CACHE_LIMIT_MB = 1024 * 1024

T = TypeVar("T")


class StoreEngine(enum.StrEnum):
    DUCKDB = "duckdb"
    MEMORY = "memory"


class MailSecurity(enum.StrEnum):
    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"


class LogLevel(enum.StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(enum.StrEnum):
    HUMAN = "human"
    JSON = "json"


class ClientCertificates(enum.StrEnum):
    OFF = "off"
    OPTIONAL = "optional"
    REQUIRED = "required"


def setting(default: T, kind: Kind[T], doc: str, *, flag: str = "") -> T:
    """A dataclass field that knows how it is read and what it means. `doc` is one or two plain sentences."""
    is_shown = not isinstance(kind, Secret)
    return dataclasses.field(default=default, repr=is_shown, metadata={"kind": kind, "doc": doc, "flag": flag})


@dataclass(frozen=True, slots=True)
class ListenSettings:
    """Where clients and browsers connect"""

    http: tuple[Address, ...] = setting(
        (Address("127.0.0.1", 8080),),
        ADDRESSES,
        "Addresses for HTTP: console and REST.",
        flag="--http",
    )
    https: tuple[Address, ...] = setting(
        (Address("127.0.0.1", 8443),), ADDRESSES, "Addresses for the same over TLS.", flag="--https"
    )
    mqtt: tuple[Address, ...] = setting((Address("127.0.0.1", 1883),), ADDRESSES, "Addresses for MQTT.", flag="--mqtt")
    mqtts: tuple[Address, ...] = setting(
        (Address("127.0.0.1", 8883),), ADDRESSES, "Addresses for MQTT over TLS.", flag="--mqtts"
    )
    mqtt_proxied: tuple[Address, ...] = setting(
        (),
        ADDRESSES,
        "Addresses for MQTT behind a proxy that sends the PROXY protocol (v1 or v2) and so tells who the client is. "
        "Whoever reaches them is believed: let nothing but the proxy through.",
        flag="--mqtt-proxied",
    )
    websocket_origins: tuple[str, ...] = setting(
        (ANY_ORIGIN,),
        ORIGINS,
        "Web sites whose pages may open MQTT over WebSocket, as a browser tells in `Origin`; Headwater's own pages "
        "always may. MQTT needs credentials of its own, so no page gains anything from somebody's sign-in.",
    )


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Certificates"""

    certificate: Path | None = setting(
        None,
        OptionalFile(),
        "Certificate chain (PEM) to serve. Without one, Headwater makes its own CA and server certificate.",
        flag="--cert",
    )
    key: Path | None = setting(
        None, OptionalFile(), "Private key (PEM, not encrypted) of that certificate.", flag="--key"
    )
    host_names: tuple[str, ...] = setting(
        (),
        HOST_NAMES,
        "More names and addresses for the server certificate that Headwater makes. It always holds "
        "localhost, the machine's own name and the addresses of the TLS listeners.",
    )
    client_certificates: ClientCertificates = setting(
        ClientCertificates.OFF,
        OneOf(ClientCertificates),
        "Whether MQTT clients on the TLS listeners show a certificate of their own. `required`: without one that "
        "`tls.client_ca` has signed, nobody connects. `optional`: one that is shown must be signed so.",
    )
    client_ca: Path | None = setting(
        None,
        OptionalFile(),
        "Certificates (PEM) of the CAs that sign clients' certificates. Needed as soon as clients show them.",
    )
    max_handshakes: int = setting(
        500,
        Whole(1, 100_000),
        "Most TLS handshakes under way at the same time on one listener. One more ends the oldest.",
    )


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """MQTT clients"""

    allow_topic_keys: bool = setting(
        True,
        Switch(),
        "Let clients connect without a password, or with any that looks like a key of ThingSpeak's. They may do only "
        "what a key inside a topic allows, as older ThingSpeak devices do that put their write key at the end of the "
        "topic.",
    )
    allow_anonymous: bool = setting(
        False,
        Switch(),
        "Give clients that connect without a password a topic tree that they all share, without rights on channels. "
        "For closed networks and tests only.",
    )
    max_packet_bytes: int = setting(
        262_144,
        Whole(1024, 268_435_455, "bytes"),
        "Largest packet of any kind that a client may send once it has signed in, and the largest message that it may "
        "leave as its will.",
    )
    max_connect_bytes: int = setting(
        65_536,
        Whole(1024, 268_435_455, "bytes"),
        "Largest CONNECT packet: what somebody may send before it is known who they are.",
    )
    max_subscribe_bytes: int = setting(
        65_536,
        Whole(1024, 268_435_455, "bytes"),
        "Largest SUBSCRIBE or UNSUBSCRIBE packet; `mqtt.max_packet_bytes` holds for them too.",
    )
    max_control_bytes: int = setting(
        4096,
        Whole(128, 268_435_455, "bytes"),
        "Largest packet of the other kinds, PUBLISH excepted: acknowledgements, PINGREQ, DISCONNECT and AUTH.",
    )
    max_connections: int = setting(20_000, Whole(1, 1_000_000), "Most clients connected at the same time.")
    max_connections_per_address: int = setting(
        0,
        Whole(0, 1_000_000),
        "Most clients connected at the same time from one IP address; 0 = no such limit.",
    )
    max_connections_per_account: int = setting(
        0,
        Whole(0, 1_000_000),
        "Most clients connected at the same time as one account or its devices; 0 = no such limit.",
    )
    max_connects_per_second_per_address: int = setting(
        0,
        Whole(0, 100_000),
        "Most new connections in a second from one IP address; 0 = no such limit. Where devices share an address, "
        "leave room for all of them to come back at once.",
    )
    max_failures_per_minute: int = setting(
        10,
        Whole(0, 10_000),
        "Failed sign-ins of one client id from one IP address within a minute, after which more are refused; 0 = no "
        "such limit.",
    )
    max_failures_per_minute_per_address: int = setting(
        100,
        Whole(0, 100_000),
        "The same for all client ids of an address together. The machine itself is exempt: behind a reverse proxy, "
        "everybody has its address.",
    )
    failures_block_s: float = setting(300.0, Number(1, 86_400, "seconds"), "How long they are refused then.")
    max_takeovers_per_minute: int = setting(
        30,
        Whole(0, 10_000),
        "How often within a minute a client may take the place of a connection with the same client id; 0 = no such "
        "limit. Beyond it the connection that is there stays: two devices have the same id.",
    )
    certificate_sign_in: bool = setting(
        False,
        Switch(),
        "Let a device sign in without a password when the certificate that it shows is signed by `tls.client_ca` and "
        "its common name is the device's client id (`account/device-id` for an account device).",
    )
    connect_timeout_s: float = setting(
        10.0, Number(0.1, 600, "seconds"), "Time from the connection to a valid CONNECT packet."
    )
    max_keep_alive_s: int = setting(
        3600,
        Whole(10, 65_535, "seconds"),
        "Longest keep alive. A client that asks for more, or for none, gets this.",
    )
    max_topic_bytes: int = setting(1024, Whole(64, 65_535, "bytes"), "Longest topic or topic filter.")
    max_topic_levels: int = setting(32, Whole(4, 1024), "Most levels (parts between `/`) of a topic.")
    max_wildcard_levels: int = setting(
        8, Whole(0, 1024), "Most `+` levels of a topic filter. One with more is refused: it costs much to match."
    )
    max_subscriptions: int = setting(100, Whole(1, 100_000), "Most subscriptions of one client.")
    max_subscription_levels_per_account: int = setting(
        500_000,
        Whole(1000, 100_000_000),
        "Most levels of all topic filters of one account that differ, where a level at or below a `+` counts tenfold. "
        "Each takes about 360 bytes, and a message may have to look at all those below a `+`.",
    )
    max_filters_per_subscribe: int = setting(
        50, Whole(1, 10_000), "Most topic filters in one SUBSCRIBE packet; those beyond are refused one by one."
    )
    receive_maximum: int = setting(
        100,
        Whole(1, 65_535),
        "Most QoS 1 and 2 messages that an MQTT 5 client may send before earlier ones are acknowledged.",
    )
    max_unreleased: int = setting(
        1000, Whole(1, 65_535), "Most QoS 2 messages that an MQTT 3 client may send before it releases earlier ones."
    )
    topic_alias_maximum: int = setting(
        20, Whole(0, 65_535), "Most topic aliases that an MQTT 5 client may use, and that it is sent; 0 = none."
    )
    max_user_properties: int = setting(64, Whole(0, 10_000), "Most user properties of one MQTT 5 packet.")
    max_user_property_bytes: int = setting(16_384, Whole(0, _MIB, "bytes"), "Most bytes that they may take together.")
    session_expiry_s: int = setting(
        86_400,
        Whole(1, 315_360_000, "seconds"),
        "How long the session of an MQTT 3 client with clean session 0 is kept while the client is away.",
    )
    max_session_expiry_s: int = setting(
        604_800,
        Whole(0, 315_360_000, "seconds"),
        "Longest time that any session is kept while its client is away; 0 = sessions end with their connections.",
    )
    max_message_expiry_s: int = setting(
        0,
        Whole(0, 4_294_967_295, "seconds"),
        "Longest Message Expiry Interval. Messages that ask for more, or for none, get this, wills and retained ones "
        "too; 0 = as their publishers say. For example 604800 (one week).",
    )
    max_sessions_per_account: int = setting(
        10_000, Whole(1, 10_000_000), "Most sessions of one account that are kept, with their clients here or away."
    )
    max_client_id_bytes: int = setting(128, Whole(23, 65_535, "bytes"), "Longest client id.")
    max_write_buffer_bytes: int = setting(
        _MIB,
        Whole(16_384, 1024 * _MIB, "bytes"),
        "How much may wait to be sent to one client. What comes on top waits in its queue (QoS 1 and 2) or is "
        "dropped for that client (QoS 0).",
    )
    write_timeout_s: float = setting(
        60.0,
        Number(1, 3600, "seconds"),
        "A client that reads nothing of what waits for it for so long is disconnected.",
    )
    max_in_flight: int = setting(
        20, Whole(1, 65_535), "Most QoS 1 and 2 messages on their way to one client without its acknowledgement."
    )
    max_queued_messages: int = setting(
        1000,
        Whole(0, 65_000),
        "Most messages that wait for one client beyond those in flight. When there are more, the oldest are dropped.",
    )
    max_queued_bytes: int = setting(
        _MIB, Whole(0, 1024 * _MIB, "bytes"), "Most bytes that wait for one client beyond those in flight."
    )
    max_queued_bytes_total: int = setting(
        256 * _MIB,
        Whole(_MIB, 1024 * 1024 * _MIB, "bytes"),
        "Most bytes that wait for all clients together. When there are more, accounts that hold an equal share of them "
        "or more have the oldest dropped.",
    )
    max_queued_bytes_per_account: int = setting(
        64 * _MIB, Whole(_MIB, 1024 * 1024 * _MIB, "bytes"), "Most bytes that wait for the clients of one account."
    )
    max_retained_messages: int = setting(
        200_000, Whole(0, 100_000_000), "Most retained messages of all accounts together."
    )
    max_retained_messages_per_account: int = setting(
        100_000, Whole(0, 100_000_000), "Most retained messages of one account."
    )
    max_retained_bytes: int = setting(
        256 * _MIB,
        Whole(0, 1024 * 1024 * _MIB, "bytes"),
        "Most bytes that the retained messages of all accounts may take together, with their places in the tree.",
    )
    max_retained_bytes_per_account: int = setting(
        64 * _MIB, Whole(0, 1024 * 1024 * _MIB, "bytes"), "Most bytes that those of one account may take."
    )
    max_messages_per_second: int = setting(
        0,
        Whole(0, 1_000_000),
        "Most messages in a second from one client; 0 = no such limit. Whoever sends more is read from more slowly.",
    )
    max_bytes_per_second: int = setting(
        0, Whole(0, 10_000_000_000, "bytes"), "Most bytes in a second from one client; 0 = no such limit."
    )
    sys_interval_s: float = setting(
        10.0,
        Number(0, 3600, "seconds"),
        "How often the broker publishes its counters below `$SYS`, for administrators; 0 = never.",
    )
    bytes_per_turn: int = setting(
        32_768,
        Whole(4096, 64 * _MIB, "bytes"),
        "How much of what one client sends is taken in before the others have their turn.",
    )


@dataclass(frozen=True, slots=True)
class WebSettings:
    """HTTP and the console"""

    public_url: str = setting(
        "",
        WebAddress(),
        "Address at which people reach the console from outside, for instance behind a reverse proxy.",
    )
    max_body_bytes: int = setting(8 * _MIB, Whole(1024, 1024 * _MIB, "bytes"), "Largest request body that is accepted.")
    max_connections: int = setting(5000, Whole(1, 1_000_000), "Most HTTP connections at the same time.")
    keep_alive_s: float = setting(30.0, Number(1, 3600, "seconds"), "How long an idle HTTP connection is kept open.")
    header_timeout_s: float = setting(
        10.0, Number(0.1, 600, "seconds"), "Time in which the head of a request must arrive."
    )
    body_timeout_s: float = setting(
        30.0,
        Number(0.1, 3600, "seconds"),
        "Time in which the body of a request must arrive; each KiB that has arrived adds a second.",
    )
    write_timeout_s: float = setting(
        60.0,
        Number(0.1, 3600, "seconds"),
        "A client that takes less than 1 KiB of its answer per second for so long is disconnected.",
    )
    session_hours: int = setting(
        168, Whole(1, 8760, "hours"), "How long a sign-in to the console lasts (168 hours = one week)."
    )
    sign_in_failures_per_minute: int = setting(
        10,
        Whole(1, 10_000),
        "Failed sign-ins within a minute, from one address or for one account, after which more are refused.",
    )
    sign_in_block_s: float = setting(300.0, Number(1, 86_400, "seconds"), "How long they are refused then.")
    live_streams_per_address: int = setting(
        32,
        Whole(0, 100_000),
        "Pages of public channels that may be live at once from one address, for people who are not signed in.",
    )
    metrics_token: str = setting(
        "",
        Secret(),
        "Token that opens `/metrics`, as `Authorization: Bearer`. Empty: only account tokens of administrators do.",
    )


@dataclass(frozen=True, slots=True)
class IngestSettings:
    """From received to stored"""

    flush_interval_ms: float = setting(
        2.0,
        Number(0, 1000, "milliseconds"),
        "How long a write waits for others to share its commit. More gives larger commits and later answers.",
    )
    flush_points: int = setting(
        50_000, Whole(1, 10_000_000, "points"), "So many points are committed without waiting any longer."
    )
    max_pending_points: int = setting(
        500_000,
        Whole(1000, 100_000_000, "points"),
        "Points that may wait for the store before Headwater stops reading from its clients.",
    )


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Where points are kept"""

    engine: StoreEngine = setting(
        StoreEngine.DUCKDB,
        OneOf(StoreEngine),
        "`duckdb` keeps points on disk; `memory` forgets them when the server stops.",
    )
    memory_limit_mb: int = setting(
        1024,
        Whole(64, _CACHE_LIMIT_MB, "megabytes"),
        "How much memory the store may use for its pages and queries.",
    )
    max_spill_mb: int = setting(
        4096,
        Whole(0, 1_000_000, "megabytes"),
        "How much room on the disk queries and sorting may use together when that memory is not enough; a query that "
        "needs more is refused.",
    )
    threads: int = setting(
        0,
        Whole(0, 1024),
        "Threads that the store may use for queries; 0 = as many as there are processor cores.",
    )
    wal_limit_mb: int = setting(
        8,
        Whole(1, 16_384, "megabytes"),
        "Size at which the write-ahead log is folded into the data file. Commits wait meanwhile, about 3 ms for each "
        "megabyte.",
    )
    min_free_mb: int = setting(
        64,
        Whole(0, 1_000_000, "megabytes"),
        "How much room is left free on the disk. When there is less, nothing more is stored, and whoever sends "
        "something is told so; reading goes on, and storing too as soon as there is room again.",
    )
    hot_points: int = setting(
        1_000_000,
        Whole(1_000, 100_000_000, "points"),
        "How many points of one type are kept in the order in which they arrived before they are sorted into a file "
        "(docs/storage.md). Queries look at all of them: 2 ms for each million.",
    )


@dataclass(frozen=True, slots=True)
class QuerySettings:
    """Reading what is stored"""

    timeout_s: float = setting(
        30.0,
        Number(0.1, 86_400, "seconds"),
        "A query that takes longer, waiting for others included, is broken off. Of answers that are sent in pieces, "
        "only the time that reading them takes counts.",
    )
    max_rows: int = setting(1_000_000, Whole(1, 1_000_000_000, "rows"), "Most rows of one answer.")
    at_once: int = setting(4, Whole(1, 256), "Queries that run at the same time; others wait for their turn.")
    max_waiting: int = setting(1_000, Whole(0, 1_000_000), "Queries that may wait; more are refused.")
    max_streams: int = setting(
        20,
        Whole(1, 100_000),
        "Answers that are sent in pieces at the same time, to clients that may be slow; more are refused.",
    )


@dataclass(frozen=True, slots=True)
class RollupSettings:
    """Down-sampling"""

    interval_s: float = setting(
        60.0,
        Number(1, 86_400, "seconds"),
        "How often what has changed is down-sampled (docs/storage.md). Until then, queries take it from the points.",
    )
    rules_per_channel: int = setting(8, Whole(1, 100), "Most rules for down-sampling of one channel.")


@dataclass(frozen=True, slots=True)
class RuleSettings:
    """Rules: React, TimeControl and alerts on silence (docs/rules.md)"""

    per_account: int = setting(200, Whole(0, 100_000), "Most rules of one account.")
    actions_per_rule: int = setting(8, Whole(1, 50), "Most actions of one rule.")
    runs_per_minute: int = setting(
        30, Whole(1, 6_000), "Most runs of one rule in a minute. More are left out and counted: a loop ends here."
    )
    at_once: int = setting(
        16, Whole(1, 256), "Actions that are carried out at the same time; one account gets a quarter of them."
    )
    max_waiting: int = setting(
        1_000,
        Whole(1, 100_000),
        "Runs that may be under way, those that wait for another try included; one account gets a quarter of them. "
        "More are left out and counted.",
    )
    tries: int = setting(
        4, Whole(1, 10), "How often a webhook, a ThingHTTP or a mail is tried, with growing pauses: 2, 8, 32 seconds."
    )
    history_runs: int = setting(100, Whole(1, 10_000), "Runs that are kept in a rule's history.")


@dataclass(frozen=True, slots=True)
class SqlSettings:
    """Queries in SQL (docs/sql.md), beside what holds for every query"""

    memory_mb: int = setting(
        256,
        Whole(32, _CACHE_LIMIT_MB, "megabytes"),
        "How much memory one query may use, beside what the store uses to read points. A query that needs more is "
        "refused.",
    )
    at_once: int = setting(
        2,
        Whole(1, 64, "queries"),
        "Queries in SQL at the same time, each with its memory until its answer is sent. Others wait for their turn.",
    )


@dataclass(frozen=True, slots=True)
class ThingSpeakSettings:
    """The ThingSpeak dialect"""

    max_field_bytes: int = setting(255, Whole(16, 65_535, "bytes"), "Longest value of one field or status.")
    max_message_bytes: int = setting(3000, Whole(256, _MIB, "bytes"), "Largest update, by HTTP or MQTT.")
    max_results: int = setting(8000, Whole(1, 1_000_000, "entries"), "Most entries in one answer.")
    max_bulk_entries: int = setting(14_400, Whole(1, 1_000_000, "entries"), "Most entries in one bulk update.")
    alerts_per_half_hour: int = setting(
        10, Whole(1, 10_000, "alerts"), "Most calls of the Alerts API that an account may make within 30 minutes."
    )


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """What one account may own"""

    channels_per_account: int = setting(10_000, Whole(1, 10_000_000), "Most channels of one account.")
    devices_per_account: int = setting(20_000, Whole(1, 10_000_000), "Most MQTT devices of one account.")
    fields_per_channel: int = setting(
        64,
        Whole(8, 256),  # the greatest is that of `model.entry`
        "Most fields of one ThingSpeak channel. Every channel has eight; it has others once their owner names them.",
    )
    queued_updates_per_channel: int = setting(
        100,
        Whole(1, 1_000_000, "updates"),
        "Most updates of a channel that may wait for their turn, where its owner lets them.",
    )
    queued_updates_per_account: int = setting(
        500, Whole(1, 10_000_000, "updates"), "Most updates of all channels of an account that may wait so."
    )
    queued_updates: int = setting(
        2_000,
        Whole(1, 10_000_000, "updates"),
        "Most updates of all accounts that may wait so. One that came over HTTP keeps its connection while it waits.",
    )
    shares_per_channel: int = setting(100, Whole(0, 10_000), "Most accounts that one channel is shared with.")
    thing_https_per_account: int = setting(1_000, Whole(1, 1_000_000), "Most ThingHTTP requests of one account.")
    talkbacks_per_account: int = setting(1000, Whole(1, 1_000_000), "Most TalkBacks of one account.")
    commands_per_talkback: int = setting(8000, Whole(1, 100_000), "Most commands that may wait in one TalkBack.")


@dataclass(frozen=True, slots=True)
class HookSettings:
    """HTTP requests to other servers (docs/outbound.md)"""

    timeout_s: float = setting(
        10.0,
        Number(0.1, 300, "seconds"),
        "How long one request may take as a whole, its redirects and waiting for its turn included.",
    )
    max_answer_bytes: int = setting(
        65_536, Whole(0, 16 * _MIB, "bytes"), "How much of an answer is read; the rest is left."
    )
    max_request_bytes: int = setting(65_536, Whole(0, 16 * _MIB, "bytes"), "Largest body of a request.")
    at_once: int = setting(20, Whole(1, 1_000, "requests"), "Requests at the same time; others wait for their turn.")
    at_once_per_account: int = setting(4, Whole(1, 1_000, "requests"), "The same for one account.")
    max_waiting_per_account: int = setting(
        50, Whole(0, 100_000, "requests"), "Requests of one account that may wait for their turn; more fail."
    )
    per_account_per_minute: int = setting(
        120, Whole(0, 1_000_000, "requests"), "Most requests of one account within a minute; 0 = no such limit."
    )
    max_redirects: int = setting(
        0,
        Whole(0, 10),
        "How many redirects are followed, each checked as the first address was. 0: a redirect is the answer.",
    )
    allow_private: bool = setting(
        False,
        Switch(),
        "Let every account call this machine and the networks that it stands in. Leave it off where people have "
        "accounts whom you would not let into your network; `hooks.allow_hosts` opens single hosts.",
    )
    allow_hosts: tuple[str, ...] = setting(
        (),
        HOSTS_AND_NETWORKS,
        "Hosts and networks that may be called although they are private. A name is allowed whatever its address is.",
    )


@dataclass(frozen=True, slots=True)
class MailSettings:
    """Mail: the server that takes what Headwater sends (docs/outbound.md)"""

    host: str = setting("", HostName(), "The mail server (SMTP). Without one, no mail is sent.")
    port: int = setting(587, Whole(1, 65_535), "Its port: commonly 587 for `starttls` and 465 for `tls`.")
    security: MailSecurity = setting(
        MailSecurity.STARTTLS,
        OneOf(MailSecurity),
        "`starttls`: begin in the clear and go on encrypted, or fail. `tls`: encrypted from the start. `none`: never, "
        "for a server on this machine.",
    )
    username: str = setting("", Line(), "User name at the mail server; empty: do not sign in.")
    password: str = setting("", ForeignPassword(), "Password at the mail server.")
    password_file: Path | None = setting(
        None, OptionalFile(), "File whose first line is that password, in place of `mail.password`."
    )
    from_address: str = setting("", MailAddress(), "Who mails come from. Needed as soon as `mail.host` is set.")
    timeout_s: float = setting(10.0, Number(0.1, 300, "seconds"), "How long the mail server may take for each answer.")
    per_account_per_hour: int = setting(
        60, Whole(0, 1_000_000, "mails"), "Most mails of one account within an hour; 0 = no such limit."
    )


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Logs, which go to standard error"""

    level: LogLevel = setting(LogLevel.INFO, OneOf(LogLevel), "The least that is logged.", flag="--log-level")
    format: LogFormat = setting(
        LogFormat.HUMAN,
        OneOf(LogFormat),
        "`human`: one readable line for each event, on a terminal in colour. `json`: one JSON object a line.",
        flag="--log-format",
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything an operator may set. `Settings()` is all defaults."""

    data: Path = setting(
        Path("headwater-data"),
        Directory(),
        "Directory with everything that Headwater keeps. It is made on the first start.",
        flag="--data",
    )
    listen: ListenSettings = ListenSettings()
    tls: TlsSettings = TlsSettings()
    mqtt: MqttSettings = MqttSettings()
    web: WebSettings = WebSettings()
    ingest: IngestSettings = IngestSettings()
    store: StoreSettings = StoreSettings()
    query: QuerySettings = QuerySettings()
    rollup: RollupSettings = RollupSettings()
    rules: RuleSettings = RuleSettings()
    sql: SqlSettings = SqlSettings()
    thingspeak: ThingSpeakSettings = ThingSpeakSettings()
    limits: LimitSettings = LimitSettings()
    hooks: HookSettings = HookSettings()
    mail: MailSettings = MailSettings()
    log: LogSettings = LogSettings()

    @property
    def registry_url(self) -> str:
        """The database of accounts, channels and devices, as SQLAlchemy names it."""
        from sqlalchemy import URL  # only here: `--help` needs the settings and answers at once

        url = URL.create("sqlite", database=str(self.data / "registry.db"))  # quotes what means something in a URL
        return url.render_as_string(hide_password=False)


@dataclass(frozen=True, slots=True)
class AdminSeed:
    """The administrator to make on the first start, as far as the environment says; None = generate."""

    user: str | None = None
    password: str | None = dataclasses.field(default=None, repr=False)
    token: str | None = dataclasses.field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Definition:
    """One setting as an operator sees it."""

    key: str
    """Dotted, as in TOML: `mqtt.max_connections`."""
    section: str
    """The part before the dot; empty for `data`."""
    name: str
    default: object
    kind: Kind[object]
    doc: str
    flag: str
    """Option of `headwater serve`, or empty."""

    @property
    def variable(self) -> str:
        return ENVIRONMENT_PREFIX + self.key.replace(".", "_").upper()

    def value_in(self, settings: Settings) -> object:
        return getattr(getattr(settings, self.section) if self.section else settings, self.name)


def definitions() -> list[Definition]:
    """Every setting there is, in the order of the tree."""
    return list(_definitions_of("", Settings()))


def section_titles() -> dict[str, str]:
    """Section name to what it is about, in the order of the tree; the settings outside of any come first."""
    titles = {"": "Data"}
    for field in dataclasses.fields(Settings):
        if dataclasses.is_dataclass(field.default):
            titles[field.name] = (field.default.__doc__ or "").strip()
    return titles


def differing_keys(one: Settings, other: Settings) -> list[str]:
    """The keys of all settings that are not the same in both, in the order of the tree."""
    return [definition.key for definition in definitions() if definition.value_in(one) != definition.value_in(other)]


def load_settings(
    flags: Mapping[str, str],
    environ: Mapping[str, str],
    config_text: str | None,
    *,
    config_name: str = "the configuration file",
) -> Settings:
    """Put the tree together.

    Args: `flags` maps dotted keys to text as given on the command line (lists with commas); `environ` is
    looked through for `HEADWATER_*`; `config_text` is the TOML of the configuration file, if there is one,
    and `config_name` what messages call it.
    Raises `ConfigurationError` that names the key, its source, and what is allowed or which key was meant.
    """
    known = {definition.key: definition for definition in definitions()}
    values: dict[str, object] = {}
    for key, toml_value in _flatten(_parse_toml(config_text or "", config_name), known, config_name):
        values[key] = _read(known[key], f"in {config_name}", toml_value, from_toml=True)
    for key, text in _from_environment(environ, known):
        values[key] = _read(known[key], f"from {known[key].variable}", text)
    for key, text in flags.items():
        values[key] = _read(known[key], f"from {known[key].flag or 'the command line'}", text)
    settings = _build(values)
    _check_together(settings)
    return settings


def load_admin_seed(environ: Mapping[str, str]) -> AdminSeed:
    """The administrator from the environment; a variable that is empty counts as not set."""
    return AdminSeed(*(environ.get(variable) or None for variable in ADMIN_VARIABLES))


def _definitions_of(section: str, tree: Any) -> Iterator[Definition]:
    for field in dataclasses.fields(tree):
        if dataclasses.is_dataclass(field.default):
            yield from _definitions_of(field.name, field.default)
        else:
            key = f"{section}.{field.name}" if section else field.name
            meta = field.metadata
            yield Definition(key, section, field.name, field.default, meta["kind"], meta["doc"], meta["flag"])


def _parse_toml(text: str, config_name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: bad TOML, or a number of absurd length
        raise ConfigurationError(f"{config_name} is not valid TOML: {error}") from error


def _flatten(
    document: dict[str, Any], known: Mapping[str, Definition], config_name: str
) -> Iterator[tuple[str, object]]:
    """Dotted keys and values of a TOML document; anything that is no setting is an error."""
    sections = {definition.section for definition in known.values()} - {""}
    for name, value in document.items():
        if name in known:
            yield name, value
        elif name not in sections:
            raise ConfigurationError(
                f"unknown setting {name!r} in {config_name}{_nearest(name, sections | set(known))}"
            )
        elif not isinstance(value, dict):
            raise ConfigurationError(
                f"{name!r} in {config_name} is a section: write [{name}] and its settings below it"
            )
        else:
            for key in (f"{name}.{inner}" for inner in value):
                if key not in known:
                    raise ConfigurationError(f"unknown setting {key!r} in {config_name}{_nearest(key, known)}")
                yield key, value[key.removeprefix(f"{name}.")]


def _from_environment(environ: Mapping[str, str], known: Mapping[str, Definition]) -> Iterator[tuple[str, str]]:
    keys = {definition.variable: key for key, definition in known.items()}
    for variable in sorted(environ):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in (CONFIG_VARIABLE, *ADMIN_VARIABLES):
            continue
        if variable in keys:
            yield keys[variable], environ[variable]
        elif not _KUBERNETES_VARIABLE.fullmatch(variable):
            candidates = [*keys, CONFIG_VARIABLE, *ADMIN_VARIABLES]
            nearest = _nearest(variable, candidates, prefix=ENVIRONMENT_PREFIX)
            raise ConfigurationError(f"unknown environment variable {variable!r}{nearest}")


def _nearest(name: str, candidates: Iterable[str], *, prefix: str = "") -> str:
    """The end of a message about an unknown name: which known one was probably meant. What all of them begin
    with says nothing about that."""
    known = sorted(candidate.removeprefix(prefix) for candidate in candidates)
    matches = difflib.get_close_matches(name.removeprefix(prefix), known, n=1, cutoff=0.5)
    if not matches:
        return "; `headwater serve --help` lists all settings"
    return f"; did you mean {prefix + matches[0]!r}?"


def _read(definition: Definition, source: str, value: Any, *, from_toml: bool = False) -> object:
    kind = definition.kind
    try:
        return kind.from_toml(value) if from_toml else kind.from_text(value)
    except ValueError as error:
        raise ConfigurationError(f"{definition.key} ({source}): {error}; allowed: {kind.allowed}") from error


def _build(values: Mapping[str, object]) -> Settings:
    sections: dict[str, dict[str, object]] = {}
    for definition in definitions():
        if definition.key in values:
            sections.setdefault(definition.section, {})[definition.name] = values[definition.key]
    changes: dict[str, Any] = dict(sections.pop("", {}))
    for name, inner in sections.items():
        changes[name] = dataclasses.replace(getattr(Settings(), name), **inner)
    return dataclasses.replace(Settings(), **changes)


def _check_together(settings: Settings) -> None:
    """What no single setting can tell."""
    listen = settings.listen
    if not (listen.http or listen.https or listen.mqtt or listen.mqtts or listen.mqtt_proxied):
        raise ConfigurationError("listen.http, .https, .mqtt and .mqtts are all off: leave one of them on")
    if settings.tls.client_certificates is not ClientCertificates.OFF and settings.tls.client_ca is None:
        raise ConfigurationError(
            f"tls.client_certificates is {settings.tls.client_certificates} and tls.client_ca is not set: name the "
            "file with the CA that signs the clients' certificates"
        )
    if settings.mqtt.certificate_sign_in and settings.tls.client_certificates is ClientCertificates.OFF:
        raise ConfigurationError(
            "mqtt.certificate_sign_in is on and tls.client_certificates is off, so no client shows one: set it "
            "to optional or required, with tls.client_ca"
        )
    if settings.mail.host and not settings.mail.from_address:
        raise ConfigurationError("mail.host is set and mail.from_address is not: say who mails come from")
    if settings.mail.password and settings.mail.password_file is not None:
        raise ConfigurationError("mail.password and mail.password_file are both set: leave one of them out")
    if (settings.tls.certificate is None) != (settings.tls.key is None):
        given, missing = ("certificate", "key") if settings.tls.certificate else ("key", "certificate")
        raise ConfigurationError(f"tls.{given} is set and tls.{missing} is not: set both, or neither for the own CA")
    if settings.ingest.max_pending_points < settings.ingest.flush_points:
        raise ConfigurationError(
            f"ingest.max_pending_points ({settings.ingest.max_pending_points}) must be at least "
            f"ingest.flush_points ({settings.ingest.flush_points})"
        )
