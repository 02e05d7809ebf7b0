"""Values to ThingSpeak's answers."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from headwater.dialects.thingspeak.read_query import ReadQuery
from headwater.dialects.thingspeak.render import (
    render_channel,
    render_feed_channel,
    render_time,
    render_update,
    to_json,
)
from headwater.model.entry import Entry
from headwater.registry.entities import ApiKey, Channel, ChannelSettings

AT_NS = 1_767_323_045_999_999_999
MADE = datetime(2026, 1, 1, tzinfo=UTC)
PLAIN = ReadQuery(100, None, None, None, False, False, False)
ALL = PLAIN._replace(with_status=True, with_location=True, with_metadata=True)
ENTRY = Entry(12, AT_NS, {1: "21.50", 3: 'a"b'}, "1.5", None, "7", "ok")


def channel(**settings: object) -> Channel:
    keys = (ApiKey(1, "W" * 16, True, "", MADE), ApiKey(2, "R" * 16, False, "", MADE))
    return Channel(7, 1, ChannelSettings(**settings), keys, MADE, MADE)  # type: ignore[arg-type]


def test_times_have_whole_seconds() -> None:
    assert render_time(AT_NS) == "2026-01-02T03:04:05Z"
    assert render_time(AT_NS, ZoneInfo("America/New_York")) == "2026-01-01T22:04:05-05:00"
    assert render_time(AT_NS, timezone(timedelta(hours=5.5))) == "2026-01-02T08:34:05+05:30"
    assert render_time(-1) == "1969-12-31T23:59:59Z"


def test_update() -> None:
    assert to_json(render_update(7, ENTRY, None, {1})) == (
        b'{"channel_id":7,"created_at":"2026-01-02T03:04:05Z","entry_id":12,"field1":21.50,"field2":null,'
        b'"field3":"a\\"b","field4":null,"field5":null,"field6":null,"field7":null,"field8":null,'
        b'"latitude":"1.5","longitude":null,"elevation":"7","status":"ok"}'
    )


def test_more_fields_follow_the_eighth() -> None:
    row = render_update(
        7, ENTRY._replace(fields={1: "1", 12: "2"}), None, {12}, channel(fields={12: "x"}).settings.numbers
    )
    assert to_json(row).endswith(
        b'"field8":null,"field12":2,"latitude":"1.5","longitude":null,"elevation":"7","status":"ok"}'
    )


def test_units_and_labels_are_shown_where_they_are_set() -> None:
    plain = channel(fields={1: "t"})
    extra = channel(fields={1: "t", 9: "r"}, units={1: "°C"}, labels={9: "Rain"}, takes_names=True)
    shown = {"units": {"field1": "°C"}, "labels": {"field9": "Rain"}}
    added = {**shown, "fields_by_name": True}
    assert render_channel(extra, 0, with_keys=True) == render_channel(plain, 0, with_keys=True) | added
    assert render_channel(extra, 0, with_keys=False) == render_channel(plain, 0, with_keys=False)
    assert render_feed_channel(extra, 0, ALL).items() >= shown.items()
    assert render_feed_channel(extra, 0, PLAIN).keys() & added.keys() == set()


def test_the_head_of_a_feed_leaves_out_what_is_empty() -> None:
    bare = render_feed_channel(channel(name="n", fields={2: "b", 1: "a"}), 0, ALL)
    assert list(bare) == [
        *("id", "name", "latitude", "longitude", "field1", "field2", "created_at", "updated_at", "last_entry_id"),
    ]
    assert bare["last_entry_id"] is None
    full = channel(name="n", description="d", elevation="1", metadata="m", fields={1: "a"})
    assert list(render_feed_channel(full, 3, ALL)) == [
        *("id", "name", "description", "latitude", "longitude", "field1", "created_at", "updated_at"),
        *("elevation", "metadata", "last_entry_id"),
    ]
    assert "metadata" not in render_feed_channel(full, 3, PLAIN)


def test_channel_shows_keys_to_its_owner_only() -> None:
    shown = render_channel(channel(name="n", tags=("a", "b")), 5, with_keys=True)
    assert json.loads(to_json(shown["api_keys"])) == [
        {"api_key": "W" * 16, "write_flag": True},
        {"api_key": "R" * 16, "write_flag": False},
    ]
    assert [tag["name"] for tag in shown["tags"]] == ["a", "b"]
    assert len({tag["id"] for tag in shown["tags"]}) == 2
    assert "W" * 16 not in to_json(render_channel(channel(), 5, with_keys=False)).decode()


def test_ranking_counts_what_is_filled_in() -> None:
    def ranking(**settings: object) -> int:
        return int(render_channel(channel(**settings), 0, with_keys=False)["ranking"])

    assert ranking() == 0
    assert ranking(name="n") == 15
    assert ranking(name="n", description="d", latitude="1", longitude="2", url="http://x", tags=("t",)) == 85
