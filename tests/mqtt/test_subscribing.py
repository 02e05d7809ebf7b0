"""Filters that nobody may subscribe with, and what is said about them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.mqtt.errors import MalformedPacket, MqttProtocolError
from headwater.mqtt.limits import ProtocolLimits
from headwater.mqtt.reason_codes import ReasonCode
from headwater.mqtt.subscribing import NotGranted, first_reason, judge_filter, too_many_filters

LIMITS = ProtocolLimits(max_topic_bytes=20, max_topic_levels=4, max_wildcard_levels=2, max_subscribe_filters=3)


@pytest.mark.parametrize("level", [3, 4, 5])
def test_filters_within_the_limits(level: int) -> None:
    for topic_filter in ("a", "+/+/a/#", "x" * 20, "é" * 10, "a/b/c/d", "$share/g/a/b/c/d"):
        assert judge_filter(topic_filter, level, LIMITS) is None


@pytest.mark.parametrize(
    ("topic_filter", "code"),
    [
        ("x" * 21, ReasonCode.TOPIC_FILTER_INVALID),
        ("é" * 11, ReasonCode.TOPIC_FILTER_INVALID),
        ("+/+/+", ReasonCode.QUOTA_EXCEEDED),
    ],
)
def test_limits_refuse_one_filter_in_every_version(topic_filter: str, code: ReasonCode) -> None:
    for level in (3, 4, 5):
        refused = judge_filter(topic_filter, level, LIMITS)
        assert refused is not None
        assert refused.reason_code == code


@pytest.mark.parametrize("topic_filter", ["a/#/b", "a+", "a/b/c/d/e"])
def test_malformed_filters_are_refused_alone_in_mqtt_5_only(topic_filter: str) -> None:
    refused = judge_filter(topic_filter, 5, LIMITS)
    assert refused is not None
    assert refused.reason_code == ReasonCode.TOPIC_FILTER_INVALID
    for level in (3, 4):
        with pytest.raises(MalformedPacket):
            judge_filter(topic_filter, level, LIMITS)


@given(st.text("ab+#/$é", max_size=30))
def test_nothing_that_a_client_sends_comes_back(topic_filter: str) -> None:
    marked = topic_filter.replace("a", "qzq")
    try:
        refused = judge_filter(marked, 5, LIMITS)
        told = "" if refused is None else refused.reason
    except MqttProtocolError as error:
        told = str(error)
    assert "qzq" not in told


def test_the_first_reason_is_told() -> None:
    one, other = NotGranted("one"), NotGranted("other")
    assert first_reason([None, one, None, other]) == "one"
    assert first_reason([None, NotGranted(""), other]) == "", "who need not know learns nothing of the next one"
    assert first_reason([None]) == first_reason([]) == ""
    assert "more than 3 topic filters" in too_many_filters(LIMITS).reason
