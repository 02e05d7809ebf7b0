"""The `$SYS` tree: names, formats, and names that come from elsewhere."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from fake_presence import STARTED_AT_NS, TOTALS
from headwater.broker.sys_topics import render_sys_topics
from headwater.mqtt.topics import check_topic_name
from headwater.services.presence import Totals

COUNTS = st.dictionaries(st.text(max_size=20), st.integers(0, 2**63), max_size=5)


def rendered(totals: Totals = TOTALS, now_ns: int = STARTED_AT_NS) -> dict[str, bytes]:
    topics = list(render_sys_topics(totals, "1.2.3", now_ns))
    assert len(dict(topics)) == len(topics), "a topic stands there twice"
    return dict(topics)


def test_mosquittos_names() -> None:
    topics = rendered(now_ns=STARTED_AT_NS + 61_999_999_999)
    expected = {
        "version": b"headwater version 1.2.3",
        "uptime": b"61 seconds",
        "clients/connected": b"3",
        "clients/disconnected": b"2",
        "clients/total": b"5",
        "clients/maximum": b"9",
        "messages/received": b"1000",
        "messages/sent": b"2000",
        "bytes/received": b"30000",
        "bytes/sent": b"60000",
        "publish/messages/received": b"1000",
        "publish/messages/sent": b"2000",
        "publish/messages/dropped": b"12",
        "retained messages/count": b"13",
        "store/messages/count": b"24",
        "store/messages/bytes": b"2400",
        "subscriptions/count": b"6",
    }
    for name, payload in expected.items():
        assert topics.pop(f"$SYS/broker/{name}") == payload, name
    assert all(topic.startswith("$SYS/broker/headwater/") for topic in topics)


def test_headwaters_own() -> None:
    topics = rendered()
    own = {topic.removeprefix("$SYS/broker/headwater/"): payload for topic, payload in topics.items()}
    assert own["dropped/max_queued_messages"] == b"7"
    assert own["dropped/max_write_buffer_bytes"] == b"5"
    assert own["refused/bad_credentials"] == b"4"
    assert own["connections/total"] == b"40"
    assert (own["queued/messages"], own["queued/bytes"], own["retained/bytes"]) == (b"11", b"1100", b"1300")


def test_names_that_become_the_same_are_counted_together() -> None:
    topics = rendered(replace(TOTALS, refused={"a/b": 1, "a+b": 2, "a b": 4, "": 8}))
    refused = {topic: payload for topic, payload in topics.items() if "/refused/" in topic}
    assert refused == {"$SYS/broker/headwater/refused/a_b": b"7", "$SYS/broker/headwater/refused/_": b"8"}


def test_a_clock_that_went_back() -> None:
    assert rendered(now_ns=STARTED_AT_NS - 1)["$SYS/broker/uptime"] == b"0 seconds"


@given(COUNTS, COUNTS)
def test_every_topic_is_one(dropped: dict[str, int], refused: dict[str, int]) -> None:
    for topic, payload in rendered(replace(TOTALS, dropped=dropped, refused=refused)).items():
        assert topic.count("/") <= 4
        check_topic_name(topic, max_levels=5)
        assert payload
