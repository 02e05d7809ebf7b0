"""The `$SYS` tree as a topic space: administrators may subscribe, nobody may publish."""

from __future__ import annotations

from collections.abc import Iterable

from headwater.broker.retained import SYS_TREE, Retained
from headwater.model.principal import Principal
from headwater.mqtt.message import Message
from headwater.mqtt.publishing import PublishTarget
from headwater.mqtt.subscribing import NotGranted
from headwater.services.access import Access
from headwater.services.dialect import Deliver
from headwater.services.refusals import Refusals

_NO_RIGHT = "only the broker publishes below $SYS"
_ONLY_ADMINISTRATORS = NotGranted("only administrators subscribe below $SYS: sign in with a token of one")


class SysSpace:
    """A `services.dialect.TopicSpace`. Its messages are retained, so that a new subscriber need not wait for the next
    ones; they are made by the broker and never reach the disk."""

    root = SYS_TREE

    def __init__(self, access: Access, refusals: Refusals, retained: Retained) -> None:
        self._access = access
        self._refusals = refusals
        self._retained = retained
        self._deliver: Deliver | None = None

    def connect(self, deliver: Deliver) -> None:
        self._deliver = deliver

    def publish(self, topics: Iterable[tuple[str, bytes]]) -> None:
        """Tell subscribers what the broker counts now."""
        for topic, payload in topics:
            self._retained.keep_in_memory(SYS_TREE, Message(topic, topic.encode(), payload, 0, retain=True))
            if self._deliver is not None:
                self._deliver(topic, payload)

    def resolve_publish(self, principal: Principal, topic: str) -> PublishTarget:
        return self._refusals.refusing(principal, _NO_RIGHT, topic=topic)

    def judge_subscription(self, principal: Principal, topic_filter: str) -> NotGranted | None:
        return None if self._access.is_admin(principal) else _ONLY_ADMINISTRATORS

    def subscribed(self, topic_filter: str) -> None:
        """Nothing is made for one filter alone."""

    def unsubscribed(self, topic_filter: str) -> None:
        """As above."""

    def first_messages(self, topic_filter: str) -> None:
        """What is retained does for that."""
