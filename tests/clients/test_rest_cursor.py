"""A whole channel part by part over real sockets, and times to the nanosecond."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server import Answer, ChannelKeys, Server


def fill(server: Server, channel: ChannelKeys, *times: str) -> None:
    updates = [{"created_at": at, "field1": str(n), "field2": "a,b"} for n, at in enumerate(times)]
    body = json.dumps({"write_api_key": channel.write_key, "updates": updates})
    assert server.call("POST", f"/channels/{channel.id}/bulk_update.json", body).status == 202


def read(server: Server, channel: ChannelKeys, form: str = "json", **query: object) -> Answer:
    return server.call("GET", f"/channels/{channel.id}/feeds.{form}", api_key=channel.read_key, **query)


def walk(server: Server, channel: ChannelKeys, **query: object) -> list[dict[str, Any]]:
    cursor: str | None = ""
    feeds: list[dict[str, Any]] = []
    while cursor is not None:
        answer = read(server, channel, cursor=cursor, **query)
        assert answer.status == 200, answer
        page = answer.json()
        assert list(page) == ["channel", "feeds", "next_cursor"]
        cursor = page["next_cursor"]
        assert answer.headers.get("Headwater-Next-Cursor") == cursor
        feeds += page["feeds"]
    return feeds


TIMES = [f"2026-01-02 03:04:{second:02d}" for second in (7, 3, 5, 1, 30, 59, 2)]


def test_from_the_oldest_to_the_newest(server: Server, channel: ChannelKeys) -> None:
    fill(server, channel, *TIMES)
    for results in (1, 2, 3, 7, 100):
        feeds = walk(server, channel, results=results)
        assert [feed["created_at"][-3:-1] for feed in feeds] == ["01", "02", "03", "05", "07", "30", "59"]
    assert walk(server, channel) == feeds
    some = walk(server, channel, results=2, start="2026-01-02 03:04:03", end="2026-01-02 03:04:30")
    assert [feed["created_at"][-3:-1] for feed in some] == ["03", "05", "07", "30"]


def test_what_arrives_meanwhile_comes_later(server: Server, channel: ChannelKeys) -> None:
    fill(server, channel, *TIMES)
    first = read(server, channel, cursor="", results=3).json()
    fill(server, channel, "2026-01-02 03:04:04", "2026-01-02 03:05:00")
    rest = read(server, channel, cursor=first["next_cursor"]).json()
    assert [feed["created_at"][-3:-1] for feed in rest["feeds"]] == ["04", "05", "07", "30", "59", "00"]
    assert rest["next_cursor"] is None


def test_in_the_other_forms(server: Server, channel: ChannelKeys) -> None:
    fill(server, channel, *TIMES)
    csv = read(server, channel, "csv", cursor="", results=2)
    cursor = csv.headers["Headwater-Next-Cursor"]
    assert csv.headers["Access-Control-Expose-Headers"] == "Headwater-Next-Cursor"
    assert csv.body.decode().splitlines()[1:] == [
        '2026-01-02 03:04:01 UTC,4,3,"a,b"',
        '2026-01-02 03:04:02 UTC,7,6,"a,b"',
    ]
    xml = read(server, channel, "xml", cursor=cursor, results=2)
    assert f"<next-cursor>{xml.headers['Headwater-Next-Cursor']}</next-cursor>" in xml.body.decode()
    last = read(server, channel, "xml", cursor=cursor)
    assert '<next-cursor nil="true"/>' in last.body.decode()
    assert "Headwater-Next-Cursor" not in last.headers
    field = server.call("GET", f"/channels/{channel.id}/fields/2.json", api_key=channel.read_key, cursor="", results=1)
    assert field.json()["feeds"][0]["field2"] == "a,b"


def test_of_an_empty_channel(server: Server, channel: ChannelKeys) -> None:
    assert walk(server, channel) == []
    assert read(server, channel, cursor="", results=0).json()["next_cursor"] is None


@pytest.mark.parametrize("cursor", ["x", "5", "t", "t1.5", "t99999999999999999999", "t9223372036854775808", "t٣"])
def test_a_cursor_that_is_none(server: Server, channel: ChannelKeys, cursor: str) -> None:
    answer = read(server, channel, cursor=cursor)
    assert answer.status == 400
    assert "This cursor is none" in answer.json()["error"]["details"]


def test_what_goes_against_a_cursor(server: Server, channel: ChannelKeys) -> None:
    for query in ({"average": 60}, {"start_entry_id": 1}):
        answer = read(server, channel, cursor="", **query)
        assert answer.status == 400
        assert "leave out" in answer.json()["error"]["details"]


def test_nobody_else_may(server: Server, channel: ChannelKeys, stranger: str) -> None:
    for key in ("", "nonsense", stranger, server.create_channel().write_key):
        answer = server.call("GET", f"/channels/{channel.id}/feeds.json", api_key=key, cursor="")
        assert (answer.status, answer.body) == (400, b"-1")


def test_times_to_the_nanosecond(server: Server, channel: ChannelKeys) -> None:
    path = f"/update.json?api_key={channel.write_key}&field1=1&created_at=2026-01-02T03:04:05.123456789Z"
    assert server.call("GET", path).json()["created_at"] == "2026-01-02T03:04:05Z"
    later = path.replace("789Z", "790Z") + "&precision=ns"
    assert server.call("GET", later).json()["created_at"] == "2026-01-02T03:04:05.123456790Z"
    assert [feed["created_at"] for feed in server.feeds(channel, precision="us")] == ["2026-01-02T03:04:05.123456Z"] * 2
    bounds = {"start": "2026-01-02T03:04:05.12345679Z", "end": "2026-01-02T03:04:05.1235Z"}
    assert [feed["entry_id"] for feed in server.feeds(channel, **bounds)] == [2]
    assert [feed["entry_id"] for feed in server.feeds(channel, end="2026-01-02T03:04:05.123456789")] == [1]
    csv = read(server, channel, "csv", precision="ms", timezone="Asia/Kolkata").body.decode().splitlines()
    assert csv[1].startswith("2026-01-02 08:34:05.123 +0530,1,")
    xml = read(server, channel, "xml", precision="ns").body.decode()
    assert '<created-at type="dateTime">2026-01-02T03:04:05.123456790Z</created-at>' in xml
    last = server.call("GET", f"/channels/{channel.id}/feeds/last.json", api_key=channel.read_key, precision="ms")
    assert last.json()["created_at"] == "2026-01-02T03:04:05.123Z"


def test_a_precision_that_is_none_writes_nothing(server: Server, channel: ChannelKeys) -> None:
    assert read(server, channel, precision="hours").status == 400
    assert server.call("GET", f"/update.json?api_key={channel.write_key}&field1=1&precision=hours").status == 400
    assert server.feeds(channel) == []
