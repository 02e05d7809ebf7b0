"""More than eight fields, fields by name, units and display names: over REST and MQTT, against a real server."""

from __future__ import annotations

import json
import urllib.parse
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mqtt_client import MqttClient
from server import ADMIN_TOKEN, ChannelKeys, Server, headwater, wait_until

Connect = Callable[..., MqttClient]


@pytest.fixture
def wide(server: Server) -> ChannelKeys:
    """A channel with the fields 1, 2, 9 and 12, which may be called by name."""
    return server.create_channel("wide", field9="rain/h", field12="Wind speed", fields_by_name="true")


def get(server: Server, channel: ChannelKeys, path: str, **query: object) -> Any:
    answer = server.call("GET", f"/channels/{channel.id}{path}", api_key=channel.read_key, **query)
    assert answer.status == 200, answer
    return answer.json() if answer.headers["Content-Type"] == "application/json" else answer.body.decode()


def put(server: Server, channel: ChannelKeys, **settings: object) -> Any:
    form = urllib.parse.urlencode({"api_key": ADMIN_TOKEN, **settings})
    answer = server.call("PUT", f"/channels/{channel.id}.json", form)
    assert answer.status == 200, answer
    return answer.json()


def test_updates_by_number_and_by_name(server: Server, wide: ChannelKeys) -> None:
    first = server.call("GET", "/update.json", api_key=wide.write_key, field9="0.5", Temp="21.50", field10="x")
    assert first.json()["field9"] == "0.5"
    assert list(first.json())[10:13] == ["field8", "field9", "field12"]
    body = json.dumps({"api_key": wide.write_key, "12": 7, "rain/h": 1.25, "Hum": "on"})
    second = server.call("POST", "/update.json", body, {"Content-Type": "application/json"})
    assert b'"field2":"on"' in second.body
    assert b'"field9":1.25,"field12":7,"latitude"' in second.body
    third = server.call("POST", "/update.xml", urllib.parse.urlencode({"api_key": wide.write_key, "Wind speed": "3"}))
    assert ET.fromstring(third.body).findtext("field12") == "3"
    feeds = get(server, wide, "/feeds.json")
    assert {name: feeds["channel"][name] for name in ("field9", "field12")} == {
        "field9": "rain/h",
        "field12": "Wind speed",
    }
    assert list(feeds["feeds"][0]) == ["created_at", "entry_id", "field1", "field2", "field9", "field12"]
    assert [one["field9"] for one in feeds["feeds"]] == ["0.5", "1.25", None]
    assert get(server, wide, "/feeds.csv").splitlines()[0] == "created_at,entry_id,field1,field2,field9,field12"
    assert "<field12>3</field12>" in get(server, wide, "/feeds.xml")
    assert get(server, wide, "/feeds/last.json")["field12"] == "3"


def test_reads_by_number_and_by_name(server: Server, wide: ChannelKeys) -> None:
    server.call("GET", "/update", api_key=wide.write_key, field9="0.5", field12="7", Temp="1")
    for name in ("12", "field12", "Wind%20speed"):
        assert get(server, wide, f"/fields/{name}/last") == "7"
        assert get(server, wide, f"/fields/{name}/last.json")["field12"] == "7"
        assert get(server, wide, f"/field/{name}.json")["feeds"][0]["field12"] == "7"
        assert get(server, wide, f"/fields/{name}/last_data_age").isdecimal()
        assert "<svg" in get(server, wide, f"/charts/{name}")
    assert get(server, wide, "/fields/rain%252Fh/last") == "0.5"  # a slash would be the path's, so it is encoded twice
    sums = get(server, wide, "/fields/9.json", sum=60)["feeds"]
    assert sums[-1]["field9"] == "0.5"
    for name in ("10", "field10", "wind%20speed", "0"):
        path = f"/channels/{wide.id}/fields/{name}/last.json"
        assert server.call("GET", path, api_key=wide.read_key).status == 404


def test_nobody_learns_the_fields_of_a_channel_without_its_key(server: Server, wide: ChannelKeys) -> None:
    for name in ("9", "10", "Temp", "nothing"):
        for path in (f"/fields/{name}", f"/fields/{name}/last", f"/fields/{name}/last_data_age", f"/charts/{name}"):
            answer = server.call("GET", f"/channels/{wide.id}{path}")
            assert (answer.status, answer.body) == (400, b"-1")


