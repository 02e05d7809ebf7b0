"""Retained messages of every tree: limits, expiry and their way to disk (5.0 section 3.3.1.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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


class Retained:
    """By name of the tree: `account:5`, `anonymous`, `$SYS`."""

    def __init__(
        self, journal: Journal, clocks: Clocks, *, max_messages: int, max_messages_per_tree: int, max_bytes: int
    ) -> None:
        self._journal = journal
        self._clocks = clocks
        self._max_messages = max_messages
        self._max_messages_per_tree = max_messages_per_tree
        self._max_bytes = max_bytes
        self._trees: dict[str, RetainedTree] = {}

    @property
    def messages(self) -> int:
        return sum(tree.messages for name, tree in self._trees.items() if name != SYS_TREE)

    @property
    def bytes(self) -> int:
        return sum(tree.bytes for name, tree in self._trees.items() if name != SYS_TREE)

    def keep(self, name: str, message: Message) -> Refused | None:
        """Keep a message in place of the one before; one without payload only deletes [MQTT-3.3.1-6]. Answers why it
        cannot be kept, or None."""
        tree = self._trees.get(name)
        if not message.payload:
            if tree is not None and tree.remove(message.topic) is not None:
                self._journal.delete_retained(name, message.topic)
            return None
        if tree is None:
            tree = self._trees[name] = RetainedTree()
        old = tree.get(message.topic)
        if old is None and (tree.messages >= self._max_messages_per_tree or self.messages >= self._max_messages):
            return Refused("there are too many retained messages; delete some first", ReasonCode.QUOTA_EXCEEDED)
        if self.bytes + message.size - (old.size if old is not None else 0) > self._max_bytes:
            return Refused("retained messages take too much room; delete some first", ReasonCode.QUOTA_EXCEEDED)
        tree.put(message)
        self._journal.save_retained(retained_row(name, message, self._clocks))
        return None

    def keep_in_memory(self, name: str, message: Message) -> None:
        """Keep a message that the broker makes itself."""
        self._trees.setdefault(name, RetainedTree()).put(message)

    def matching(self, name: str, topic_filter: str) -> Callable[[], Iterator[Message]] | None:
        """What a subscription gets, to be looked up when it can be sent; None when there is nothing in that tree."""
        tree = self._trees.get(name)
        return None if tree is None else partial(tree.match, topic_filter)

    def restore(self, stored: StoredRetained) -> None:
        """Keep what was read from disk."""
        self._trees.setdefault(stored.tree, RetainedTree()).put(read_retained(stored, self._clocks))

    def forget_tree(self, name: str) -> None:
        """An account is gone."""
        tree = self._trees.pop(name, None)
        if tree is not None:
            for message in tree.match("#"):
                self._journal.delete_retained(name, message.topic)

    def forget_expired(self) -> None:
        """Let go of messages whose time is over."""
        now_s = self._clocks.now_s()
        for name, tree in self._trees.items():
            for message in [message for message in tree.match("#") if message.is_expired(now_s)]:
                tree.remove(message.topic)
                self._journal.delete_retained(name, message.topic)
