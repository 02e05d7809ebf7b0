"""ThingSpeak's reads on a real server: every path, form and parameter."""

from __future__ import annotations

import csv
import io
import urllib.parse
import xml.etree.ElementTree as ET

import pytest

from server import Answer, ChannelKeys, Server

FORMS = {
    "json": "application/json",
    "xml": "application/xml",
    "csv": "text/csv; charset=utf-8",
    "txt": "text/plain; charset=utf-8",
}


def update(server: Server, channel: ChannelKeys, **fields: object) -> None:
    answer = server.call("POST", "/update", urllib.parse.urlencode({"api_key": channel.write_key, **fields}))
    assert answer.status == 200


def read(server: Server, channel: ChannelKeys, path: str, **query: object) -> Answer:
    return server.call("GET", f"/channels/{channel.id}/{path}", api_key=channel.read_key, **query)


def body(server: Server, channel: ChannelKeys, path: str, **query: object) -> str:
    answer = read(server, channel, path, **query)
    assert answer.status == 200, answer.body
    return answer.body.decode()


@pytest.fixture
def filled(server: Server, channel: ChannelKeys) -> ChannelKeys:
    """Three entries, 20 minutes apart; the last has no first field."""
    update(server, channel, field1="1.25", field2="10", created_at="2026-01-02T03:00:00Z", status="one")
    update(server, channel, field1="on", field2="20", created_at="2026-01-02T03:20:00Z", lat="47.5")
    update(server, channel, field2="60", created_at="2026-01-02T03:40:00Z")
    return channel


@pytest.mark.parametrize("form", ["json", "xml", "csv"])
@pytest.mark.parametrize("path", ["feeds", "feed", "fields/2", "field/field2", "status", "statuses"])
def test_lists_in_every_form(server: Server, filled: ChannelKeys, path: str, form: str) -> None:
    answer = read(server, filled, f"{path}.{form}", results=2)
    assert (answer.status, answer.headers["Content-Type"]) == (200, FORMS[form])
    if form == "json":
        ids = [entry["entry_id"] for entry in answer.json()["feeds"]]
    elif form == "csv":
        ids = [int(row["entry_id"]) for row in csv.DictReader(io.StringIO(answer.body.decode()))]
    else:
        ids = [int(found.text or "") for found in ET.fromstring(answer.body).iter("entry-id")]
    assert ids == [2, 3]


@pytest.mark.parametrize("path", ["feeds", "fields/1", "status"])
def test_a_list_without_extension_is_json(server: Server, filled: ChannelKeys, path: str) -> None:
    assert len(read(server, filled, path, results=3).json()["feeds"]) == 3


@pytest.mark.parametrize("form", ["json", "xml", "csv", "txt", ""])
@pytest.mark.parametrize("path", ["feeds/last", "feed/last", "feeds/3", "feeds/entry/3"])
def test_one_entry_in_every_form(server: Server, filled: ChannelKeys, path: str, form: str) -> None:
    answer = read(server, filled, path + (f".{form}" if form else ""))
    assert answer.headers["Content-Type"] == FORMS[form or "txt"]
    expected = {
        "json": b'{"created_at":"2026-01-02T03:40:00Z","entry_id":3,"field1":null,"field2":"60"}',
        "csv": b"created_at,entry_id,field1,field2\n2026-01-02 03:40:00 UTC,3,,60\n",
    }
    if form == "xml":
        feed = ET.fromstring(answer.body)
        assert (feed.tag, feed.findtext("field2"), feed.findtext("entry-id")) == ("feed", "60", "3")
    else:
        assert answer.body == expected.get(form, expected["json"])


def test_the_last_value_of_a_field_is_of_the_last_entry_that_has_it(server: Server, filled: ChannelKeys) -> None:
    for path in ("fields/1/last", "field/1/last.txt", "fields/field1/2", "fields/1/2.txt"):
        assert body(server, filled, path) == "on"
    assert body(server, filled, "fields/2/last", prepend="T=", append=" C", round=1) == "T=60.0 C"
    assert body(server, filled, "fields/1/last.json") == (
        '{"created_at":"2026-01-02T03:20:00Z","entry_id":2,"field1":"on"}'
    )
    assert body(server, filled, "fields/1/last.csv").splitlines()[1] == "2026-01-02 03:20:00 UTC,2,on"
    assert body(server, filled, "fields/1/3") == "", "an entry without the field"


def test_what_is_not_there(server: Server, filled: ChannelKeys) -> None:
    for path in (
        "feeds/4.json",
        "feeds/x.json",
        "feeds/0",
        "fields/9.json",
        "fields/3/last",
        "fields/x/1",
        "feeds/" + "9" * 30,
    ):
        answer = read(server, filled, path)
        assert answer.status == 404, path
        assert b"error_resource_not_found" in answer.body
    assert read(server, filled, "feeds/4.xml").body.startswith(b"<?xml")
    assert read(server, filled, "feeds/4.txt").body == b"error_resource_not_found"