def test_a_channel_of_eight_ignores_what_it_does_not_have(server: Server, channel: ChannelKeys) -> None:
    answer = server.call("GET", "/update.json", api_key=channel.write_key, field1="1", field9="2", Temp="3")
    names = [*(f"field{number}" for number in range(1, 9)), "latitude", "longitude", "elevation", "status"]
    assert list(answer.json()) == ["channel_id", "created_at", "entry_id", *names]
    assert answer.json()["field1"] == "1"
    assert server.feeds(channel)[0].keys() == {"created_at", "entry_id", "field1", "field2"}
    assert get(server, channel, "/fields/Temp/last") == "1"  # reading by name is always possible


def test_bulk_updates(server: Server, wide: ChannelKeys) -> None:
    updates = [
        {"created_at": "2026-01-02T03:04:05Z", "field12": 5, "Temp": "21.50"},
        {"created_at": "2026-01-02T03:04:06Z", "rain/h": "0.1", "field10": "x", "status": "ok"},
    ]
    body = json.dumps({"write_api_key": wide.write_key, "updates": updates})
    assert server.call("POST", f"/channels/{wide.id}/bulk_update.json", body).status == 202
    first, second = server.feeds(wide, status="true")
    assert (first["field1"], first["field9"], first["field12"]) == ("21.50", None, "5")
    assert (second["field9"], second["status"]) == ("0.1", "ok")
    form = urllib.parse.urlencode(
        {"write_api_key": wide.write_key, "time_format": "absolute", "updates": "2026-01-02T03:04:07Z,1,,,,,,,8,47.5"}
    )
    assert server.call("POST", f"/channels/{wide.id}/bulk_update.csv", form).status == 202
    last = server.feeds(wide, location="true")[-1]
    assert (last["field1"], last["field9"], last["latitude"]) == ("1", None, "47.5")  # columns are eight as ever


def test_every_field_has_its_own_limit(server: Server, wide: ChannelKeys) -> None:
    most = "x" * 255
    good = {"api_key": wide.write_key, "field9": most, "Wind speed": most}
    assert server.call("POST", "/update", urllib.parse.urlencode(good)).status == 200
    too_long = {**good, "rain/h": most + "x"}
    assert server.call("POST", "/update", urllib.parse.urlencode(too_long)).status == 413


def test_units_and_names_as_settings(server: Server, channel: ChannelKeys) -> None:
    assert not {"units", "labels", "fields_by_name"} & put(server, channel, name="still plain").keys()
    shown = put(server, channel, field9="rain", unit1="°C", label9="Rain fall", unit9="mm", fields_by_name="true")
    assert (shown["units"], shown["labels"]) == ({"field1": "°C", "field9": "mm"}, {"field9": "Rain fall"})
    assert shown["fields_by_name"] is True
    assert "units" in server.call("GET", f"/channels/{channel.id}.json", api_key=ADMIN_TOKEN).json()
    assert "units" not in server.call("GET", f"/channels/{channel.id}.json", api_key=channel.read_key).json()
    assert "units" not in get(server, channel, "/feeds.json")["channel"]
    assert get(server, channel, "/feeds.json", metadata="true")["channel"]["units"] == {"field1": "°C", "field9": "mm"}
    page = get(server, channel, "/charts/9")
    assert "Rain fall (mm)" in page
    assert "Temp (°C)" in get(server, channel, "/charts/1")
    assert ">Hum<" in get(server, channel, "/charts/2")
    root = ET.fromstring(server.call("GET", f"/channels/{channel.id}.xml", api_key=ADMIN_TOKEN).body)
    assert root.findtext("units/field9") == "mm"
    shown = put(server, channel, field9="", unit1="")  # with a name its unit goes
    assert not {"units", "labels"} & shown.keys()
    wrong = server.call("PUT", f"/channels/{channel.id}.json", api_key=ADMIN_TOKEN, unit1="x" * 33)
    assert wrong.status == 400
    assert "unit1" in wrong.json()["error"]["details"]
    beyond = server.call("PUT", f"/channels/{channel.id}.json", api_key=ADMIN_TOKEN, field65="x")
    assert "1 to 64" in beyond.json()["error"]["details"]


