"""Who gets which message: one tree of subscriptions per account, one for anonymous clients where they are allowed,
and one for each root level that somebody else answers for (the dialects' and `$SYS`).

Knows no socket: a subscriber is a session, connected or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice

from headwater.broker.retained import Retained
from headwater.model.principal import Principal, PrincipalKind
from headwater.mqtt.message import Message, message_of
from headwater.mqtt.packets import Subscription
from headwater.mqtt.protocol import Turn
from headwater.mqtt.publish_properties import PublishProperties
from headwater.mqtt.publishing import Pending, PublishTarget, Refused
from headwater.mqtt.reason_codes import ReasonCode
from headwater.mqtt.session import Session
from headwater.mqtt.topic_tree import Grant, SharedGroup, TopicTree
from headwater.mqtt.topics import split_share
from headwater.services.dialect import TopicSpace
from headwater.services.refusals import Refusals

_WITH_OWN_TREE = (PrincipalKind.ACCOUNT, PrincipalKind.ACCOUNT_DEVICE, PrincipalKind.ANONYMOUS)
MAX_NODES_PER_TREE = 500_000
"""Levels of all filters of one account that differ. Each takes about 360 bytes, and a message whose topic matches all
of them by wildcards costs most of a second; a hundred thousand devices with a topic of their own make half as many."""
MAX_ASKED_MEMBERS = 1_000
"""Members of a shared group that are looked at for one that is ready: a millisecond's worth."""
NODES_PER_COPY = 4
"""Places to look at that cost as much as one copy of a message."""
_NO_RIGHT = "no right to publish to this topic: MQTT devices publish below channels/, account tokens anywhere but $"


