"""Who gets which message: one tree of subscriptions per account, one for anonymous clients where they are allowed,
and one for each root level that somebody else answers for (the dialects' and `$SYS`).

Knows no socket: a subscriber is a session, connected or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice

from headwater.broker.retained import SYS_TREE, Retained
from headwater.logs import Log
from headwater.model.principal import Principal, PrincipalKind
from headwater.mqtt.limits import Turn
from headwater.mqtt.message import Message, message_of
from headwater.mqtt.packets import Subscription
from headwater.mqtt.publish_properties import PublishProperties
from headwater.mqtt.publishing import Pending, PublishTarget, Refused
from headwater.mqtt.reason_codes import ReasonCode
from headwater.mqtt.session import Session
from headwater.mqtt.subscribing import NotGranted
from headwater.mqtt.topic_tree import Grant, Matches, SharedGroup, TopicTree
from headwater.mqtt.topics import split_share
from headwater.services.dialect import FirstMessages, TopicSpace
from headwater.services.refusals import Refusals

_WITH_OWN_TREE = (PrincipalKind.ACCOUNT, PrincipalKind.ACCOUNT_DEVICE, PrincipalKind.ANONYMOUS)
MAX_GROUPS_PER_FILTER = 1_000
"""Of one account: each shared group of a filter gets a copy of every message, and nobody has to be behind a name."""
MAX_NODES_PER_TREE = 500_000
"""Levels of all filters of one account that differ, those in reach of many topics tenfold (`topic_tree`). Each takes
about 360 bytes; a hundred thousand devices with a topic of their own make half as many."""
MAX_ASKED_MEMBERS = 1_000
"""Members of a shared group that are looked at for one that is ready: a millisecond's worth."""
NODES_PER_COPY = 4
"""Places to look at that cost as much as one copy of a message."""
MAX_LOGGED_TOPIC_LENGTH = 256
REFUSING_ENDS_S = 60.0
"""Messages of a tree that cannot be retained after so long are logged again."""
_BELOW_DOLLAR = "no right to publish to this topic: nobody publishes to topics that begin with $"
_NO_RIGHT = "no right to publish to this topic: MQTT devices publish only below channels/; for other topics, as \
Tasmota's, add an account device: these and account tokens publish to the account's own topics"
_NOT_SIGNED_IN = "no right to publish to this topic: you are not signed in, and publish only with the write key in a \
topic below channels/; for other topics, sign in with an account device or an account token"
_NO_OWN_TREE = NotGranted(
    "no right to subscribe to this topic: MQTT devices subscribe below channels/, account tokens and account devices "
    "to topics of the account"
)
_BEGINS_WITH_DOLLAR = NotGranted("nobody may subscribe to topics that begin with $, except administrators to $SYS")
_TOO_MANY_LEVELS = NotGranted(
    "the account's topic filters have as many different levels as they may: end some subscriptions first",
    ReasonCode.QUOTA_EXCEEDED,
)
_TOO_MANY_GROUPS = NotGranted(
    f"{MAX_GROUPS_PER_FILTER} groups share this topic filter, which is the most: use the name of one of them",
    ReasonCode.QUOTA_EXCEEDED,
)

