"""What leaves the server on somebody's behalf: requests, mails and messages, as values, and who carries them out.

The use cases name what is to be sent; `hooks/` and the broker do it. Knows no socket.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from headwater.errors import RequestError

MAX_SUBJECT_LENGTH, MAX_BODY_LENGTH = 200, 20_000


class OutboundFailed(RequestError):
    """It was not sent, or not answered as wanted. Says why, fit for the owner's eyes: no password, no header."""


class OutboundRefused(OutboundFailed):
    """Not done, and trying again would not help."""


@dataclass(frozen=True, slots=True)
class OutboundRequest:
    """One HTTP request to somewhere else."""

    method: str
    """GET, POST, PUT, DELETE or PATCH."""
    url: str = field(repr=False)
    """Its query may hold a key."""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)
    username: str = ""
    """Of HTTP basic authentication; empty for none."""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class OutboundAnswer:
    """What came back."""

    status: int
    body: bytes
    """At most as long as the limits allow."""
    content_type: str
    duration_s: float


class Sender(Protocol):
    """Carries out HTTP requests within the server's safety limits."""

    async def send(self, account_id: int, request: OutboundRequest) -> OutboundAnswer:
        """One try. An answer of any status is an answer; raises OutboundFailed when there is none, or when the limits
        forbid the target."""


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail in plain text: a subject of at most `MAX_SUBJECT_LENGTH` characters without controls, a body of at most
    `MAX_BODY_LENGTH`."""

    to: tuple[str, ...]
    subject: str
    body: str


class Mailer(Protocol):
    """Hands mails to the operator's mail server."""

    @property
    def is_set_up(self) -> bool:
        """Whether the operator named a mail server."""

    async def send(self, account_id: int, mail: Mail) -> None:
        """Returns once the mail server has taken it. Raises OutboundFailed."""


class Publisher(Protocol):
    """Publishes MQTT messages in an account's name."""

    async def publish(self, account_id: int, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        """To the account's own topics, or to one of its channels (`channels/<id>/publish`). Returns once it is taken
        as it would be from a client of that account: with QoS 1, when it is on disk. Raises OutboundFailed."""


class NoMailer:
    """A Mailer where none was opened."""

    is_set_up = False

    async def send(self, account_id: int, mail: Mail) -> None:
        raise OutboundFailed("no mail server is set up: the operator names one with the setting mail.host")


class NoSender:
    """A Sender where none was opened."""

    async def send(self, account_id: int, request: OutboundRequest) -> OutboundAnswer:
        raise OutboundFailed("this server sends no requests")


class PublisherSlot:
    """A Publisher that is there before the broker is, and after it. What opens the broker connects it, and disconnects
    it again; before and after, nothing is published."""

    def __init__(self) -> None:
        self._publisher: Publisher | None = None

    @contextmanager
    def connected(self, publisher: Publisher) -> Iterator[None]:
        """While this one publishes."""
        self._publisher = publisher
        try:
            yield
        finally:
            self._publisher = None

    async def publish(self, account_id: int, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        """As `Publisher.publish` says."""
        if self._publisher is None:
            raise OutboundFailed("the broker is not running yet, or no longer")
        await self._publisher.publish(account_id, topic, payload, qos=qos, retain=retain)
