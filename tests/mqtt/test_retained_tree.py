"""The tree of retained messages beside a flat table and a matcher that is plainly the specification."""

from __future__ import annotations

import time

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from headwater.mqtt.message import Message
from headwater.mqtt.retained_tree import NODE_BYTES, NODES_PER_REST, RetainedTree

from .strategies import topic_filters, topic_names
from .test_topic_tree import matches


def retained(topic: str, payload: bytes = b"x") -> Message:
    return Message(topic, topic.encode(), payload, 1, retain=True)


class RetainedBesideTable(RuleBasedStateMachine):
    """Put, remove and match in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.tree = RetainedTree()
        self.table: dict[str, Message] = {}

    @rule(topic=topic_names, payload=st.binary(max_size=5))
    def put(self, topic: str, payload: bytes) -> None:
        message = self.table[topic] = retained(topic, payload)
        self.tree.put(message)

    @rule(topic=topic_names)
    def remove(self, topic: str) -> None:
        assert self.tree.remove(topic) is self.table.pop(topic, None)
        assert self.tree.get(topic) is None

    @rule(data=st.data())
    def remove_one_of_them(self, data: st.DataObject) -> None:
        if self.table:
            self.remove(data.draw(st.sampled_from(sorted(self.table))))

    @rule(topic_filter=topic_filters)
    def match(self, topic_filter: str) -> None:
        found = list(self.tree.match(topic_filter))
        expected = {topic for topic in self.table if matches(topic_filter, topic)}
        assert {message.topic for message in found} == expected
        assert len(found) == len(expected), "each once"

    @rule(topic=topic_names)
    def get(self, topic: str) -> None:
        assert self.tree.get(topic) is self.table.get(topic)

    @invariant()
    def counts(self) -> None:
        prefixes = {tuple(topic.split("/")[:n]) for topic in self.table for n in range(1, topic.count("/") + 2)}
        assert self.tree.messages == len(self.table)
        assert self.tree.bytes == sum(m.size for m in self.table.values()) + NODE_BYTES * len(prefixes)
        nodes, count = [self.tree._root], -1
        while nodes:
            count += 1
            nodes.extend(nodes.pop().children.values())
        assert count == len(prefixes), "no garbage"


test_retained_beside_table = RetainedBesideTable.TestCase


def test_4_7_1_2_a_level_and_what_is_below_it() -> None:
    tree = RetainedTree()
    for topic in ("sport", "sport/", "sport/tennis", "sport/tennis/score", "sports", "$SYS/sport"):
        tree.put(retained(topic))
    assert {m.topic for m in tree.match("sport/#")} == {"sport", "sport/", "sport/tennis", "sport/tennis/score"}
    assert {m.topic for m in tree.match("#")} == {m.topic for m in tree.match("sport/#")} | {"sports"}
    assert {m.topic for m in tree.match("$SYS/#")} == {"$SYS/sport"}


def test_a_tree_may_change_while_it_is_read() -> None:
    """Retained messages go out as fast as a client reads: others publish meanwhile."""
    tree = RetainedTree()
    for number in range(100):
        tree.put(retained(f"a/{number}/b"))
    found = []
    for number, message in enumerate(tree.match("a/#")):
        found.append(message.topic)
        tree.put(retained(f"new/{number}"))
        tree.put(retained(f"a/new{number}"))
        tree.remove(f"a/{99 - number}/b")
    assert len(set(found)) == len(found)
    assert {f"a/{number}/b" for number in range(50)} <= set(found), "what was there all the time"


def test_topics_and_filters_of_very_many_levels_need_no_recursion() -> None:
    """Deeper than Python may recurse."""
    tree = RetainedTree()
    deep = "/" * 30_000
    started_s = time.perf_counter()
    tree.put(retained(deep))
    assert [message.topic for message in tree.match("#")] == [deep]
    assert [message.topic for message in tree.match("+" + deep[1:] + "/+")] == [deep]
    assert [message.topic for message in tree.match(deep)] == [deep]
    assert [message.topic for message in tree.match("/+" * 30_000)] == [deep]
    assert tree.remove(deep) is not None
    assert list(tree.match("#")) == []
    assert time.perf_counter() - started_s < 20, "linear in the levels"


def test_a_search_finds_its_first_message_without_looking_at_all() -> None:
    tree = RetainedTree()
    for number in range(10_000):
        tree.put(retained(f"a/{number}"))
    assert next(tree.match("#")).topic == "a/0"


def test_a_search_rests_although_it_finds_nothing() -> None:
    tree = RetainedTree()
    for number in range(3 * NODES_PER_REST):
        tree.put(retained(f"a/{number}/x"))
    assert list(tree.search("a/+/y")).count(None) >= 3
    assert list(tree.match("a/+/y")) == []