def test_mqtt_publishes_and_what_subscribers_get(server: Server, wide: ChannelKeys, connect: Connect) -> None:
    base = f"channels/{wide.id}"
    everything, by_name, all_fields = connect(), connect(), connect()
    everything.subscribe(f"{base}/subscribe")
    by_name.subscribe(f"{base}/subscribe/fields/Wind speed")
    by_name.subscribe(f"{base}/subscribe/fields/rain%2Fh")
    all_fields.subscribe(f"{base}/subscribe/fields/+")
    sender = connect()
    sender.publish(f"{base}/publish", "Temp=21.5&field9=0.5&12=7&field10=x&unknown=y", qos=1)
    row = json.loads(everything.receive()[0].payload)
    assert (row["field1"], row["field9"], row["field12"]) == ("21.5", "0.5", "7")
    assert list(row)[10:14] == ["field8", "field9", "field12", "latitude"]
    names = [f"{base}/subscribe/fields/{name}" for name in ("field1", "field9", "field12", "Wind speed", "rain%2Fh")]
    got = all_fields.receive(3)
    assert {one.topic: one.payload for one in got} == dict(zip(names[:3], (b"21.5", b"0.5", b"7"), strict=True))
    got = by_name.receive(2)
    assert {one.topic: one.payload for one in got} == {names[3]: b"7", names[4]: b"0.5"}

    sender.publish(f"{base}/publish/fields/field12", "8", qos=1)
    sender.publish(f"{base}/publish/fields/Hum", "60", qos=1)
    sender.publish(f"{base}/publish/fields/rain%2Fh/{wide.write_key}", "1.5", qos=1)
    got = all_fields.receive(3)  # each once: what goes out by name does not reach a +
    assert [(one.topic[len(base) + 18 :], one.payload) for one in got] == [
        ("field12", b"8"),
        ("field2", b"60"),
        ("field9", b"1.5"),
    ]
    sender.publish(f"{base}/publish/fields/field10", "9", qos=1)
    sender.publish(f"{base}/publish/fields/nothing", "9", qos=1)
    assert [one["field12"] for one in server.feeds(wide)] == ["7", "8", None, None]


def test_what_a_channel_does_not_have_cannot_be_subscribed_to(
    server: Server, wide: ChannelKeys, connect: Connect
) -> None:
    one = connect()
    base = f"channels/{wide.id}/subscribe/fields"
    good = [f"{base}/field12", f"{base}/Temp", f"{base}/Temp/{wide.read_key}", f"{base}/Wind%20speed"]
    bad = [f"{base}/%57ind speed", f"{base}/field10", f"{base}/nothing", f"{base}/#", f"{base}/12"]
    assert [one.subscribe(name) < 0x80 for name in (*good, *bad)] == [True] * 4 + [False] * 5


def test_settings_count_at_once_for_who_is_connected(server: Server, channel: ChannelKeys, connect: Connect) -> None:
    sender, topic = connect(), f"channels/{channel.id}/publish"
    sender.publish(topic, "field1=1&field9=a&Temp=b", qos=1)
    put(server, channel, field9="rain", fields_by_name="true")
    sender.publish(topic, "field9=c&Temp=d", qos=1)
    put(server, channel, fields_by_name="false")
    sender.publish(topic, "field9=e&Temp=f", qos=1)
    wait_until(lambda: len(server.feeds(channel)) == 3)
    assert [(one["field1"], one["field9"]) for one in server.feeds(channel)] == [("1", None), ("d", "c"), (None, "e")]


def test_sql_and_files_have_them_too(server: Server, wide: ChannelKeys, tmp_path: Path) -> None:
    server.call("GET", "/update", api_key=wide.write_key, field9="0.5", field12="on")
    at = ("--data", server.data)
    select = f'SELECT field9, "field12.text" FROM "channel_{wide.id}"."entry"'
    assert headwater("query", select, *at) == '"field9","field12.text"\n0.5,"on"\n'
    path = tmp_path / "wide.csv"
    headwater("export", str(wide.id), str(path), *at)
    assert "field9" in path.read_text().splitlines()[0]
    other = server.create_channel("again", field9="a", field12="b")
    headwater("import", str(path), str(other.id), *at)
    assert server.feeds(other)[0]["field12"] == "on"
    rows = tmp_path / "feeds.csv"
    rows.write_text("created_at,entry_id,field9,field12\n2026-01-02 03:04:05 UTC,7,1.50,x\n")
    third = server.create_channel("third", field9="a", field12="b")
    headwater("import", str(rows), str(third.id), *at)
    assert (server.feeds(third)[0]["field9"], server.feeds(third)[0]["entry_id"]) == ("1.50", 7)
