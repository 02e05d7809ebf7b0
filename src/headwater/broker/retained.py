"""Retained messages of every tree: limits, expiry and their way to disk (5.0 section 3.3.1.3)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial

from headwater.broker.journal import Journal
from headwater.broker.records import Clocks, read_retained, retained_row
from headwater.mqtt.message import Message
from headwater.mqtt.publishing import Refused
from headwater.mqtt.reason_codes import ReasonCode
from headwater.mqtt.retained_tree import RetainedTree
from headwater.persistence import StoredRetained

SYS_TREE = "$SYS"
"""Made anew at every start, so never written down and not counted against any limit."""


@dataclass(frozen=True, slots=True)
class RetainedLimits:
    max_messages: int = 200_000
    max_messages_per_account: int = 100_000
    max_bytes: int = 268_435_456
    max_bytes_per_account: int = 67_108_864


class Retained:
    """By name of the tree: `account:5`, `anonymous`, `$SYS`."""

    def __init__(self, journal: Journal, clocks: Clocks, limits: RetainedLimits) -> None:
        self._journal = journal
        self._clocks = clocks
        self._limits = limits
        self._trees: dict[str, RetainedTree] = {}
        self._expiring: dict[tuple[str, str], float] = {}
        """When a message's time is over (loop time), by tree and topic, for those that have one."""
        self.messages = 0
        self.bytes = 0
        """What all trees but `$SYS` hold."""

    def keep(self, name: str, message: Message) -> Refused | None:
        """Keep a message in place of the one before; one without payload only deletes [MQTT-3.3.1-6]. Answers why it
        cannot be kept, or None."""
        tree = self._trees.get(name)
        if not message.payload:
            if tree is not None and tree.get(message.topic) is not None:
                self._remove(name, tree, message.topic)
            return None
        if tree is None:
            tree = self._trees[name] = RetainedTree()
        refused = self._judge(tree, message)
        if refused is None:
            self._put(name, tree, message)
            self._journal.save_retained(retained_row(name, message, self._clocks))
        return refused

    def _judge(self, tree: RetainedTree, message: Message) -> Refused | None:
        limits, old = self._limits, tree.get(message.topic)
        is_spent = tree.messages >= limits.max_messages_per_account or self.messages >= limits.max_messages
        if old is None and is_spent:
            return Refused("there are too many retained messages; delete some first", ReasonCode.QUOTA_EXCEEDED)
        growth = message.size - (old.size if old is not None else 0)
        if tree.bytes + growth > limits.max_bytes_per_account or self.bytes + growth > limits.max_bytes:
            return Refused("retained messages take too much room; delete some first", ReasonCode.QUOTA_EXCEEDED)
        return None

    def _put(self, name: str, tree: RetainedTree, message: Message) -> None:
        messages, size = tree.messages, tree.bytes
        tree.put(message)
        self._count(tree, messages, size)
        if message.expires_at_s is not None:
            self._expiring[name, message.topic] = message.expires_at_s
        else:
            self._expiring.pop((name, message.topic), None)

    def _remove(self, name: str, tree: RetainedTree, topic: str) -> None:
        messages, size = tree.messages, tree.bytes
        tree.remove(topic)
        self._count(tree, messages, size)
        self._expiring.pop((name, topic), None)
        self._journal.delete_retained(name, topic)

    def _count(self, tree: RetainedTree, messages_before: int, bytes_before: int) -> None:
        self.messages += tree.messages - messages_before
        self.bytes += tree.bytes - bytes_before

    def keep_in_memory(self, name: str, message: Message) -> None:
        """Keep a message that the broker makes itself; it counts against no limit."""
        self._trees.setdefault(name, RetainedTree()).put(message)

    def matching(self, name: str, topic_filter: str) -> Callable[[], Iterator[Message | None]] | None:
        """What a subscription gets, to be looked up when it can be sent; None when there is nothing in that tree."""
        tree = self._trees.get(name)
        return None if tree is None else partial(tree.search, topic_filter)

    def restore(self, stored: StoredRetained) -> None:
        """Keep what was read from disk."""
        tree = self._trees.setdefault(stored.tree, RetainedTree())
        self._put(stored.tree, tree, read_retained(stored, self._clocks))

    def forget_tree(self, name: str) -> None:
        """An account is gone."""
        tree = self._trees.pop(name, None)
        if tree is not None:
            for message in list(tree.match("#")):
                self._remove(name, tree, message.topic)

    def forget_accounts_but(self, account_ids: Collection[int]) -> None:
        """Let go of what accounts have left that were removed while the server was down. The tree of anonymous
        clients stays: they may be let in again."""
        known = {f"account:{account_id}" for account_id in account_ids}
        for name in [name for name in self._trees if name.startswith("account:") and name not in known]:
            self.forget_tree(name)

    def forget_expired(self) -> None:
        """Let go of messages whose time is over."""
        now_s = self._clocks.now_s()
        for name, topic in [key for key, at_s in self._expiring.items() if at_s <= now_s]:
            self._remove(name, self._trees[name], topic)
