"""Which subscribers a topic reaches: a tree of filter levels. Knows no connection; a subscriber is any hashable."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, NamedTuple, TypeVar

SubscriberT = TypeVar("SubscriberT", bound=Hashable)

MAX_CACHED_TOPICS = 10_000
MAX_CACHED_COPIES = 100_000
"""Subscribers in all cached answers together: a thousand subscribers of `#` are in the answer for every topic."""
PLACES_IN_REACH = 10
"""What a level at or below a `+` counts as: only those can be on many paths at once that a topic has to be followed on.
A topic goes by one path through all others, however many there are."""


class Grant(NamedTuple):
    """How a subscriber gets messages: the options of its subscription (5.0 section 3.8.3.1)."""

    qos: int
    no_local: bool = False
    retain_as_published: bool = False
    subscription_ids: tuple[int, ...] = ()


class SharedGroup(Generic[SubscriberT]):
    """The members of one shared subscription; each message goes to one of them (5.0 section 4.8.2)."""

    __slots__ = ("_members", "_order", "_turn")

    def __init__(self) -> None:
        self._members: dict[SubscriberT, Grant] = {}
        self._order: list[SubscriberT] = []
        self._turn = 0

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, subscriber: SubscriberT) -> bool:
        return subscriber in self._members

    def put(self, subscriber: SubscriberT, grant: Grant) -> None:
        """Add a member, or give it other options."""
        self._members[subscriber] = grant
        self._order = list(self._members)

    def remove(self, subscriber: SubscriberT) -> bool:
        """Let a member go; whether it was one."""
        if self._members.pop(subscriber, None) is None:
            return False
        self._order = list(self._members)
        return True

    def in_turn(self) -> Iterator[tuple[SubscriberT, Grant]]:
        """The members, beginning with the one whose turn it is; asking moves the turn on."""
        order = self._order
        start = self._turn = (self._turn + 1) % len(order) if order else 0
        for position in range(start, start + len(order)):
            subscriber = order[position % len(order)]
            yield subscriber, self._members[subscriber]


class Matches(NamedTuple, Generic[SubscriberT]):
    """Who gets a message."""

    subscribers: list[tuple[SubscriberT, Grant]]
    """Each once: the highest QoS of its matching filters [MQTT-3.3.5-1] and the identifiers of all of them."""
    groups: list[SharedGroup[SubscriberT]]
    fan_out: int
    """How many copies it makes."""
    nodes: int = 0
    """How many places of the tree had to be looked at."""


class _Node(Generic[SubscriberT]):
    __slots__ = ("children", "groups", "subscribers")

    def __init__(self) -> None:
        self.children: dict[str, _Node[SubscriberT]] = {}
        self.subscribers: dict[SubscriberT, Grant] = {}
        self.groups: dict[str, SharedGroup[SubscriberT]] | None = None

    @property
    def is_empty(self) -> bool:
        return not (self.subscribers or self.groups)


class TopicTree(Generic[SubscriberT]):
    """Subscriptions by topic filter, matched by topic name.

    A match of hostile filters follows many paths, but never more than there are nodes; the caller limits levels,
    wildcards and subscriptions. Answers are kept until any subscription changes.
    """

    def __init__(self) -> None:
        self._root: _Node[SubscriberT] = _Node()
        self.known: dict[str, Matches[SubscriberT]] = {}
        """Answers of `match`, for those who look here first; it is emptied, never replaced."""
        self._cached_copies = 0
        self.subscriptions = 0
        self.nodes = 0
        """Places in the tree: what it takes in memory, and ten times what a match has to look at, at most."""

    @property
    def is_empty(self) -> bool:
        return not self._root.children

    def subscribe(self, topic_filter: str, subscriber: SubscriberT, grant: Grant, group: str | None = None) -> bool:
        """Add or replace a subscription [MQTT-3.8.4-3], in a shared group if one is named. True when it is the first
        with this filter."""
        node = self._root
        in_reach = False
        for level in topic_filter.split("/"):
            in_reach = in_reach or level == "+"
            child = node.children.get(level)
            if child is None:
                child = node.children[level] = _Node()
                self.nodes += _places(level, in_reach)
            node = child
        is_first = node.is_empty
        if group is None:
            self.subscriptions += subscriber not in node.subscribers
            node.subscribers[subscriber] = grant
        else:
            if node.groups is None:
                node.groups = {}
            shared = node.groups.get(group)
            if shared is None:
                shared = node.groups[group] = SharedGroup()
                self.nodes += _places(group)
            self.subscriptions += subscriber not in shared
            shared.put(subscriber, grant)
        self.known.clear()
        return is_first

    def unsubscribe(self, topic_filter: str, subscriber: SubscriberT, group: str | None = None) -> bool:
        """Remove a subscription if it is there. True when it was the last with this filter."""
        path: list[tuple[_Node[SubscriberT], str, bool]] = []
        node = self._root
        in_reach = False
        for level in topic_filter.split("/"):
            in_reach = in_reach or level == "+"
            child = node.children.get(level)
            if child is None:
                return False
            path.append((node, level, in_reach))
            node = child
        groups = len(node.groups or ())
        if not _remove(node, subscriber, group):
            return False
        self.subscriptions -= 1
        if group is not None and len(node.groups or ()) < groups:
            self.nodes -= _places(group)
        self.known.clear()
        is_last = node.is_empty
        for parent, level, in_reach in reversed(path):
            child = parent.children[level]
            if child.children or not child.is_empty:
                break
            del parent.children[level]
            self.nodes -= _places(level, in_reach)
        return is_last

    def groups(self, topic_filter: str, beginning: str = "") -> int:
        """How many shared groups whose name begins so a filter has: each gets a copy of every message."""
        node = self._find(topic_filter)
        return 0 if node is None else sum(name.startswith(beginning) for name in node.groups or ())

    def group(self, topic_filter: str, name: str) -> SharedGroup[SubscriberT] | None:
        """The shared group of this name with this filter, if it has members."""
        node = self._find(topic_filter)
        return None if node is None or node.groups is None else node.groups.get(name)

    def _find(self, topic_filter: str) -> _Node[SubscriberT] | None:
        node: _Node[SubscriberT] | None = self._root
        for level in topic_filter.split("/"):
            node = node.children.get(level) if node is not None else None
        return node

    def match(self, topic: str) -> Matches[SubscriberT]:
        """Who gets messages of a topic."""
        found = self.known.get(topic)
        if found is None:
            found = self._search(topic)
            self._cached_copies += found.fan_out
            if len(self.known) >= MAX_CACHED_TOPICS or self._cached_copies > MAX_CACHED_COPIES:
                self.known.clear()
                self._cached_copies = found.fan_out
            self.known[topic] = found
        return found

    def exact(self, topic_filter: str) -> Matches[SubscriberT]:
        """Who has this very filter, whatever others match it."""
        node = self._find(topic_filter)
        subscribers = [] if node is None else list(node.subscribers.items())
        groups = [] if node is None else list((node.groups or {}).values())
        return Matches(subscribers, groups, len(subscribers) + len(groups))

    def _search(self, topic: str) -> Matches[SubscriberT]:
        found: dict[SubscriberT, Grant] = {}
        groups: list[SharedGroup[SubscriberT]] = []
        nodes, looked_at = self._matching_nodes(topic)
        for node in nodes:
            for subscriber, grant in node.subscribers.items():
                other = found.get(subscriber)
                found[subscriber] = grant if other is None else _merge(other, grant)
            if node.groups is not None:
                groups.extend(node.groups.values())
        return Matches(list(found.items()), groups, len(found) + len(groups), looked_at)

    def _matching_nodes(self, topic: str) -> tuple[list[_Node[SubscriberT]], int]:
        """The places where subscriptions match, and how many were looked at."""
        found: list[_Node[SubscriberT]] = []
        nodes = [self._root]
        looked_at = 0
        for depth, level in enumerate(topic.split("/")):
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
                        found.append(children["#"])
            if not below:
                return found, looked_at
            nodes = below
            looked_at += len(nodes)
        for node in nodes:
            found.append(node)
            if "#" in node.children:  # "sport/#" matches "sport" too (section 4.7.1.2)
                found.append(node.children["#"])
        return found, looked_at


def _places(name: str, in_reach: bool = False) -> int:
    """What a name counts as: one place in the tree, and more when it is long or in reach of many topics."""
    return (PLACES_IN_REACH if in_reach else 1) + len(name) // 256


def _remove(node: _Node[SubscriberT], subscriber: SubscriberT, group: str | None) -> bool:
    if group is None:
        return node.subscribers.pop(subscriber, None) is not None
    shared = (node.groups or {}).get(group)
    if shared is None or not shared.remove(subscriber):
        return False
    assert node.groups is not None
    if not len(shared):
        del node.groups[group]
    if not node.groups:
        node.groups = None
    return True


def _merge(one: Grant, other: Grant) -> Grant:
    """Overlapping subscriptions of one client: it gets what any of them gives."""
    return Grant(
        max(one.qos, other.qos),
        one.no_local and other.no_local,
        one.retain_as_published or other.retain_as_published,
        one.subscription_ids + other.subscription_ids,
    )
