"""Strings, topic names and topic filters."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.mqtt.errors import MalformedPacket, MqttProtocolError
from headwater.mqtt.reason_codes import ReasonCode
from headwater.mqtt.topics import (
    check_filter_form,
    check_topic_name,
    judge_topic_filter,
    matches,
    parse_text,
    split_share,
)

from .strategies import texts, topic_filters, topic_names
from .test_topic_tree import matches as matches_read_aloud


@given(texts)
def test_well_formed_text_comes_back(text: str) -> None:
    assert parse_text(text.encode()) == text


@given(st.binary(max_size=50))
def test_arbitrary_bytes_are_text_or_malformed(raw: bytes) -> None:
    with suppress(MalformedPacket):
        assert parse_text(raw).encode() == raw


@pytest.mark.parametrize(
    "raw",
    [
        b"a\x00b",  # [MQTT-1.5.3-2]
        b"\xed\xa0\x80",  # U+D800 [MQTT-1.5.3-1]
        b"\xed\xbf\xbf",  # U+DFFF
        b"\xc0\x80",  # overlong NUL
        b"\xc0\xaf",  # overlong slash
        b"\xe0\x80\xaf",
        b"\xf4\x90\x80\x80",  # beyond U+10FFFF
        b"\xe2\x82",  # cut short
        b"\xff",
        b"\x80",
        b"tab\t",
        b"esc\x1b[31m",
        b"\x7f",
        "\x85".encode(),
        "\ufffe".encode(),
        "\ufdd0".encode(),
        "\U0001ffff".encode(),
        "\U0010fffe".encode(),
    ],
)
def test_1_5_3_ill_formed_text_is_refused(raw: bytes) -> None:
    """[MQTT-1.5.3-1] [MQTT-1.5.3-2]. Control and non-characters MAY be refused, and are."""
    with pytest.raises(MalformedPacket):
        parse_text(raw)


def test_1_5_3_3_a_byte_order_mark_is_kept() -> None:
    """[MQTT-1.5.3-3]"""
    assert parse_text(b"\xef\xbb\xbfa") == "\ufeffa"


@pytest.mark.parametrize(
    "text", ["no-break\u00a0space", "soft\u00adhyphen", "emoji \U0001f600", "\u200b", "~ ", "\u2028"]
)
def test_what_is_odd_but_allowed_is_kept(text: str) -> None:
    assert parse_text(text.encode()) == text


# -- names ----------------------------------------------------------------------------------------------------------


@given(topic_names)
def test_topic_names_are_accepted(topic: str) -> None:
    check_topic_name(topic, max_levels=5)


@pytest.mark.parametrize("topic", ["", "+", "#", "a/+", "a+", "#/a"])
def test_4_7_1_1_names_hold_no_wildcard_and_something(topic: str) -> None:
    """[MQTT-4.7.1-1] [MQTT-4.7.3-1] [MQTT-3.3.2-2]"""
    with pytest.raises(MalformedPacket):
        check_topic_name(topic, max_levels=32)


def test_depth_is_limited_by_levels() -> None:
    for topic in ("/".join("a" * 4), "///"):
        check_topic_name(topic, max_levels=4)
        assert judge_topic_filter(topic, max_levels=4) is None
        assert judge_topic_filter(f"$share/g/{topic}", max_levels=4) is None, "what is in front is no level"
    with pytest.raises(MalformedPacket, match="more than 4 levels"):
        check_topic_name("////", max_levels=4)
    assert "more than 4 levels" in str(judge_topic_filter("////", max_levels=4))
    started_s = time.perf_counter()
    with pytest.raises(MalformedPacket):
        check_topic_name("/" * 65_535, max_levels=32)
    assert judge_topic_filter("/" * 65_535, max_levels=32) is not None
    assert time.perf_counter() - started_s < 0.5


# -- filters --------------------------------------------------------------------------------------------------------


@given(topic_filters)
def test_topic_filters_are_accepted(topic_filter: str) -> None:
    check_filter_form(topic_filter)
    check_filter_form(f"$share/group/{topic_filter}")
    assert judge_topic_filter(topic_filter, max_levels=6) is None
    assert judge_topic_filter(f"$share/group/{topic_filter}", max_levels=6) is None


@pytest.mark.parametrize(
    "topic_filter", ["#", "+", "/", "a", "a/#", "a/+", "+/+", "+/#", "/#", "a//#", "+/a/+", "$SYS/#"]
)
def test_4_7_1_filters_of_the_specification(topic_filter: str) -> None:
    assert judge_topic_filter(topic_filter, max_levels=32) is None


@pytest.mark.parametrize(
    "topic_filter",
    ["a/#/b", "a#", "#a", "#/", "#/#", "a/#/#", "#/a/#", "a/b#", "##", "+#", "#+", "a/#+"],
)
def test_4_7_1_2_the_multi_level_wildcard_is_the_whole_last_level(topic_filter: str) -> None:
    """[MQTT-4.7.1-2]"""
    assert judge_topic_filter(topic_filter, max_levels=32) is not None


@pytest.mark.parametrize("topic_filter", ["a+", "+a", "a/b+/c", "++", "a/+b"])
def test_4_7_1_3_the_single_level_wildcard_is_a_whole_level(topic_filter: str) -> None:
    """[MQTT-4.7.1-3]"""
    assert judge_topic_filter(topic_filter, max_levels=32) is not None


def test_4_7_3_1_an_empty_filter_is_refused() -> None:
    """[MQTT-4.7.3-1]"""
    with pytest.raises(MalformedPacket, match="a topic filter is empty"):
        check_filter_form("")


# -- shared subscriptions -------------------------------------------------------------------------------------------


def test_a_share_is_split_into_its_group_and_its_filter() -> None:
    assert split_share("$share/workers/jobs/#") == ("workers", "jobs/#")
    assert split_share("$share/workers//jobs") == ("workers", "/jobs")
    assert split_share("$shared/workers/jobs") == (None, "$shared/workers/jobs")
    assert split_share("share/workers/jobs") == (None, "share/workers/jobs")


@pytest.mark.parametrize(
    "topic_filter", ["$share/", "$share//t", "$share/g", "$share/g/", "$share/+/t", "$share/g#/t", "$share/#"]
)
def test_4_8_2_a_shared_subscription_names_a_group_and_a_filter(topic_filter: str) -> None:
    """[MQTT-4.8.2-1] [MQTT-4.8.2-2]"""
    with pytest.raises(MqttProtocolError, match="a shared subscription needs") as caught:
        check_filter_form(topic_filter)
    assert caught.value.reason_code == ReasonCode.PROTOCOL_ERROR


# -- what matches what ----------------------------------------------------------------------------------------------


@given(topic_filters, topic_names)
def test_matches_agrees_with_the_specification_read_aloud(topic_filter: str, topic: str) -> None:
    assert matches(topic_filter, topic) is matches_read_aloud(topic_filter, topic)
