"""The topic tree beside a matcher that is plainly the specification."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from headwater.mqtt import topic_tree, topics
from headwater.mqtt.topic_tree import PLACES_IN_REACH, Grant, SharedGroup, TopicTree

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


def who(tree: TopicTree[str], topic: str) -> dict[str, int]:
    """The subscribers with the QoS of each."""
    found = tree.match(topic)
    assert found.fan_out == len(found.subscribers) + len(found.groups)
    return {subscriber: grant.qos for subscriber, grant in found.subscribers}


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
    tree.subscribe(topic_filter, "client", Grant(1))
    assert bool(tree.match(topic).fan_out) is expected
    assert matches(topic_filter, topic) is expected
    assert topics.matches(topic_filter, topic) is expected


def test_3_3_5_1_overlapping_filters_give_one_copy_at_the_highest_qos() -> None:
    """[MQTT-3.3.5-1]"""
    tree: TopicTree[str] = TopicTree()
    for topic_filter, qos in (("a/b", 0), ("a/+", 2), ("a/#", 1), ("#", 0)):
        tree.subscribe(topic_filter, "client", Grant(qos))
    assert who(tree, "a/b") == {"client": 2}


def test_those_with_this_very_filter() -> None:
    tree: TopicTree[str] = TopicTree()
    tree.subscribe("a/b", "both", Grant(1))
    tree.subscribe("a/+", "both", Grant(0))
    tree.subscribe("a/+", "wild", Grant(0))
    tree.subscribe("a/b", "shared", Grant(0), "g")
    found = tree.exact("a/b")
    assert (found.subscribers, len(found.groups), found.fan_out) == ([("both", Grant(1))], 1, 2)
    assert tree.exact("a/c").fan_out == 0


def test_3_8_4_3_the_same_filter_again_replaces_the_subscription() -> None:
    """[MQTT-3.8.4-3]"""
    tree: TopicTree[str] = TopicTree()
    assert tree.subscribe("a", "client", Grant(1))
    assert who(tree, "a") == {"client": 1}
    assert not tree.subscribe("a", "client", Grant(0))
    assert who(tree, "a") == {"client": 0}
    assert tree.unsubscribe("a", "client")
    assert who(tree, "a") == {}


def test_first_and_last_subscription_of_a_filter_are_told() -> None:
    tree: TopicTree[str] = TopicTree()
    assert tree.subscribe("a/+", "one", Grant(0))
    assert not tree.subscribe("a/+", "two", Grant(0))
    assert tree.subscribe("a/b", "two", Grant(0))
    assert not tree.unsubscribe("a/+", "one")
    assert not tree.unsubscribe("a/+", "one"), "it was not there any more"
    assert not tree.unsubscribe("a/c", "two"), "it never was"
    assert not tree.unsubscribe("a", "two"), "a node on the way is no subscription"
    assert tree.unsubscribe("a/+", "two")


clients = st.sampled_from("abc")
groups = st.sampled_from([None, None, "g", "h"])
grants = st.builds(Grant, qos_levels, st.booleans(), st.booleans(), st.lists(st.integers(1, 9), max_size=1).map(tuple))


def test_overlapping_filters_of_one_client_are_merged() -> None:
    """[MQTT-3.3.4-3]: one copy with every identifier. It gets what any gives, so No Local only if all say so."""
    tree: TopicTree[str] = TopicTree()
    tree.subscribe("a/b", "client", Grant(0, True, False, (1,)))
    tree.subscribe("a/+", "client", Grant(2, True, True, (2,)))
    tree.subscribe("a/#", "other", Grant(1, True, False, (9,)))
    found = dict(tree.match("a/b").subscribers)
    assert sorted(found["client"].subscription_ids) == [1, 2]
    assert found["client"]._replace(subscription_ids=()) == Grant(2, True, True)
    assert found["other"] == Grant(1, True, False, (9,))
    tree.subscribe("a/#", "client", Grant(1, False))
    assert dict(tree.match("a/b").subscribers)["client"].no_local is False


def test_a_shared_group_takes_turns() -> None:
    tree: TopicTree[str] = TopicTree()
    for member in "abc":
        tree.subscribe("t/+", member, Grant(1), "g")
    [group] = tree.match("t/1").groups
    firsts = [next(iter(group.in_turn()))[0] for _ in range(6)]
    assert sorted(firsts[:3]) == sorted(firsts[3:]) == ["a", "b", "c"]
    assert firsts[:3] == firsts[3:]
    for _ in range(3):
        assert sorted(member for member, _ in group.in_turn()) == ["a", "b", "c"], "everybody, once"


def test_a_member_that_goes_does_not_stop_the_turns() -> None:
    group: SharedGroup[str] = SharedGroup()
    assert list(group.in_turn()) == []
    for member in "abc":
        group.put(member, Grant(0))
    list(group.in_turn())
    assert group.remove("c")
    assert not group.remove("c")
    for _ in range(4):
        assert sorted(member for member, _ in group.in_turn()) == ["a", "b"]


class TreeBesideTable(RuleBasedStateMachine):
    """Subscribe, unsubscribe and match in any order, alone and in groups, beside a flat table."""

    def __init__(self) -> None:
        super().__init__()
        self.tree: TopicTree[str] = TopicTree()
        self.table: dict[tuple[str, str, str | None], Grant] = {}

    def has(self, topic_filter: str) -> bool:
        return any(f == topic_filter for f, _, _ in self.table)

    @rule(topic_filter=topic_filters, client=clients, grant=grants, group=groups)
    def subscribe(self, topic_filter: str, client: str, grant: Grant, group: str | None) -> None:
        assert self.tree.subscribe(topic_filter, client, grant, group) is not self.has(topic_filter)
        self.table[topic_filter, client, group] = grant

    @rule(topic_filter=topic_filters, client=clients, group=groups)
    def unsubscribe(self, topic_filter: str, client: str, group: str | None) -> None:
        was_there = self.table.pop((topic_filter, client, group), None) is not None
        assert self.tree.unsubscribe(topic_filter, client, group) is (was_there and not self.has(topic_filter))

    @rule(data=st.data())
    def unsubscribe_one_of_them(self, data: st.DataObject) -> None:
        if self.table:
            self.unsubscribe(*data.draw(st.sampled_from(sorted(self.table, key=str))))

    @rule(topic=topic_names)
    def match(self, topic: str) -> None:
        expected: dict[str, list[Grant]] = {}
        shared: dict[tuple[str, str], dict[str, Grant]] = {}
        for (topic_filter, client, group), grant in self.table.items():
            if not matches(topic_filter, topic):
                continue
            if group is None:
                expected.setdefault(client, []).append(grant)
            else:
                shared.setdefault((topic_filter, group), {})[client] = grant
        found = self.tree.match(topic)
        assert self.tree.known[topic] is found
        assert [client for client, _ in found.subscribers] == list(dict(found.subscribers)), "each once"
        assert {client: as_set(grant) for client, grant in found.subscribers} == {
            client: as_set(merged(grants)) for client, grants in expected.items()
        }
        members = [sorted(group._members.items()) for group in found.groups]
        assert sorted(members) == sorted(sorted(group.items()) for group in shared.values())
        assert found.fan_out == len(expected) + len(shared)

    @invariant()
    def no_garbage(self) -> None:
        prefixes = {tuple(f.split("/")[:n]) for f, _, _ in self.table for n in range(1, f.count("/") + 2)}
        assert count_nodes(self.tree) == len(prefixes)
        assert self.tree.is_empty is (not self.table)
        assert self.tree.subscriptions == len(self.table)


def merged(grants: list[Grant]) -> Grant:
    """What overlapping subscriptions of one client come to."""
    return Grant(
        max(grant.qos for grant in grants),
        all(grant.no_local for grant in grants),
        any(grant.retain_as_published for grant in grants),
        tuple(identifier for grant in grants for identifier in grant.subscription_ids),
    )


def as_set(grant: Grant) -> Grant:
    """Identifiers come in no particular order."""
    return grant._replace(subscription_ids=tuple(sorted(grant.subscription_ids)))


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
    tree.subscribe("#", "client", Grant(0))
    for number in range(100):
        assert who(tree, str(number)) == {"client": 0}
        assert len(tree.known) <= 10


def test_filters_and_topics_of_very_many_levels_need_no_recursion() -> None:
    """Deeper than Python may recurse."""
    tree: TopicTree[str] = TopicTree()
    deep = "/" * 60_000
    started_s = time.perf_counter()
    assert tree.subscribe(deep, "client", Grant(0))
    assert who(tree, deep) == {"client": 0}
    assert tree.unsubscribe(deep, "client")
    assert count_nodes(tree) == 0
    assert time.perf_counter() - started_s < 20, "linear in the levels"


def test_every_mix_of_wildcards_is_searched_once() -> None:
    """2**10 filters of ten levels all match; a second publish to the topic is a look-up."""
    tree: TopicTree[int] = TopicTree()
    for bits in range(1_024):
        tree.subscribe("/".join("+" if bits >> level & 1 else "a" for level in range(10)), bits, Grant(0))
    topic = "/".join("a" * 10)
    found = tree.match(topic)
    assert found.fan_out == 1_024
    assert tree.match(topic) is found


@given(st.sets(topic_filters, max_size=30), topic_names)
def test_what_a_match_looks_at_is_paid_for(filters: set[str], topic: str) -> None:
    """Beside the one path that every topic has, only levels at or below a '+' are looked at; those count tenfold."""
    tree: TopicTree[str] = TopicTree()
    for topic_filter in filters:
        tree.subscribe(topic_filter, topic_filter, Grant(0))
    assert tree.match(topic).nodes <= tree.nodes / PLACES_IN_REACH + topic.count("/") + 1
    for topic_filter in filters:
        tree.unsubscribe(topic_filter, topic_filter)
    assert tree.nodes == 0


def test_groups_and_long_names_take_places() -> None:
    """Whoever makes up names pays for them with the places that an account may have."""
    tree: TopicTree[str] = TopicTree()
    tree.subscribe("t", "a", Grant(0), "g" * 600)
    tree.subscribe("t", "b", Grant(0), "g" * 600)
    tree.subscribe("x" * 300, "a", Grant(0))
    assert (tree.nodes, tree.groups("t"), tree.groups("x")) == (1 + 3 + 2, 1, 0)
    tree.unsubscribe("t", "a", "g" * 600)
    assert tree.nodes == 6
    tree.unsubscribe("t", "b", "g" * 600)
    tree.unsubscribe("x" * 300, "a")
    assert tree.nodes == 0