log = Log(__name__)


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
        max_message_expiry_s: int = 0,
    ) -> None:
        self._spaces = {space.root: space for space in spaces}
        self._space_trees: dict[str, TopicTree[Session]] = {root: TopicTree() for root in self._spaces}
        self._own_trees: dict[str, TopicTree[Session]] = {}
        """By `tree_of` the principal; those nobody subscribes in are let go when an account goes."""
        self._not_retained: dict[str, float] = {}
        """When a message could last not be retained, by tree."""
        self._refusals = refusals
        self._retained = retained
        self._turn = turn
        self._now_s = now_s
        self._count_changes = count_changes
        self._written = written
        self._max_nodes_per_tree = max_nodes_per_tree
        self._max_expiry_s = max_message_expiry_s
        for root, space in self._spaces.items():
            qos = 0 if root == SYS_TREE else 1  # what the broker counts is soon out of date and need not wait
            space.connect(partial(self._deliver_from_space, self._space_trees[root], qos))

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
        if topic.startswith("$"):
            return self._refusals.refusing(principal, _BELOW_DOLLAR, topic=topic)
        if name is None:
            reason = _NOT_SIGNED_IN if principal.account_id is None else _NO_RIGHT
            return self._refusals.refusing(principal, reason, topic=topic)
        return self._routing(principal, name, topic, publisher)

    def _routing(self, principal: Principal, name: str, topic: str, publisher: Session | None) -> PublishTarget:
        """From client to client. Handed on at once, even if it cannot be retained; it waits for the disk only if
        a stored session is owed it."""
        tree = self._own_tree(name)
        known, match, turn, now_s = tree.known, tree.match, self._turn, self._now_s
        raw_topic, max_expiry_s = topic.encode(), self._max_expiry_s

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
                if properties is None:
                    message = Message(topic, raw_topic, payload, 0)
                else:
                    message = message_of(topic, raw_topic, payload, flags, properties, now_s(), max_expiry_s)
                for session, grant in matches.subscribers:
                    if not (grant.no_local and session is publisher):
                        session.send_qos0(message, False, grant.subscription_ids)
                for group in matches.groups:
                    deliver_to_one(group, message)
                return None
            message = message_of(topic, raw_topic, payload, flags, properties, now_s(), max_expiry_s)
            changes = self._count_changes()
            refused = self._retained.keep(name, message) if flags & 1 else None
            turn.left -= deliver(matches, message, publisher)
            written = self._written() if message.qos and self._count_changes() != changes else None
            if refused is None:
                return written
            self._note_not_retained(principal, name, refused)
            return refused._replace(pending=written)

        return route

    def _note_not_retained(self, principal: Principal, name: str, refused: Refused) -> None:
        """An MQTT 3 client and whoever sends with QoS 0 are not told: count it, and say so once an episode."""
        self._refusals.note(
            refused.reason, device_id=principal.device_id, account_device_id=principal.account_device_id
        )
        now_s, last_s = self._now_s(), self._not_retained.get(name)
        self._not_retained[name] = now_s
        if last_s is None or now_s - last_s > REFUSING_ENDS_S:
            log.warning("messages are not retained", tree=name, reason=refused.reason)

    def _deliver_from_space(
        self, tree: TopicTree[Session], qos: int, topic: str, payload: bytes, *, is_exact: bool = False
    ) -> None:
        """A message that a dialect makes, for its subscribers."""
        matches = tree.exact(topic) if is_exact else tree.match(topic)
        if matches.fan_out:
            message = message_of(topic, topic.encode(), payload, qos << 1, None, self._now_s(), self._max_expiry_s)
            deliver(matches, message, None)

    # -- subscribe -----------------------------------------------------------------------------------------------

    def subscribe(
        self,
        principal: Principal,
        session: Session,
        subscription: Subscription,
        subscription_id: int,
        *,
        is_stored: bool = False,
    ) -> NotGranted | None:
        """Add a subscription with the QoS that it asks for; or why this principal may not have it. The quotas are for
        new ones: one that was granted before the server started needs the right alone."""
        group, topic_filter = split_share(subscription.topic_filter)
        tree = self._tree_for(principal, topic_filter)
        if isinstance(tree, NotGranted):
            return tree
        is_new = not is_stored and subscription.topic_filter not in (session.subscriptions or ())
        if is_new and tree.nodes >= self._max_nodes_per_tree:
            return _TOO_MANY_LEVELS
        whose = self._group_owner(principal, topic_filter)
        group = None if group is None else whose + group
        is_new_group = not is_stored and group is not None and tree.group(topic_filter, group) is None
        if is_new_group and tree.groups(topic_filter, whose) >= MAX_GROUPS_PER_FILTER:
            return _TOO_MANY_GROUPS
        ids = (subscription_id,) if subscription_id else ()
        grant = Grant(subscription.qos, subscription.no_local, subscription.retain_as_published, ids)
        if tree.subscribe(topic_filter, session, grant, group):
            space = self._space_of(topic_filter)
            if space is not None:
                space.subscribed(topic_filter)
        return None

    def may_keep(self, principal: Principal, topic_filter: str) -> bool:
        """Whether a subscription made earlier would be granted now."""
        return not isinstance(self._tree_for(principal, split_share(topic_filter)[1]), NotGranted)

    def unsubscribe(self, principal: Principal, session: Session, topic_filter: str) -> None:
        """Remove a subscription if it is there."""
        group, topic_filter = split_share(topic_filter)
        group = None if group is None else self._group_owner(principal, topic_filter) + group
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

    def group_of(self, principal: Principal, session: Session, topic_filter: str) -> SharedGroup[Session] | None:
        """The shared subscription by its whole filter, if the session is a member."""
        name, topic_filter = split_share(topic_filter)
        tree = self._tree_for(principal, topic_filter)
        if isinstance(tree, NotGranted) or name is None:
            return None
        group = tree.group(topic_filter, self._group_owner(principal, topic_filter) + name)
        return group if group is not None and session in group else None

    def retained_for(self, principal: Principal, topic_filter: str) -> Callable[[], Iterator[Message | None]] | None:
        """What is retained for a subscription, to be looked up later; None where nothing is ever retained."""
        space = self._space_of(topic_filter)
        name = tree_of(principal) if space is None else space.root
        return None if name is None else self._retained.matching(name, topic_filter)

    def first_messages(self, topic_filter: str) -> FirstMessages | None:
        """What a dialect has for a new subscription at once, to be looked up; None where that is nothing."""
        space = self._space_of(topic_filter)
        return None if space is None else space.first_messages(topic_filter)

    def forget_tree(self, name: str) -> None:
        """An account is gone, and its sessions with it."""
        self._not_retained.pop(name, None)
        tree = self._own_trees.get(name)
        if tree is not None and tree.is_empty:
            del self._own_trees[name]

    def _tree_for(self, principal: Principal, topic_filter: str) -> TopicTree[Session] | NotGranted:
        space = self._space_of(topic_filter)
        if space is not None:
            return space.judge_subscription(principal, topic_filter) or self._space_trees[space.root]
        if topic_filter.startswith("$"):
            return _BEGINS_WITH_DOLLAR
        name = tree_of(principal)
        return _NO_OWN_TREE if name is None else self._own_tree(name)

    def logged(self, topic: str) -> str:
        """A topic as the log may show it: a dialect's may end in a key, so its beginning has to do."""
        shown = topic if self._space_of(topic) is None else "/".join(topic.split("/")[:3])
        return shown[:MAX_LOGGED_TOPIC_LENGTH]

    def _space_of(self, topic_filter: str) -> TopicSpace | None:
        return self._spaces.get(topic_filter.split("/", 1)[0])

    def _group_owner(self, principal: Principal, topic_filter: str) -> str:
        """What the names of shared groups begin with where all accounts share a tree: nobody gets into the group of
        another account, and takes messages from it, by a name. No name of a group has a slash in it."""
        return "" if self._space_of(topic_filter) is None else f"{principal.account_id or ''}/"

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


def deliver(matches: Matches[Session], message: Message, publisher: Session | None) -> int:
    """Hand a message to everybody who matches, but not to its publisher's own subscriptions with No Local
    [MQTT-3.8.3-3]. Answers how many members of shared groups were asked."""
    for session, grant in matches.subscribers:
        if not (grant.no_local and session is publisher):
            session.deliver(message, grant)
    return sum(deliver_to_one(group, message) for group in matches.groups)


def deliver_to_one(group: SharedGroup[Session], message: Message, max_asked: int = MAX_ASKED_MEMBERS) -> int:
    """Hand a message to the member whose turn it is: one that is connected and keeps up, else one that is, else one
    whose session will be back (5.0 section 4.8.2). Answers what looking for it cost, in copies of messages."""
    waiting: tuple[Session, Grant] | None = None
    for asked, (session, grant) in enumerate(islice(group.in_turn(), max_asked)):
        if session.is_ready:
            session.deliver(message, grant, group)
            return asked // NODES_PER_COPY
        if waiting is None or (waiting[0].link is None and session.link is not None):
            waiting = (session, grant)
    if waiting is not None:
        waiting[0].deliver(message, waiting[1], group)
    return min(len(group), max_asked) // NODES_PER_COPY
