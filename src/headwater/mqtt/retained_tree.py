"""Retained messages by topic, found by filter: the mirror image of `topic_tree`. Knows no client, clock or disk."""

from __future__ import annotations

from collections.abc import Iterator

from headwater.mqtt.message import Message

NODES_PER_REST = 500
NODE_BYTES = 400
"""What a level of a topic takes beside the message: a client may invent topics of many levels and one byte."""


class _Node:
    __slots__ = ("children", "message")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.message: Message | None = None


class RetainedTree:
    """One message a topic at most [MQTT-3.3.1-5]."""

    def __init__(self) -> None:
        self._root = _Node()
        self.messages = 0
        self.bytes = 0
        """About what all this takes in memory."""

    def get(self, topic: str) -> Message | None:
        """The message of exactly this topic."""
        node: _Node | None = self._root
        for level in topic.split("/"):
            node = node.children.get(level) if node is not None else None
        return None if node is None else node.message

    def put(self, message: Message) -> None:
        """Keep a message in place of the one before."""
        node = self._root
        for level in message.topic.split("/"):
            child = node.children.get(level)
            if child is None:
                child = node.children[level] = _Node()
                self.bytes += NODE_BYTES
            node = child
        self._count(node.message, -1)
        node.message = message
        self._count(message, 1)

    def remove(self, topic: str) -> Message | None:
        """Forget a topic's message; answers what it was."""
        path: list[tuple[_Node, str]] = []
        node = self._root
        for level in topic.split("/"):
            child = node.children.get(level)
            if child is None:
                return None
            path.append((node, level))
            node = child
        message, node.message = node.message, None
        self._count(message, -1)
        for parent, level in reversed(path):
            child = parent.children[level]
            if child.children or child.message is not None:
                break
            del parent.children[level]
            self.bytes -= NODE_BYTES
        return message

    def match(self, topic_filter: str) -> Iterator[Message]:
        """The messages that a subscription gets, one by one: a tree may change meanwhile, and millions of messages
        are never in one list."""
        return (message for message in self.search(topic_filter) if message is not None)

    def search(self, topic_filter: str) -> Iterator[Message | None]:
        """The same, with a None after every `NODES_PER_REST` nodes that were looked at: a filter can pass a whole tree
        without finding anything, and others want to be served meanwhile. Without recursion, so that no depth can hurt.
        """
        levels = topic_filter.split("/")
        waiting = [iter(((self._root, 0),))]
        seen = 0
        while waiting:
            for node, depth in waiting[-1]:
                seen += 1
                if not seen % NODES_PER_REST:
                    yield None
                if depth == len(levels):
                    if node.message is not None:
                        yield node.message
                    continue
                level = levels[depth]
                if level == "#":
                    waiting.append(_everything_below(node, depth, levels))
                    if node.message is not None and depth:  # "sport/#" matches "sport" too (section 4.7.1.2)
                        yield node.message
                    break
                if level == "+":
                    waiting.append(_children_below(node, depth))
                    break
                child = node.children.get(level)
                if child is not None:
                    waiting.append(iter(((child, depth + 1),)))
                    break
            else:
                waiting.pop()

    def _count(self, message: Message | None, sign: int) -> None:
        if message is not None:
            self.messages += sign
            self.bytes += sign * message.size


def _children_below(node: _Node, depth: int) -> Iterator[tuple[_Node, int]]:
    """What '+' stands for. At the top, '$' topics are not meant [MQTT-4.7.2-1]."""
    for name in tuple(node.children):  # names only: a client that does not read may keep this for long
        child = node.children.get(name)
        if child is not None and (depth or not name.startswith("$")):
            yield child, depth + 1


def _everything_below(node: _Node, depth: int, levels: list[str]) -> Iterator[tuple[_Node, int]]:
    """What '#' stands for: each node below by itself, its message first, then those below it."""
    waiting = [iter(_children_below(node, depth))]
    while waiting:
        for child, _ in waiting[-1]:
            yield child, len(levels)
            if child.children:
                waiting.append(iter(_children_below(child, 1)))
                break
        else:
            waiting.pop()