class Router:
    """Resolves topics and filters for a principal, and hands messages on.

    `count_changes` counts what was recorded for the disk so far and `written` promises it: a message that made a change
    (it is owed to a stored session, or retained) is acknowledged when that change is on disk.
    """

    def __init__(
        self,
        spaces: Iterable[TopicSpace],
        refusals: Refusals,
        retained: Retained,
        *,
        turn: Turn,
        now_s: Callable[[], float],
        count_changes: Callable[[], int],
        written: Callable[[], Pending | None],
        max_nodes_per_tree: int = MAX_NODES_PER_TREE,
    ) -> None:
        self._spaces = {space.root: space for space in spaces}
        self._space_trees: dict[str, TopicTree[Session]] = {root: TopicTree() for root in self._spaces}
        self._own_trees: dict[str, TopicTree[Session]] = {}
        """By `tree_of` the principal; those nobody subscribes in are let go when an account goes."""
        self._refusals = refusals
        self._retained = retained
        self._turn = turn
        self._now_s = now_s
        self._count_changes = count_changes
        self._written = written
        self._max_nodes_per_tree = max_nodes_per_tree
        for root, space in self._spaces.items():
            space.connect(partial(self._deliver_from_space, self._space_trees[root]))

    @property
    def subscriptions(self) -> int:
        """How many there are in all trees."""
        trees = (*self._space_trees.values(), *self._own_trees.values())
        return sum(tree.subscriptions for tree in trees)

    # -- publish -------------------------------------------------------------------------------------------------

    def resolve_publish(self, principal: Principal, topic: str, publisher: Session | None) -> PublishTarget:
        """Who takes messages for this topic from this principal (and this session, for No Local)."""
        space = self._spaces.get(topic.split("/", 1)[0])
        if space is not None:
            return space.resolve_publish(principal, topic)
        name = tree_of(principal)
        if name is None or topic.startswith("$"):
            return self._refusing(principal)
        return self._routing(name, topic, publisher)

    def _refusing(self, principal: Principal) -> PublishTarget:
        def refuse(_payload: bytes, _flags: int, _now_ns: int, _properties: PublishProperties | None) -> Refused:
            self._refusals.note(_NO_RIGHT, device_id=principal.device_id, account_device_id=principal.account_device_id)
            return Refused(_NO_RIGHT)

        return refuse

    def _routing(self, name: str, topic: str, publisher: Session | None) -> PublishTarget:
        """From client to client. Handed on at once; it waits for the disk only if a stored session is owed it."""
        tree = self._own_tree(name)
        known, match, turn, now_s = tree.known, tree.match, self._turn, self._now_s
        raw_topic = topic.encode()

        def route(
            payload: bytes, flags: int, _now_ns: int, properties: PublishProperties | None
        ) -> Pending | Refused | None:
            matches = known.get(topic)
            if matches is None:
                matches = match(topic)
                turn.left -= matches.nodes // NODES_PER_COPY
            if not (matches.fan_out or flags & 1):
                return None
            turn.left -= matches.fan_out
            if not flags & 7:  # QoS 0 and nothing to retain: nothing is written down, nobody is waited for
                message = Message(topic, raw_topic, payload, 0)
                if properties is not None:
                    message = message_of(topic, raw_topic, payload, flags, properties, now_s())
                for session, grant in matches.subscribers:
                    if not (grant.no_local and session is publisher):
                        session.send_qos0(message, False, grant.subscription_ids)
                for group in matches.groups:
                    deliver_to_one(group, message)
                return None
            message = message_of(topic, raw_topic, payload, flags, properties, now_s())
            changes = self._count_changes()
            if flags & 1:
                refused = self._retained.keep(name, message)
                if refused is not None:
                    return refused
            for session, grant in matches.subscribers:
                if not (grant.no_local and session is publisher):
                    session.deliver(message, grant)
            for group in matches.groups:
                turn.left -= deliver_to_one(group, message)
            return self._written() if message.qos and self._count_changes() != changes else None

        return route

    def _deliver_from_space(self, tree: TopicTree[Session], topic: str, payload: bytes) -> None:
        """A message that a dialect makes, for its subscribers."""
        matches = tree.match(topic)
        if matches.fan_out:
            message = Message(topic, topic.encode(), payload, 1)
            for session, grant in matches.subscribers:
                session.deliver(message, grant)
            for group in matches.groups:
                deliver_to_one(group, message)

    # -- subscribe -----------------------------------------------------------------------------------------------

    def subscribe(
        self, principal: Principal, session: Session, subscription: Subscription, subscription_id: int
    ) -> int:
        """Add a subscription; the granted QoS, or the ReasonCode why this principal may not have it."""
        group, topic_filter = split_share(subscription.topic_filter)
        tree = self._tree_for(principal, topic_filter)
        if tree is None:
            return ReasonCode.NOT_AUTHORIZED
        is_new = subscription.topic_filter not in (session.subscriptions or ())
        if is_new and tree.nodes >= self._max_nodes_per_tree:
            return ReasonCode.QUOTA_EXCEEDED
        ids = (subscription_id,) if subscription_id else ()
        grant = Grant(subscription.qos, subscription.no_local, subscription.retain_as_published, ids)
        if tree.subscribe(topic_filter, session, grant, group):
            space = self._space_of(topic_filter)
            if space is not None:
                space.subscribed(topic_filter)
        return subscription.qos

    def may_keep(self, principal: Principal, topic_filter: str) -> bool:
        """Whether a subscription made earlier would be granted now."""
        return self._tree_for(principal, split_share(topic_filter)[1]) is not None

    def unsubscribe(self, principal: Principal, session: Session, topic_filter: str) -> None:
        """Remove a subscription if it is there."""
        group, topic_filter = split_share(topic_filter)
        space = self._space_of(topic_filter)
        name = tree_of(principal)
        if space is not None:
            tree = self._space_trees[space.root]
        elif name is not None and name in self._own_trees:
            tree = self._own_trees[name]
        else:
            return
        if tree.unsubscribe(topic_filter, session, group) and space is not None:
            space.unsubscribed(topic_filter)

    def retained_for(self, principal: Principal, topic_filter: str) -> Callable[[], Iterator[Message]] | None:
        """What is retained for a subscription, to be looked up later; None where nothing is ever retained."""
        space = self._space_of(topic_filter)
        name = tree_of(principal) if space is None else space.root
        return None if name is None else self._retained.matching(name, topic_filter)

    def forget_tree(self, name: str) -> None:
        """An account is gone, and its sessions with it."""
        tree = self._own_trees.get(name)
        if tree is not None and tree.is_empty:
            del self._own_trees[name]

    def _tree_for(self, principal: Principal, topic_filter: str) -> TopicTree[Session] | None:
        space = self._space_of(topic_filter)
        if space is not None:
            return self._space_trees[space.root] if space.may_subscribe(principal, topic_filter) else None
        name = tree_of(principal)
        return None if name is None or topic_filter.startswith("$") else self._own_tree(name)

    def _space_of(self, topic_filter: str) -> TopicSpace | None:
        return self._spaces.get(topic_filter.split("/", 1)[0])

    def _own_tree(self, name: str) -> TopicTree[Session]:
        tree = self._own_trees.get(name)
        if tree is None:
            tree = self._own_trees[name] = TopicTree()
        return tree


def tree_of(principal: Principal) -> str | None:
    """The name of the tree in which a principal may do as it likes; None for those without one. All devices and tokens
    of an account share its tree."""
    if principal.kind not in _WITH_OWN_TREE:
        return None
    return principal.key if principal.account_id is None else f"account:{principal.account_id}"


def deliver_to_one(group: SharedGroup[Session], message: Message) -> int:
    """Hand a message to the member whose turn it is: one that is connected and keeps up, else one that is, else one
    whose session will be back (5.0 section 4.8.2). Answers what looking for it cost, in copies of messages."""
    waiting: tuple[Session, Grant] | None = None
    for asked, (session, grant) in enumerate(islice(group.in_turn(), MAX_ASKED_MEMBERS)):
        if session.is_ready:
            session.deliver(message, grant, group)
            return asked // NODES_PER_COPY
        if waiting is None or (waiting[0].link is None and session.link is not None):
            waiting = (session, grant)
    if waiting is not None:
        waiting[0].deliver(message, waiting[1], group)
    return min(len(group), MAX_ASKED_MEMBERS) // NODES_PER_COPY
