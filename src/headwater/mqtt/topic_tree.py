"""Which subscribers a topic reaches: a tree of filter levels. Knows no connection; a subscriber is any hashable."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

SubscriberT = TypeVar("SubscriberT", bound=Hashable)

MAX_CACHED_TOPICS = 10_000


class _Node(Generic[SubscriberT]):
    __slots__ = ("children", "subscribers")

    def __init__(self) -> None:
        self.children: dict[str, _Node[SubscriberT]] = {}
        self.subscribers: dict[SubscriberT, int] = {}


class TopicTree(Generic[SubscriberT]):
    """Subscriptions by topic filter, matched by topic name.

    A match of hostile filters follows many paths, but never more than there are nodes; the caller limits levels,
    wildcards and subscriptions. Answers are kept until any subscription changes.
    """

    def __init__(self) -> None:
        self._root: _Node[SubscriberT] = _Node()
        self._matches: dict[str, dict[SubscriberT, int]] = {}

    def subscribe(self, topic_filter: str, subscriber: SubscriberT, qos: int) -> bool:
        """Add or replace a subscription [MQTT-3.8.4-3]. True when it is the first with this filter."""
        node = self._root
        for level in topic_filter.split("/"):
            child = node.children.get(level)
            if child is None:
                child = node.children[level] = _Node()
            node = child
        is_first = not node.subscribers
        node.subscribers[subscriber] = qos
        self._matches.clear()
        return is_first

    def unsubscribe(self, topic_filter: str, subscriber: SubscriberT) -> bool:
        """Remove a subscription if it is there. True when it was the last with this filter."""
        path: list[tuple[_Node[SubscriberT], str]] = []
        node = self._root
        for level in topic_filter.split("/"):
            child = node.children.get(level)
            if child is None:
                return False
            path.append((node, level))
            node = child
        if node.subscribers.pop(subscriber, None) is None:
            return False
        self._matches.clear()
        is_last = not node.subscribers
        for parent, level in reversed(path):
            child = parent.children[level]
            if child.subscribers or child.children:
                break
            del parent.children[level]
        return is_last

    def match(self, topic: str) -> dict[SubscriberT, int]:
        """Subscribers of a topic, each once with the highest QoS of its matching filters [MQTT-3.3.5-1]."""
        found = self._matches.get(topic)
        if found is None:
            found = self._search(topic)
            if len(self._matches) >= MAX_CACHED_TOPICS:
                self._matches.clear()
            self._matches[topic] = found
        return found

    def _search(self, topic: str) -> dict[SubscriberT, int]:
        found: dict[SubscriberT, int] = {}
        levels = topic.split("/")
        nodes = [self._root]
        for depth, level in enumerate(levels):
            below: list[_Node[SubscriberT]] = []
            # Wildcards in the first level do not match topics that begin with '$' [MQTT-4.7.2-1].
            wildcards_match = depth > 0 or not level.startswith("$")
            for node in nodes:
                children = node.children
                if level in children:
                    below.append(children[level])
                if wildcards_match:
                    if "+" in children:
                        below.append(children["+"])
                    if "#" in children:
                        _collect(found, children["#"])
            if not below:
                return found
            nodes = below
        for node in nodes:
            _collect(found, node)
            if "#" in node.children:  # "sport/#" matches "sport" too (section 4.7.1.2)
                _collect(found, node.children["#"])
        return found


def _collect(found: dict[SubscriberT, int], node: _Node[SubscriberT]) -> None:
    for subscriber, qos in node.subscribers.items():
        if qos > found.get(subscriber, -1):
            found[subscriber] = qos
