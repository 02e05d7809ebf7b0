"""What the tests ask of an MQTT client, whatever library it is made of. Knows no library.

Properties of MQTT 5 are a dictionary by their names in the standard, written `likeThis`; user properties are a list of
pairs, subscription identifiers a list of numbers, correlation data are bytes.
"""

from __future__ import annotations

import queue
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from server import Credentials, Server

TIMEOUT_S = 15.0


class Route(NamedTuple):
    """How a client comes: the version of MQTT (3 for 3.1, 4 for 3.1.1, 5) and `tcp`, `tls`, `ws` or `wss`."""

    level: int = 4
    transport: str = "tcp"

    def __str__(self) -> str:
        return f"{ {3: '3.1', 4: '3.1.1', 5: '5.0'}[self.level] }-{self.transport}"

    def port(self, server: Server) -> int:
        ports = {"tcp": "mqtt_port", "tls": "mqtts_port", "ws": "http_port", "wss": "https_port"}
        port: int = getattr(server, ports[self.transport])
        return port


PLAIN = Route()


class LastWill(NamedTuple):
    topic: str
    payload: str
    qos: int = 0
    retain: bool = False
    delay_s: int = 0


@dataclass(frozen=True)
class Options:
    """How to connect."""

    server: Server
    who: Credentials
    route: Route = PLAIN
    clean: bool = True
    keep_alive_s: int = 60
    will: LastWill | None = None
    manual_ack: bool = False
    properties: dict[str, Any] = field(default_factory=dict)


class Received(NamedTuple):
    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: dict[str, Any]


class Connected(NamedTuple):
    code: int
    session_present: bool
    properties: dict[str, Any]


class Answer(NamedTuple):
    """An acknowledgement: its reason code (0 where MQTT 3 has none) and reason string."""

    code: int
    reason: str


class MqttClient(ABC):
    """One client. It may connect again after a connection has ended."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.messages: queue.Queue[Received] = queue.Queue()
        self.ends: queue.Queue[int] = queue.Queue()
        """For each connection that has ended: the reason code of the server's DISCONNECT, or 0."""

    @abstractmethod
    def connect(self) -> Connected:
        """Connect, or be refused."""

    @abstractmethod
    def subscribe(
        self,
        topic_filter: str,
        qos: int = 0,
        *,
        no_local: bool = False,
        retain_as_published: bool = False,
        retain_handling: int = 0,
        subscription_id: int = 0,
    ) -> int:
        """The code in SUBACK."""

    @abstractmethod
    def unsubscribe(self, topic_filter: str) -> int:
        """The code in UNSUBACK; 0 where MQTT 3 has none."""

    @abstractmethod
    def publish_all(
        self, topic: str, payloads: Iterable[str], qos: int = 0, retain: bool = False, **properties: Any
    ) -> list[Answer]:
        """Publish one after the other without waiting; then wait until all are acknowledged."""

    @abstractmethod
    def disconnect(self, code: int = 0) -> None:
        """Say goodbye, and wait for the end of the connection."""

    @abstractmethod
    def vanish(self) -> None:
        """Be gone without a word, as when the network fails."""

    @abstractmethod
    def close(self) -> None:
        """Let go of everything, in whatever state."""

    def publish(self, topic: str, payload: str, qos: int = 0, retain: bool = False, **properties: Any) -> Answer:
        """Publish, and wait for the acknowledgement if there is one."""
        return self.publish_all(topic, [payload], qos, retain, **properties)[0]

    def receive(self, count: int = 1) -> list[Received]:
        """So many messages, as they come."""
        deadline_s = time.monotonic() + TIMEOUT_S
        return [self.messages.get(timeout=max(0.01, deadline_s - time.monotonic())) for _ in range(count)]

    def receive_until(self, payload: str) -> list[Received]:
        """What comes before a message that shows that everything earlier has come."""
        before: list[Received] = []
        while (message := self.receive()[0]).payload != payload.encode():
            before.append(message)
        return before

    def wait_end(self) -> int:
        """Wait until the connection has ended; the reason code of the server's DISCONNECT, or 0."""
        return self.ends.get(timeout=TIMEOUT_S)


def payloads(messages: Iterable[Received]) -> list[str]:
    return [message.payload.decode() for message in messages]
