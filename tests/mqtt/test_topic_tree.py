"""The topic tree beside a matcher that is plainly the specification."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from headwater.mqtt import topic_tree
from headwater.mqtt.topic_tree import TopicTree

from .strategies import qos_levels, topic_filters, topic_names


def matches(topic_filter: str, topic: str) -> bool:
    """Section 4.7, read aloud."""
    if topic.startswith("$") and topic_filter[0] in "+#":  # [MQTT-4.7.2-1]
        return False
    return match_levels(topic_filter.split("/"), topic.split("/"))


def match_levels(wanted: list[str], levels: list[str]) -> bool:
    if wanted == ["#"]:
        return True
    if not wanted or not levels:
        return wanted == levels
    if wanted[0] not in ("+", levels[0]):
        return False
    return match_levels(wanted[1:], levels[1:])


SPECIFICATION = [
    ("sport/tennis/player1/#", "sport/tennis/player1", True),
    ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
    ("sport/#", "sport", True),
    ("sport/tennis/+", "sport/tennis/player1", True),
    ("sport/tennis/+", "sport/tennis/player1/ranking", False),
    ("sport/+", "sport", False),
    ("sport/+", "sport/", True),
    ("+/+", "/finance", True),
    ("/+", "/finance", True),
    ("+", "/finance", False),
    ("#", "$SYS/uptime", False),
    ("+/monitor/Clients", "$SYS/monitor/Clients", False),
    ("$SYS/#", "$SYS/monitor/Clients", True),
    ("$SYS/#", "$SYS", True),
    ("$SYS/+", "$SYS/uptime", True),
    ("+", "$SYS", False),
    ("ACCOUNTS", "Accounts", False),
    ("a//b", "a/b", False),
    ("a/+/b", "a//b", True),
    ("a/$b", "a/$b", True),
    ("a/+", "a/$b", True),
]


@pytest.mark.parametrize(("topic_filter", "topic", "expected"), SPECIFICATION)
def test_4_7_examples_of_the_specification(topic_filter: str, topic: str, *, expected: bool) -> None:
    """[MQTT-4.7.1-1] to [MQTT-4.7.3-4]"""
    tree: TopicTree[str] = TopicTree()
    tree.subscribe(topic_filter, "client", 1)
    assert bool(tree.match(topic)) is expected
    assert matches(topic_filter, topic) is expected


def test_3_3_5_1_overlapping_filters_give_one_copy_at_the_highest_qos() -> None:
    """[MQTT-3.3.5-1]"""
    tree: TopicTree[str] = TopicTree()
    for topic_filter, qos in (("a/b", 0), ("a/+", 2), ("a/#", 1), ("#", 0)):
        tree.subscribe(topic_filter, "client", qos)
    assert tree.match("a/b") == {"client": 2}


def test_3_8_4_3_the_same_filter_again_replaces_the_subscription() -> None:
    """[MQTT-3.8.4-3]"""
    tree: TopicTree[str] = TopicTree()
    assert tree.subscribe("a", "client", 1)
    assert tree.match("a") == {"client": 1}
    assert not tree.subscribe("a", "client", 0)
    assert tree.match("a") == {"client": 0}
    assert tree.unsubscribe("a", "client")
    assert tree.match("a") == {}


def test_first_and_last_subscription_of_a_filter_are_told() -> None:
    tree: TopicTree[str] = TopicTree()
    assert tree.subscribe("a/+", "one", 0)
    assert not tree.subscribe("a/+", "two", 0)
    assert tree.subscribe("a/b", "two", 0)
    assert not tree.unsubscribe("a/+", "one")
    assert not tree.unsubscribe("a/+", "one"), "it was not there any more"
    assert not tree.unsubscribe("a/c", "two"), "it never was"
    assert not tree.unsubscribe("a", "two"), "a node on the way is no subscription"
    assert tree.unsubscribe("a/+", "two")


@given(st.lists(st.tuples(topic_filters, qos_levels), max_size=8), st.lists(topic_names, max_size=8))
def test_matches_as_the_specification_says(subscriptions: list[tuple[str, int]], topics: list[str]) -> None:
    tree: TopicTree[int] = TopicTree()
    for number, (topic_filter, qos) in enumerate(subscriptions):
        tree.subscribe(topic_filter, number, qos)
    for topic in topics:
        expected = {number: qos for number, (f, qos) in enumerate(subscriptions) if matches(f, topic)}
        assert tree.match(topic) == expected


class TreeBesideTable(RuleBasedStateMachine):
    """Subscribe, unsubscribe and match in any order, beside a flat table."""

    def __init__(self) -> None:
        super().__init__()
        self.tree: TopicTree[str] = TopicTree()
        self.table: dict[tuple[str, str], int] = {}

    @rule(topic_filter=topic_filters, client=st.sampled_from("abc"), qos=qos_levels)
    def subscribe(self, topic_filter: str, client: str, qos: int) -> None:
        is_first = all(f != topic_filter for f, _ in self.table)
        assert self.tree.subscribe(topic_filter, client, qos) is is_first
        self.table[topic_filter, client] = qos

    @rule(topic_filter=topic_filters, client=st.sampled_from("abc"))
    def unsubscribe(self, topic_filter: str, client: str) -> None:
        was_there = self.table.pop((topic_filter, client), None) is not None
        is_last = was_there and all(f != topic_filter for f, _ in self.table)
        assert self.tree.unsubscribe(topic_filter, client) is is_last

    @rule(data=st.data())
    def unsubscribe_one_of_them(self, data: st.DataObject) -> None:
        if self.table:
            self.unsubscribe(*data.draw(st.sampled_from(sorted(self.table))))

    @rule(topic=topic_names)
    def match(self, topic: str) -> None:
        expected: dict[str, int] = {}
        for (topic_filter, client), qos in self.table.items():
            if matches(topic_filter, topic):
                expected[client] = max(qos, expected.get(client, 0))
        assert self.tree.match(topic) == expected

    @invariant()
    def no_garbage(self) -> None:
        prefixes = {tuple(f.split("/")[:n]) for f, _ in self.table for n in range(1, f.count("/") + 2)}
        assert count_nodes(self.tree) == len(prefixes)


def count_nodes(tree: TopicTree[str]) -> int:
    """How many nodes hang below the root."""
    nodes, count = [tree._root], -1
    while nodes:
        count += 1
        nodes.extend(nodes.pop().children.values())
    return count


test_tree_beside_table = TreeBesideTable.TestCase


def test_remembered_answers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_tree, "MAX_CACHED_TOPICS", 10)
    tree: TopicTree[str] = TopicTree()
    tree.subscribe("#", "client", 0)
    for number in range(100):
        assert tree.match(str(number)) == {"client": 0}
        assert len(tree._matches) <= 10


def test_filters_and_topics_of_very_many_levels_need_no_recursion() -> None:
    """Deeper than Python may recurse."""
    tree: TopicTree[str] = TopicTree()
    deep = "/" * 60_000
    started_s = time.perf_counter()
    assert tree.subscribe(deep, "client", 0)
    assert tree.match(deep) == {"client": 0}
    assert tree.unsubscribe(deep, "client")
    assert count_nodes(tree) == 0
    assert time.perf_counter() - started_s < 20, "linear in the levels"


def test_every_mix_of_wildcards_is_searched_once() -> None:
    """2**10 filters of ten levels all match; a second publish to the topic is a look-up."""
    tree: TopicTree[int] = TopicTree()
    for bits in range(1_024):
        tree.subscribe("/".join("+" if bits >> level & 1 else "a" for level in range(10)), bits, 0)
    topic = "/".join("a" * 10)
    found = tree.match(topic)
    assert len(found) == 1_024
    assert tree.match(topic) is found
