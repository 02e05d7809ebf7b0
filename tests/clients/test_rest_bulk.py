"""Bulk updates over real sockets."""

from __future__ import annotations

import json
import urllib.parse

import pytest

from server import Answer, ChannelKeys, Server


def bulk_json(server: Server, channel: ChannelKeys, *updates: dict[str, object], key: str | None = None) -> Answer:
    body = json.dumps({"write_api_key": key or channel.write_key, "updates": updates})
    return server.call("POST", f"/channels/{channel.id}/bulk_update.json", body, {"Content-Type": "application/json"})


def test_json(server: Server, channel: ChannelKeys) -> None:
    answer = bulk_json(
        server,
        channel,
        {"created_at": "2026-01-02 03:04:05", "field1": 21.5, "status": "ok", "latitude": "1.5"},
        {"delta_t": "10", "field2": "x"},
    )
    assert (answer.status, answer.body) == (202, b'{"success":true}')
    assert server.feeds(channel, status="true", location="true") == [
        {
            **{"created_at": "2026-01-02T03:04:05Z", "entry_id": 1, "field1": "21.5", "field2": None},
            **{"latitude": "1.5", "longitude": None, "elevation": None, "status": "ok"},
        },
        {
            **{"created_at": "2026-01-02T03:04:15Z", "entry_id": 2, "field1": None, "field2": "x"},
            **{"latitude": None, "longitude": None, "elevation": None, "status": None},
        },
    ]


def test_csv_as_devices_send_it(server: Server, channel: ChannelKeys) -> None:
    body = f"write_api_key={channel.write_key}&time_format=absolute&updates=2026-01-02 03:04:05,20.1,5|1767323055,20.4"
    answer = server.call(
        "POST",
        f"/channels/{channel.id}/bulk_update.csv",
        body,
        {"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert (answer.status, answer.body) == (202, b'{"success":true}')
    feeds = server.feeds(channel)
    assert [(entry["created_at"], entry["field1"], entry["field2"]) for entry in feeds] == [
        ("2026-01-02T03:04:05Z", "20.1", "5"),
        ("2026-01-02T03:04:15Z", "20.4", None),
    ]


def test_relative_times_end_now(server: Server, channel: ChannelKeys) -> None:
    form = {"write_api_key": channel.write_key, "time_format": "relative", "updates": "0,1|1,2|1,3"}
    path = f"/channels/{channel.id}/bulk_update.csv"
    assert server.call("POST", path, urllib.parse.urlencode(form)).status == 202
    assert [entry["field1"] for entry in server.feeds(channel, minutes=1)] == ["1", "2", "3"]


def test_sent_again_it_is_there_once(server: Server, channel: ChannelKeys) -> None:
    updates = [{"created_at": 1_767_323_045 + n, "field1": n} for n in range(1_000)]
    for _ in range(2):
        assert bulk_json(server, channel, *updates).status == 202
    assert bulk_json(server, channel, {"created_at": 1, "field1": "no time"}).status == 400
    assert bulk_json(server, channel, *updates[:1], {"created_at": 1_767_400_000, "field1": "new"}).status == 202
    feeds = server.feeds(channel, results=8_000)
    assert [entry["field1"] for entry in feeds] == [*map(str, range(1_000)), "new"]
    assert [entry["entry_id"] for entry in feeds] == list(range(1, 1_002))


def test_refused(server: Server, channel: ChannelKeys) -> None:
    other = server.create_channel()
    for key in ("0123456789ABCDEF", channel.read_key, other.write_key):
        answer = bulk_json(server, channel, {"delta_t": 1, "field1": 1}, key=key)
        assert answer.status == 401
        assert answer.body == (
            b'{"status":"401","error":{"error_code":"error_auth_required","message":"Authorization Required",'
            b'"details":"Please provide proper authentication details."}}'
        )
    assert server.feeds(channel) == []
    assert bulk_json(server, other._replace(id=99_999_999), {"delta_t": 1}).status == 404
    assert bulk_json(server, channel).status == 400


@pytest.mark.parametrize("path", ["bulk_update.json", "bulk_update.csv"])
def test_other_methods(server: Server, channel: ChannelKeys, path: str) -> None:
    answer = server.call("GET", f"/channels/{channel.id}/{path}")
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")


def test_too_many(server: Server, channel: ChannelKeys) -> None:
    answer = bulk_json(server, channel, *[{"delta_t": 1}] * 14_401)
    assert answer.status == 413
    assert answer.json()["error"]["error_code"] == "error_request_too_large"


def test_all_or_nothing_where_a_time_can_never_be(server: Server, channel: ChannelKeys) -> None:
    updates = [{"created_at": 1_767_323_045 + n, "field1": n} for n in range(500)]
    for at in ("1500-01-01T00:00:00Z", "2400-01-01T00:00:00Z"):
        answer = bulk_json(server, channel, *updates, {"created_at": at, "field1": 1})
        assert answer.status == 400
        assert answer.json()["error"]["details"].startswith("Update 501: created_at is outside the years")
    assert server.feeds(channel) == []
