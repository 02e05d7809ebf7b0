"""What a dialect offers to the shells: HTTP routes and files to `web/`, a topic space to `broker/`.

The shells know dialects only through these protocols, and dialects know the shells not at all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from starlette.routing import BaseRoute

from headwater.model.principal import Principal
from headwater.mqtt.publishing import PublishTarget
from headwater.mqtt.subscribing import NotGranted
from headwater.registry.entities import Channel
from headwater.settings import Settings

if TYPE_CHECKING:
    from headwater.services import Services


class Deliver(Protocol):
    """Hands a message to every subscriber of its topic in the dialect's tree."""

    def __call__(self, topic: str, payload: bytes, *, is_exact: bool = False) -> None:
        """`is_exact`: to those whose filter is this very text, and not to those of a filter with wildcards."""


FirstMessages = Callable[[], Awaitable[Sequence[tuple[str, bytes]]]]
"""Looks up topics and payloads. May raise HeadwaterError."""


class TopicSpace(Protocol):
    """How a dialect answers for every topic below its root level (`channels` for ThingSpeak)."""

    root: str

    def connect(self, deliver: Deliver) -> None:
        """Called once, before any client: where to send messages for subscribers."""

    def resolve_publish(self, principal: Principal, topic: str) -> PublishTarget:
        """Who takes messages for this topic from this principal. The broker keeps the answer until access changes.
        A topic without right or meaning gives a target that counts and answers `Refused`."""

    def judge_subscription(self, principal: Principal, topic_filter: str) -> NotGranted | None:
        """Why this principal may not have a subscription with exactly this filter, or None. What belongs to others is
        refused in the same words as what does not exist."""

    def subscribed(self, topic_filter: str) -> None:
        """The first subscription with this filter has been made."""

    def unsubscribed(self, topic_filter: str) -> None:
        """The last subscription with this filter has gone."""

    def first_messages(self, topic_filter: str) -> FirstMessages | None:
        """What each new subscription with this filter gets at once, and nobody else; None for nothing. Asked when it
        was granted, and looked up soon after."""


RawHeaders: TypeAlias = tuple[tuple[bytes, bytes], ...]
"""Names in lower case."""
Answer: TypeAlias = Callable[[int, RawHeaders, bytes], None]
"""Takes status, headers (with the body's length) and body of an HTTP answer. One of few, but for the body: heads are
remembered for a moment."""


class QuickPath(Protocol):
    """A path of HTTP that is asked so often that its usual requests go past the application."""

    def take(
        self, method: str, query: bytes, headers: Sequence[tuple[bytes, bytes]], body: bytes, answer: Answer
    ) -> bool:
        """Take a request in, and call `answer` exactly once, later. False for any request that is not of the usual
        kind: then nothing was done, and the route of the same path answers it. Both answer alike. Raises nothing."""


class Loaded(NamedTuple):
    """What became of the rows of a file."""

    taken: int
    known: int
    """There was an entry of this time already."""
    bad: int
    told: tuple[tuple[int, str], ...]
    """Line and reason of the first that could not be taken."""


class ChannelFiles(Protocol):
    """How a dialect writes a channel's entries into files and reads them back; who may is checked by the caller."""

    forms: tuple[str, ...]
    """What a file may be, as the end of its name says it."""

    def write(self, channel: Channel, form: str) -> AsyncIterator[bytes]:
        """The pieces of a file with every entry, oldest first."""

    async def load(self, channel: Channel, content: bytes, zone: tzinfo) -> Loaded:
        """Take the entries of a CSV file in; they are on disk when this returns. `zone` is that of times that say none.
        Raises BadRequest and TooLarge for what is no such file."""


ChartPoints: TypeAlias = Callable[[Channel, int, Mapping[str, str]], Awaitable[list[tuple[int, float]]]]
"""Time in nanoseconds and number of each point of a field's chart, for the parameters of a chart's address."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One outside protocol."""

    name: str
    routes: Callable[[Services, Settings], Sequence[BaseRoute]]
    topics: Callable[[Services, Settings], Sequence[TopicSpace]]
    quick_paths: Callable[[Services, Settings], Mapping[str, QuickPath]] = lambda _services, _settings: {}
    """By path; each has a route too."""
