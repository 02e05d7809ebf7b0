"""Who gets which message: one tree of subscriptions per account, one for anonymous clients where they are allowed,
and one for each dialect's root level.

Knows no socket: a subscriber is whatever has `deliver`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Protocol

from headwater.model.principal import Principal, PrincipalKind
from headwater.mqtt.encode import render_publish
from headwater.mqtt.session import Pending, PublishTarget
from headwater.mqtt.topic_tree import TopicTree
from headwater.services.dialect import TopicSpace
from headwater.services.refusals import Refusals

_WITH_OWN_TREE = (PrincipalKind.ACCOUNT, PrincipalKind.ANONYMOUS)


class Subscriber(Hashable, Protocol):
    def deliver(self, topic: bytes, payload: bytes, qos: int, rendered_qos0: bytes) -> None:
        """Send a message; `rendered_qos0` is the whole packet for QoS 0, made once for all."""


class Router:
    """Resolves topics and filters for a principal, and hands messages on."""

    def __init__(self, spaces: Iterable[TopicSpace], refusals: Refusals) -> None:
        self._spaces = {space.root: space for space in spaces}
        self._space_trees: dict[str, TopicTree[Subscriber]] = {root: TopicTree() for root in self._spaces}
        self._own_trees: dict[int | None, TopicTree[Subscriber]] = {}
        """By account id; None is the tree of anonymous clients."""
        self._refusals = refusals
        for root, space in self._spaces.items():
            tree = self._space_trees[root]
            space.connect(lambda topic, payload, tree=tree: deliver(tree, topic, payload, 1))  # type: ignore[misc]

    def resolve_publish(self, principal: Principal, topic: str) -> PublishTarget:
        """Who takes messages for this topic from this principal."""
        space = self._spaces.get(topic.split("/", 1)[0])
        if space is not None:
            return space.resolve_publish(principal, topic)
        tree = self._own_tree(principal, topic)
        return self._refusing(principal) if tree is None else _routing(tree, topic)

    def _refusing(self, principal: Principal) -> PublishTarget:
        def refuse(_payload: bytes, _flags: int, _now_ns: int) -> Pending | None:
            reason = "no right to publish to this topic: devices publish below channels/, account tokens anywhere but $"
            self._refusals.note(reason, device_id=principal.device_id)
            return None

        return refuse

    def subscribe(self, principal: Principal, topic_filter: str, subscriber: Subscriber, qos: int) -> bool:
        """Add a subscription; False when this principal may not have it."""
        tree = self._tree_for(principal, topic_filter)
        if tree is None:
            return False
        if tree.subscribe(topic_filter, subscriber, qos):
            space = self._space_of(topic_filter)
            if space is not None:
                space.subscribed(topic_filter)
        return True

    def may_keep(self, principal: Principal, topic_filter: str) -> bool:
        """Whether a subscription made earlier would be granted now."""
        return self._tree_for(principal, topic_filter) is not None

    def unsubscribe(self, principal: Principal, topic_filter: str, subscriber: Subscriber) -> None:
        """Remove a subscription if it is there."""
        space = self._space_of(topic_filter)
        tree = self._own_tree(principal, topic_filter) if space is None else self._space_trees[space.root]
        if tree is not None and tree.unsubscribe(topic_filter, subscriber) and space is not None:
            space.unsubscribed(topic_filter)

    def _tree_for(self, principal: Principal, topic_filter: str) -> TopicTree[Subscriber] | None:
        space = self._space_of(topic_filter)
        if space is not None:
            return self._space_trees[space.root] if space.may_subscribe(principal, topic_filter) else None
        return self._own_tree(principal, topic_filter)

    def _space_of(self, topic_filter: str) -> TopicSpace | None:
        return self._spaces.get(topic_filter.split("/", 1)[0])

    def _own_tree(self, principal: Principal, topic: str) -> TopicTree[Subscriber] | None:
        """The tree in which this principal may do as it likes; None for topics and principals without one."""
        if principal.kind not in _WITH_OWN_TREE or topic.startswith("$"):
            return None
        tree = self._own_trees.get(principal.account_id)
        if tree is None:
            tree = self._own_trees[principal.account_id] = TopicTree()
        return tree


def _routing(tree: TopicTree[Subscriber], topic: str) -> PublishTarget:
    """Device to device: handed on at once, nothing is stored."""

    def route(payload: bytes, flags: int, _now_ns: int) -> Pending | None:
        deliver(tree, topic, payload, flags >> 1 & 3)
        return None

    return route


def deliver(tree: TopicTree[Subscriber], topic: str, payload: bytes, qos: int) -> None:
    """Hand a message to every subscriber, at the lower of its QoS and theirs [MQTT-3.8.4-6]."""
    subscribers = tree.match(topic)
    if not subscribers:
        return
    raw_topic = topic.encode()
    rendered = render_publish(raw_topic, payload, 0, 0)
    for subscriber, granted_qos in subscribers.items():
        subscriber.deliver(raw_topic, payload, min(qos, granted_qos), rendered)
