"""A channel as one CSV file, and the last of its aggregates, over real sockets."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from server import Answer, ChannelKeys, Server, running_server, wait_until

BEGIN_S = 1_767_312_000  # 2026-01-02 00:00:00 UTC


def fill(server: Server, channel: ChannelKeys, count: int, every_s: int = 60, filler: str = "") -> None:
    for first in range(0, count, 10_000):
        updates = [
            {"created_at": str(BEGIN_S + n * every_s), "field1": str(n), "field2": f'say "{n}"{filler}', "status": "ok"}
            for n in range(first, min(first + 10_000, count))
        ]
        body = json.dumps({"write_api_key": channel.write_key, "updates": updates})
        assert server.call("POST", f"/channels/{channel.id}/bulk_update.json", body).status == 202


def stream(server: Server, channel: ChannelKeys, ending: str = "", **query: object) -> Answer:
    return server.call("GET", f"/stream/channels/{channel.id}/feeds{ending}", api_key=channel.read_key, **query)


def test_the_same_lines_as_feeds_csv(server: Server, channel: ChannelKeys) -> None:
    fill(server, channel, 30)
    for query in ({}, {"status": "true", "location": "true", "timezone": "Asia/Tokyo", "precision": "ms"}):
        answer = stream(server, channel, **query)
        feeds = server.call("GET", f"/channels/{channel.id}/feeds.csv", api_key=channel.read_key, **query)
        assert (answer.status, answer.body) == (200, feeds.body)
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="feeds.csv"'
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert stream(server, channel, ".csv").status == 200
    some = stream(server, channel, start="2026-01-02 00:05:00", end="2026-01-02 00:06:00").body.decode().splitlines()
    assert [line.split(",")[1] for line in some] == ["entry_id", "6", "7"]


def test_more_than_any_feed_gives(server: Server, channel: ChannelKeys) -> None:
    fill(server, channel, 25_000, every_s=1)
    lines = stream(server, channel, results=5).body.decode().splitlines()
    assert lines[0] == "created_at,entry_id,field1,field2"
    assert [line.split(",")[1] for line in lines[1:]] == [str(n + 1) for n in range(25_000)]


def test_of_an_empty_channel(server: Server, channel: ChannelKeys) -> None:
    assert stream(server, channel).body == b"created_at,entry_id,field1,field2\n"


def test_nobody_else_may(server: Server, channel: ChannelKeys, stranger: str) -> None:
    for key in ("", "nonsense", stranger, server.create_channel().write_key):
        answer = server.call("GET", f"/stream/channels/{channel.id}/feeds", api_key=key)
        assert (answer.status, answer.body) == (400, b"-1")
    assert server.call("GET", "/stream/channels/999999999/feeds.csv").status == 404


def test_who_hangs_up_frees_the_place_and_who_is_slow_gets_all(data: Path) -> None:
    with running_server(data, HEADWATER_QUERY_MAX_STREAMS="1") as server:
        channel = server.create_channel()
        fill(server, channel, 40_000, every_s=1, filler="x" * 200)
        request = f"GET /stream/channels/{channel.id}/feeds?api_key={channel.read_key} HTTP/1.1\r\nHost: x\r\n\r\n"
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", server.http_port), timeout=20) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.sendall(request.encode())
                assert client.recv(100).startswith(b"HTTP/1.1 200 OK")
                assert stream(server, channel).status == 503, "it waits for its client"
            wait_until(lambda: stream(server, channel, start="2030-01-01").status == 200, what="a free place")
        assert stream(server, channel).body.count(b"\n") == 40_001


# -- the last aggregate -----------------------------------------------------------------------------------------


def last(server: Server, channel: ChannelKeys, path: str, **query: object) -> Answer:
    return server.call("GET", f"/channels/{channel.id}/{path}", api_key=channel.read_key, **query)


def test_the_last_of_what_an_aggregation_gives(server: Server, channel: ChannelKeys) -> None:
    fill(server, channel, 125)
    for method in ("sum", "average", "median"):
        for feed in ("feed", "feeds"):
            query = {method: 60, "results": 60}
            expected = last(server, channel, "feeds.json", **query).json()["feeds"][-1]
            assert last(server, channel, f"{feed}/last_{method}.json", **{method: 60}).json() == expected
    assert last(server, channel, "feeds/last_sum.json", sum=60).json()["field1"] == "610.0"
    assert last(server, channel, "feeds/last_average", average=60, round=1).json() == {
        **{"created_at": "2026-01-02T02:00:00Z", "field1": "122.0", "field2": None}
    }
    assert last(server, channel, "feeds/last_average.csv", average=60).body == (
        b"created_at,field1,field2\n2026-01-02 02:00:00 UTC,122.0,\n"
    )
    xml = last(server, channel, "feeds/last_median.xml", median="daily").body.decode()
    assert "<field1>74.5</field1>" in xml, "of 100 entries at most"
    assert last(server, channel, "fields/1/last_sum.txt", sum=10, append="!").body == b"610.0!"
    assert last(server, channel, "field/1/last_sum.json", sum=60, results=2).json()["field1"] == "247.0"


@pytest.mark.parametrize("query", [{}, {"average": "7"}, {"median": "60"}])
def test_which_aggregate_is_not_said(server: Server, channel: ChannelKeys, query: dict[str, str]) -> None:
    answer = last(server, channel, "feeds/last_average.json", **query)
    assert answer.status == 400
    assert "average=60" in answer.json()["error"]["details"]


def test_the_last_aggregate_of_nothing_and_of_others(server: Server, channel: ChannelKeys, stranger: str) -> None:
    assert last(server, channel, "feeds/last_sum.json", sum=60).status == 404
    answer = server.call("GET", f"/channels/{channel.id}/feeds/last_sum.json", api_key=stranger, sum=60)
    assert (answer.status, answer.body) == (400, b"-1")
