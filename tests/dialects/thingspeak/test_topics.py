"""Which topics mean something, and what they mean."""

from __future__ import annotations

import pytest

from headwater.dialects.thingspeak.forms import Form
from headwater.dialects.thingspeak.topics import (
    PublishTopic,
    SubscribeFilter,
    parse_publish_topic,
    parse_subscribe_filter,
)


@pytest.mark.parametrize(
    ("topic", "parsed"),
    [
        ("channels/7/publish", PublishTopic(7, None, None)),
        ("channels/7/publish/fields/field8", PublishTopic(7, "field8", None)),
        ("channels/7/publish/KEY", PublishTopic(7, None, "KEY")),
        ("channels/7/publish/fields/field1/KEY", PublishTopic(7, "field1", "KEY")),
        ("channels/7/publish/fields/field12", PublishTopic(7, "field12", None)),
        ("channels/7/publish/fields/Wind speed", PublishTopic(7, "Wind speed", None)),
        ("channels/7/publish/fields/Wind%2Fgusts/KEY", PublishTopic(7, "Wind%2Fgusts", "KEY")),
        ("channels/7/bulk_update/json", PublishTopic(7, None, None, Form.JSON)),
        ("channels/7/bulk_update/csv/KEY", PublishTopic(7, None, "KEY", Form.CSV)),
    ],
)
def test_publish_topics(topic: str, parsed: PublishTopic) -> None:
    assert parse_publish_topic(topic) == parsed


@pytest.mark.parametrize(
    "topic",
    [
        "channels", "channels/7", "channels/x/publish", "channels/-7/publish", "channels/٧/publish",
        "channels/7/publish/fields/", "channels/7/publish/fields/1", "channels/7/publish/fields/field1000",
        "channels/7/publish/fields/field0",
        "channels/7/publish/fields/field1/KEY/more", "channels/7/subscribe", "/channels/7/publish",
        "channels/7/bulk_update", "channels/7/bulk_update/xml", "channels/7/bulk_update/json/KEY/more",
        "channels/x/bulk_update/csv", "channels/7/publish/", "channels/99999999999999999999/publish",
    ],
)  # fmt: skip
def test_no_publish_topics(topic: str) -> None:
    parsed = parse_publish_topic(topic)
    assert parsed is None or parsed.key == ""  # an empty key is a key, and never the right one


@pytest.mark.parametrize(
    ("topic_filter", "parsed"),
    [
        ("channels/7/subscribe", SubscribeFilter(7, is_field=False)),
        ("channels/7/subscribe/fields/field1", SubscribeFilter(7, is_field=True)),
        ("channels/7/subscribe/fields/+", SubscribeFilter(7, is_field=True)),
        ("channels/7/subscribe/json", SubscribeFilter(7, is_field=False, ending="/json")),
        ("channels/7/subscribe/xml/0123456789ABCDEF", SubscribeFilter(7, False, "/xml/0123456789ABCDEF")),
        ("channels/7/subscribe/fields/field1/0123456789ABCDEF", SubscribeFilter(7, True, "/0123456789ABCDEF")),
        ("channels/7/subscribe/fields/+/0123456789ABCDEF", SubscribeFilter(7, True, "/0123456789ABCDEF")),
        ("channels/007/subscribe", None),
        ("channels/7/subscribe/0123456789ABCDEF", None),
        ("channels/7/subscribe/json/+", None),
        ("channels/7/subscribe/json/#", None),
        ("channels/7/subscribe/json/", None),
        ("channels/7/subscribe/json/0123456789abcdef", None),
        ("channels/7/subscribe/json/0123456789ABCDEF/x", None),
        ("channels/7/subscribe/fields/+/+", None),
        ("channels/7/subscribe/txt", None),
        ("channels/+/subscribe", None),
        ("channels/7/#", None),
        ("channels/7/subscribe/#", None),
        ("channels/7/subscribe/+", None),
        ("channels/7/subscribe/fields/field12", SubscribeFilter(7, is_field=True)),
        ("channels/7/subscribe/fields/Wind", SubscribeFilter(7, is_field=True, name="Wind")),
        ("channels/7/subscribe/fields/Wind/0123456789ABCDEF", SubscribeFilter(7, True, "/0123456789ABCDEF", "Wind")),
        ("channels/7/subscribe/fields/field0", None),
        ("channels/7/subscribe/fields/1", None),
        ("channels/7/subscribe/fields/", None),
        ("channels/7/subscribe/fields/#", None),
        ("channels/7/subscribe/fields/W+", None),
        ("channels/7/publish", None),
    ],
)
def test_subscribe_filters(topic_filter: str, parsed: SubscribeFilter | None) -> None:
    assert parse_subscribe_filter(topic_filter) == parsed


def test_what_a_filter_asks_for() -> None:
    key = "0123456789ABCDEF"
    assert (SubscribeFilter(7, False).form, SubscribeFilter(7, False).key) == (Form.JSON, None)
    assert SubscribeFilter(7, False, "/csv").form is Form.CSV
    assert SubscribeFilter(7, False, f"/xml/{key}").form is Form.XML
    assert SubscribeFilter(7, False, f"/xml/{key}").key == key
    assert SubscribeFilter(7, True, f"/{key}").key == key