def test_ages(server: Server, channel: ChannelKeys) -> None:
    assert read(server, channel, "feeds/last_data_age.json").status == 404
    update(server, channel, field1="1")
    for path in ("feeds/last_data_age", "fields/1/last_data_age"):
        answer = read(server, channel, f"{path}.json").json()
        assert list(answer) == ["last_data_age", "last_data_age_units"]
        assert 0 <= int(answer["last_data_age"]) < 60
        assert answer["last_data_age_units"] == "s"
        assert int(body(server, channel, path)) == int(body(server, channel, f"{path}.txt")) < 60
        assert body(server, channel, f"{path}.csv").startswith("last_data_age,last_data_age_units\n")
    assert read(server, channel, "fields/2/last_data_age.json").status == 404


def test_statuses(server: Server, filled: ChannelKeys) -> None:
    answer = read(server, filled, "status.json", start="2026-01-01 00:00:00").json()
    assert list(answer["channel"]) == ["name", "latitude", "longitude"]
    assert [entry["status"] for entry in answer["feeds"]] == ["one", None, None]
    assert read(server, filled, "status.json").json()["feeds"] == [], "of the last day"
    assert list(read(server, filled, "status/last.json").json()) == ["created_at", "entry_id", "status"]


def test_numbers_outside_of_min_and_max(server: Server, filled: ChannelKeys) -> None:
    def ids(**query: object) -> list[int]:
        return [entry["entry_id"] for entry in read(server, filled, "feeds.json", **query).json()["feeds"]]

    assert ids(min=2) == [2, 3], "field1 of the first entry is below"
    assert ids(min=1, max=50) == [1, 2]
    assert ids(max="x") == [1, 2, 3]


def test_aggregation(server: Server, filled: ChannelKeys) -> None:
    def rows(**query: object) -> list[dict[str, object]]:
        found: list[dict[str, object]] = read(server, filled, "feeds.json", **query).json()["feeds"]
        return found

    hour = "2026-01-02T03:00:00Z"
    assert rows(sum=60) == [{"created_at": hour, "field1": "1.25", "field2": "90.0"}]
    assert rows(average=60, round=2) == [{"created_at": hour, "field1": "0.42", "field2": "30.00"}]
    assert rows(median=60) == [{"created_at": hour, "field1": "1.25", "field2": "20.0"}]
    assert [row["field2"] for row in rows(timescale=30)] == ["10", "60"]
    assert [row["field2"] for row in rows(sum=10)] == ["10.0", None, "20.0", None, "60.0"]
    assert rows(sum=60, results=1) == [{"created_at": hour, "field1": None, "field2": "60.0"}], "results come first"
    assert body(server, filled, "fields/2.csv", sum="daily") == "created_at,field2\n2026-01-02 00:00:00 UTC,90.0\n"


def test_rounding(server: Server, filled: ChannelKeys) -> None:
    feeds = read(server, filled, "feeds.json", round=1).json()["feeds"]
    assert [entry["field1"] for entry in feeds] == ["1.2", "on", None]


def test_entry_ids_as_a_range(server: Server, filled: ChannelKeys) -> None:
    update(server, filled, field1="late", created_at="2026-01-02T03:10:00Z")

    def ids(**query: object) -> list[int]:
        return [entry["entry_id"] for entry in read(server, filled, "feeds.json", **query).json()["feeds"]]

    assert ids(start_entry_id=2) == [4, 2, 3], "in the order of their times"
    assert ids(start_entry_id=2, end_entry_id=3) == [2, 3]
    assert ids(end_entry_id=2, results=1) == [2]
    assert ids(start_entry_id=9) == []
    assert body(server, filled, "fields/1/4") == "late"


def test_json_for_other_pages(server: Server, filled: ChannelKeys) -> None:
    answer = read(server, filled, "feeds/last.json", callback="show.it")
    assert (
        answer.headers["Content-Type"] == "application/javascript; charset=utf-8"
        or answer.headers["Content-Type"] == "application/javascript"
    )
    assert answer.body.startswith(b'show.it({"created_at":')
    assert answer.body.endswith(b"})")
    for callback in ("alert(1)//", "<script>", "a" * 200, ""):
        assert read(server, filled, "feeds/last.json", callback=callback).body.startswith(b'{"created_at":')


@pytest.mark.parametrize(
    "path",
    ["feeds.xml", "feeds.csv", "feeds/last", "feeds/1.txt", "fields/1/last", "status.json", "feeds/last_data_age.json"],
)
def test_refused(server: Server, filled: ChannelKeys, path: str) -> None:
    for query in ({}, {"api_key": "0123456789ABCDEF"}):
        answer = server.call("GET", f"/channels/{filled.id}/{path}", **query)
        assert (answer.status, answer.body) == (400, b"-1")
    assert server.call("GET", f"/channels/99999999/{path}").status == 404


def test_charts_for_other_sites(server: Server, filled: ChannelKeys) -> None:
    path = f"/channels/{filled.id}/charts/2"
    answer = server.call("GET", path, api_key=filled.read_key, results=2, title="<b>")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert answer.body.count(b"<circle") == 2
    assert b"&lt;b&gt;" in answer.body
    assert "X-Frame-Options" not in answer.headers
    assert "script-src" not in answer.headers["Content-Security-Policy"]
    assert server.call("GET", path).status == 400
    assert server.call("GET", f"/channels/{filled.id}/charts/9", api_key=filled.read_key).status == 404
