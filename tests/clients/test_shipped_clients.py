"""Requests to the byte as shipped clients send them, and whether what comes back is what each of them needs.

The clients that can be run are: PyPI's and npm's libraries, paho, mosquitto, MQTT.js; the Arduino library and Tasmota
have files of their own. Here are those that cannot.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import socket
import ssl
import urllib.parse
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

import pytest

from mqtt_client import MqttClient, Route
from server import ADMIN_TOKEN, ChannelKeys, Credentials, Server, wait_until

Connect = Callable[..., MqttClient]


class Got(NamedTuple):
    """An answer on a connection that the client may keep."""

    head: str
    body: str

    @property
    def status(self) -> int:
        return int(self.head.split(" ")[1])


def send(server: Server, request: str, *, tls: bool = False) -> Got:
    port = server.https_port if tls else server.http_port
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        context = ssl.create_default_context(cafile=server.ca_path)
        client = context.wrap_socket(plain, server_hostname="localhost") if tls else plain
        with client:
            client.sendall(request.encode())
            got = b""
            while b"\r\n\r\n" not in got:
                got += client.recv(65_536)
            head, _, body = got.partition(b"\r\n\r\n")
            length = re.search(rb"^Content-Length: (\d+)\r?$", head, re.MULTILINE)
            assert length is not None, head
            while len(body) < int(length[1]):
                body += client.recv(65_536)
            return Got(head.decode(), body.decode())


def post(path: str, body: str, *headers: str) -> str:
    """A request with these headers and the length of its body, in the order given; `%d` is the length."""
    lines = [header % len(body.encode()) if "%d" in header else header for header in headers]
    return "\r\n".join([f"POST {path} HTTP/1.1", *lines, "", body])


FORM = "Content-Type: application/x-www-form-urlencoded"
LENGTH = "Content-Length: %d"
HOST = "Host: api.thingspeak.com"


class TestEspEasy:
    """Controller C004: any 1xx or 2xx is success, read from the status line; rules read `last.csv`."""

    def c004(self, api_key: str, rest: str, user: str = "") -> str:
        authorization = base64.b64encode(f"{user}:{api_key}".encode()).decode()
        return post(
            "/update",
            f"api_key={api_key}{rest}",
            HOST,
            "User-Agent: ESP Easy/20511/Nov 11 2023 12:00:00",
            "Accept-Encoding: identity;q=1,chunked;q=0.1,*;q=0",
            "Connection: close",
            f"Authorization: Basic {authorization}",
            "Accept: */*;q=0.1",
            FORM,
            LENGTH,
        )

    def test_values_begin_at_the_index_of_the_device(self, server: Server, channel: ChannelKeys) -> None:
        got = send(server, self.c004(channel.write_key, "&field1=21.50&field2=48.1", "ThingHTTP"))
        assert got.head.startswith("HTTP/1.1 2")
        assert [server.feeds(channel)[0][f"field{number}"] for number in (1, 2)] == ["21.50", "48.1"]

    def test_text_sensors_are_a_status(self, server: Server, channel: ChannelKeys) -> None:
        assert send(server, self.c004(channel.write_key, "&status=door is open, 2 min")).status == 200
        assert server.feeds(channel, status="true")[0]["status"] == "door is open, 2 min"

    def test_before_they_used_a_library(self, server: Server, channel: ChannelKeys) -> None:
        head = (LENGTH, HOST, "Accept: */*;q=0.1", FORM, "User-Agent: ESP Easy/20104/Apr 12 2019", "Connection: close")
        got = send(server, post("/update", f"api_key={channel.write_key}&field1=nan", *head))
        assert got.head.startswith("HTTP/1.1 2")
        assert server.feeds(channel)[0]["field1"] == "nan"

    def test_a_wrong_key_is_no_success(self, server: Server) -> None:
        assert send(server, self.c004("WRONG", "&field1=1")).head.startswith("HTTP/1.1 4")

    @pytest.mark.parametrize(("path", "values"), [("feeds", ["21.5", "60"]), ("fields/2", ["60"])])
    def test_rules_read_the_second_line(
        self, server: Server, channel: ChannelKeys, path: str, values: list[str]
    ) -> None:
        send(server, self.c004(channel.write_key, "&field1=21.5&field2=60"))
        request = f"GET /channels/{channel.id}/{path}/last.csv?api_key={channel.read_key} HTTP/1.1\r\n{HOST}\r\n\r\n"
        names, row = send(server, request).body.splitlines()
        assert names.startswith("created_at,entry_id,field")
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", row.split(",")[0])
        assert row.split(",")[1:] == ["1", *values]


class TestEspurna:
    """Its asynchronous client looks for the status line as it stands, an empty line, and a number that is not 0."""

    def code(self, got: Got) -> int:
        assert got.head.startswith("HTTP/1.1 200 OK")
        match = re.match(r"\d+", got.body)
        return int(match[0]) if match else 0

    def test_update(self, server: Server, channel: ChannelKeys) -> None:
        head = (HOST, "User-Agent: ESPurna", "Connection: close", FORM, LENGTH)
        request = post("/update", f"field1=1&field2=21.5&api_key={channel.write_key}", *head)
        assert self.code(send(server, request)) == 1
        assert self.code(send(server, request)) == 2
        assert server.feeds(channel)[1]["field2"] == "21.5"

    def test_the_key_in_the_address(self, server: Server, channel: ChannelKeys) -> None:
        head = (HOST, "User-Agent: ESPurna", "Connection: close", FORM, LENGTH)
        assert self.code(send(server, post(f"/update?api_key={channel.write_key}", "field1=1", *head))) == 1


class TestWeewx:
    """The extension asks with GET, a header for the key, and a time that ThingSpeak does not know; 0 is failure."""

    def test_update(self, server: Server, channel: ChannelKeys) -> None:
        query = "datetime=2020-01-02T03%3A04%3A05Z&field1=70.1&field2=48&field6=30.012"
        for key, answer in ((channel.write_key, (200, "1")), ("WRONG", (400, "0"))):
            request = (
                f"GET /update?{query} HTTP/1.1\r\nAccept-Encoding: identity\r\n{HOST}\r\nUser-Agent: weewx/4.10.2\r\n"
                f"Thingspeakapikey: {key}\r\nConnection: close\r\n\r\n"
            )
            got = send(server, request)
            assert (got.status, got.body) == answer
        (entry,) = server.feeds(channel, minutes=1)
        assert (entry["field1"], entry["field2"]) == ("70.1", "48")


class TestMqttwarn:
    """A sorted form over TLS; the body 0 is failure."""

    def test_update(self, server: Server, channel: ChannelKeys) -> None:
        body = urllib.parse.urlencode(sorted({"field2": "55 %", "api_key": channel.write_key, "field1": "1"}.items()))
        form = "Content-type: application/x-www-form-urlencoded"
        request = post("/update", body, HOST, "Accept-Encoding: identity", LENGTH, form)
        assert send(server, request, tls=True).body == "1"
        assert server.feeds(channel)[0]["field2"] == "55 %"


class TestQtoggle:
    """JSON with a time without a zone, which is UTC, and numbers; what comes back must call itself JSON, and be it."""

    def test_update(self, server: Server, channel: ChannelKeys) -> None:
        values = {"created_at": "2026-01-02 03:04:05", "field1": 21.5, "field2": True, "field3": None}
        agent = "User-Agent: Python/3.11 aiohttp/3.9.1"
        head = (HOST, "Accept: */*", "Accept-Encoding: gzip, deflate", agent, LENGTH, "Content-Type: application/json")
        got = send(server, post("/update.json", json.dumps({"api_key": channel.write_key, **values}), *head))
        assert 200 <= got.status < 300
        assert "\r\nContent-Type: application/json" in got.head
        assert json.loads(got.body)["field1"] == 21.5
        (entry,) = server.feeds(channel)
        assert (entry["created_at"], entry["field1"], entry["field2"]) == ("2026-01-02T03:04:05Z", "21.5", "true")


class TestParticleWebhooks:
    """Forms that the Particle cloud fills in for a device, and templates that it cuts answers with."""

    CREATE = ("description", "elevation", *(f"field{n}" for n in range(1, 9)), "latitude", "longitude", "name")
    OTHERS = ("public_flag", "tags", "url", "metadata")

    def webhook(self, server: Server, method: str, path: str, form: dict[str, str]) -> Got:
        body = urllib.parse.urlencode(form, quote_via=urllib.parse.quote)
        request = post(
            path, body, FORM, "User-Agent: ParticleBot/1.1 (https://docs.particle.io/webhooks)", HOST, LENGTH
        )
        return send(server, request.replace("POST", method, 1), tls=True)

    def test_a_station_sets_itself_up(self, server: Server) -> None:
        """What a device leaves out is empty in the form. `{"i":{{id}},"w":"{{api_keys.0.api_key}}", ...}`"""
        given = {
            "name": "Station",
            "field1": "Rain (mm)",
            "field2": "Wind",
            "tags": "weather,roof",
            "public_flag": "true",
        }
        form = {"api_key": ADMIN_TOKEN} | {name: given.get(name, "") for name in (*self.CREATE, *self.OTHERS)}
        made = self.webhook(server, "POST", "/channels.json", form)
        assert made.status == 200
        shape = json.loads(made.body)
        keys = ChannelKeys(shape["id"], shape["api_keys"][0]["api_key"], shape["api_keys"][1]["api_key"])
        assert (shape["latitude"], shape["longitude"], shape["elevation"]) == ("0.0", "0.0", None)

        for name, value in (("description", "On the roof"), ("field3", "Light"), ("latitude", "47.5"), ("tags", "sea")):
            changed = self.webhook(server, "PUT", f"/channels/{keys.id}.json", {"api_key": ADMIN_TOKEN, name: value})
            assert changed.status == 200
            assert json.loads(changed.body)["name"] == "Station", "what is not named stays"

        written = self.webhook(
            server,
            "POST",
            f"/channels/{keys.id}/bulk_update.csv",
            {
                "write_api_key": keys.write_key,
                "time_format": "absolute",
                "updates": "1767323045,0.2,12.5,,,,,,,,,,reset|1767323105,0.4,,1200,,,,,,47.5,8.5,400,",
            },
        )
        assert (written.status, json.loads(written.body)["success"]) == (202, True)
        first, second = server.feeds(keys, status="true", location="true")
        assert (first["created_at"], first["field2"], first["status"]) == ("2026-01-02T03:04:05Z", "12.5", "reset")
        assert (second["field2"], second["field3"], second["latitude"]) == (None, "1200", "47.5")
        assert second["status"] is None

    def test_a_wrong_key_is_told_apart(self, server: Server, channel: ChannelKeys) -> None:
        form = {"write_api_key": "WRONG", "time_format": "relative", "updates": "0,1"}
        got = self.webhook(server, "POST", f"/channels/{channel.id}/bulk_update.csv", form)
        assert (got.status, json.loads(got.body)["error"]["error_code"]) == (401, "error_auth_required")
        assert self.webhook(server, "POST", "/channels.json", {"api_key": "WRONG", "name": "x"}).status == 401


class TestJava:
    """thingspeak-java: HTTP 200, a body other than 0, JSON of these names, times of this one pattern, whole numbers for
    ids, and places that read as a number."""

    NUMBERS = ("latitude", "longitude", "elevation")

    @pytest.fixture
    def filled(self, server: Server) -> ChannelKeys:
        fields = {f"field{number}": f"Name {number}" for number in range(1, 9)}
        channel = server.create_channel("Java", description="d", **fields)
        parts = {f"field{number}": f"nonsense-data{number}" for number in range(1, 9)}
        parts |= {"lat": "0.0", "long": "0.0", "elevation": "0.0", "status": "unimportant status"}
        assert self.update(server, channel.write_key, parts | {"tweet": "irrelevant", "twitter": "nobody"}) == 1
        return channel

    def update(self, server: Server, key: str, parts: dict[str, str]) -> int:
        form = "Content-Type: application/x-www-form-urlencoded; charset=UTF-8"
        common = ("accept-encoding: gzip", f"X-THINGSPEAKAPIKEY: {key}", "user-agent: unirest-java/1.3.0")
        body = urllib.parse.urlencode(parts)
        kind = (form,) if parts else ()
        got = send(server, post("/update", body, *common, "Connection: close", LENGTH, *kind, HOST))
        if got.status != 200 or got.body == "0":
            raise PermissionError(got)
        return int(got.body)

    def get(self, server: Server, path: str, **options: object) -> Any:
        query = urllib.parse.urlencode(options)
        got = send(server, f"GET {path}?{query} HTTP/1.1\r\naccept-encoding: gzip\r\n{HOST}\r\n\r\n")
        assert got.status == 200, got
        found = json.loads(got.body)
        for one in (found.get("channel", {}), *found.get("feeds", []), *found.get("channels", []), found):
            self.check(one)
        return found

    def check(self, one: dict[str, Any]) -> None:
        for name in ("created_at", "updated_at"):
            if name in one:
                at = one[name]
                assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)", at), at
                datetime.fromisoformat(at)
        for name in ("id", "entry_id", "last_entry_id", "ranking"):
            assert isinstance(one.get(name), int | None), name
        for name in self.NUMBERS:
            assert one.get(name) is None or isinstance(float(one[name]), float), name

    def test_updates(self, server: Server, channel: ChannelKeys) -> None:
        assert self.update(server, channel.write_key, {}) == 1, "an entry without anything"
        at = "Fri Jan 02 03:04:05 UTC 2026"  # a Java date as it prints itself
        assert self.update(server, channel.write_key, {"field1": "1", "created_at": at}) == 2
        assert len(server.feeds(channel, minutes=1)) == 2
        with pytest.raises(PermissionError):
            self.update(server, "invalidChannelKey", {})

    def test_feeds(self, server: Server, filled: ChannelKeys) -> None:
        for path in ("feed.json", "field/1.json"):
            feed = self.get(
                server,
                f"/channels/{filled.id}/{path}",
                key=filled.read_key,
                format="json",
                status="true",
                location="true",
            )
            head, (entry,) = feed["channel"], feed["feeds"]
            assert head["id"] == filled.id
            assert all(
                head[name] for name in ("created_at", "description", "name", "updated_at", "last_entry_id", "field1")
            )
            assert entry["entry_id"] == head["last_entry_id"]
            assert entry["field1"] == "nonsense-data1"
            assert ("field2" in entry) is (path == "feed.json")
            assert entry["status"] == "unimportant status"
            assert [float(entry[name]) for name in self.NUMBERS] == [0.0, 0.0, 0.0]

    def test_last_entries(self, server: Server, filled: ChannelKeys) -> None:
        for path in ("feed/last.json", "field/1/last.json"):
            options = {"key": filled.read_key, "format": "json", "status": "true", "location": "true", "offset": "-8"}
            entry = self.get(server, f"/channels/{filled.id}/{path}", **options)
            assert entry["created_at"].endswith("-08:00")
            assert (entry["field1"], entry["status"]) == ("nonsense-data1", "unimportant status")
            assert [float(entry[name]) for name in self.NUMBERS] == [0.0, 0.0, 0.0]

    def test_a_probe_asks_for_no_entry(self, server: Server, filled: ChannelKeys) -> None:
        feed = self.get(server, f"/channels/{filled.id}/feed.json", key=filled.read_key, results="0")
        assert (feed["channel"]["last_entry_id"], feed["feeds"]) == (1, [])

    def test_statuses(self, server: Server, filled: ChannelKeys) -> None:
        self.update(server, filled.write_key, {"field1": "without a status"})
        feed = self.get(server, f"/channels/{filled.id}/status.json", key=filled.read_key, offset="-8")
        assert list(feed["channel"]) == ["name", "latitude", "longitude"]
        assert [entry["status"] for entry in feed["feeds"]] == ["unimportant status", None]
        assert all(list(entry) == ["created_at", "entry_id", "status"] for entry in feed["feeds"])

    def test_every_option_at_once(self, server: Server, filled: ChannelKeys) -> None:
        options = {"results": 10, "days": 2, "min": "-1.0", "max": "1.0E3", "round": 2, "median": 10, "offset": 0}
        feed = self.get(server, f"/channels/{filled.id}/feed.json", key=filled.read_key, format="json", **options)
        assert [entry["field1"] for entry in feed["feeds"]] == [None], "of no number there is no median"

    def test_public_channels(self, server: Server) -> None:
        tag = "thingspeak-java"
        for number in range(16):
            server.create_channel(f"public {number}", public_flag="true", tags=tag)
        pages = [self.get(server, "/channels/public.json", tag=tag, page=page) for page in (1, 2)]
        assert [len(page["channels"]) for page in pages] == [15, 1]
        assert [page["pagination"]["current_page"] for page in pages] == [1, 2]
        assert pages[0]["pagination"]["total_entries"] == 16
        assert pages[0]["channels"][0]["username"] == "admin"


class TestSketches:
    """What was copied most often from tutorials."""

    def test_an_esp8266_posts(self, server: Server, channel: ChannelKeys) -> None:
        """Lines that end in LF, a body that begins with the key alone, and line ends that count as its last value."""
        body = f"{channel.write_key}&field1=21.50&field2=60.00\r\n\r\n"
        request = (
            f"POST /update HTTP/1.1\n{HOST}\nConnection: close\nX-THINGSPEAKAPIKEY: {channel.write_key}\n"
            f"{FORM}\nContent-Length: {len(body)}\n\n{body}"
        )
        assert send(server, request).body == "1"
        (entry,) = server.feeds(channel)
        assert (entry["field1"], entry["field2"].strip()) == ("21.50", "60.00")
        assert server.feeds(channel, sum=60)[0]["field2"] == "60.0", "a number all the same"

    @pytest.mark.parametrize(
        "request_line",
        [
            "GET /update?api_key={key}&field1=22\r\n\r\n",
            "GET /update?key={key}&field1=22\r\n",
            "\r\nGET https://api.thingspeak.com/update?api_key={key}&field1=22\r\n",
        ],
        ids=["ESP-01", "ESP-01, one line", "SIM900"],
    )
    def test_a_modem_gets(self, server: Server, channel: ChannelKeys, request_line: str) -> None:
        assert send(server, request_line.format(key=channel.write_key)).body == "1"
        assert server.feeds(channel)[0]["field1"] == "22"


class TestTasmotaRules:
    """`WebSend [host] update?...` of a rule: a GET whose answer is looked at for its status only."""

    def test_update(self, server: Server, channel: ChannelKeys) -> None:
        request = (
            f"GET /update?api_key={channel.write_key}&field1=21.5 HTTP/1.1\r\n{HOST}:80\r\n"
            "User-Agent: Tasmota/13.1.0\r\nConnection: keep-alive\r\n"
            "Accept-Encoding: identity;q=1,chunked;q=0.1,*;q=0\r\n\r\n"
        )
        assert send(server, request).status == 200
        assert server.feeds(channel)[0]["field1"] == "21.5"


class TestMqttFirmware:
    """What cannot be run, by a client that sends the same packets."""

    def test_sparkfun_flux(self, server: Server, connect: Connect, prefix: str) -> None:
        """By TLS with the credentials of an MQTT device and QoS 0; devices with more values number on."""
        channel = server.create_channel()
        who = server.create_device([channel], name=prefix)
        flux = connect(who=who, route=Route(4, "tls"))
        payload = "&".join(f"field{number}={number}.5" for number in range(1, 12))
        flux.publish(f"channels/{channel.id}/publish", payload)
        wait_until(lambda: server.feeds(channel), what="the entry")
        assert [server.feeds(channel)[0][f"field{number}"] for number in (1, 2)] == ["1.5", "2.5"]
        assert flux.ends.empty(), "no answer, and no end"

    def test_wlanthermo(self, server: Server, connect: Connect) -> None:
        """Bare digits after an empty part, the write key in the topic, and nobody who signs in."""
        channel = server.create_channel(field8="Battery")
        grill = connect(who=Credentials("WLANTHERMO-82", "", ""))
        grill.publish(f"channels/{channel.id}/publish/{channel.write_key}", "&1=20.5&8=77")
        wait_until(lambda: server.feeds(channel), what="the entry")
        (entry,) = server.feeds(channel)
        assert (entry["field1"], entry["field2"], entry["field8"]) == ("20.5", None, "77")

    def test_values_that_are_not_encoded(self, server: Server, connect: Connect, prefix: str) -> None:
        """MicroPython's weather station writes sentences with spaces, colons and semicolons as a status."""
        channel = server.create_channel()
        board = connect(who=Credentials(prefix, "somebody", channel.write_key))
        text = "&field1=21.50&field2=1013.25&status=Pressure: rising; Forecast: fair; Accuracy: 94 percent"
        board.publish(f"channels/{channel.id}/publish/{channel.write_key}", text)
        wait_until(lambda: server.feeds(channel), what="the entry")
        (entry,) = server.feeds(channel, status="true")
        assert (entry["field1"], entry["status"]) == ("21.50", "Pressure: rising; Forecast: fair; Accuracy: 94 percent")


def test_csv_for_spreadsheets(server: Server, channel: ChannelKeys) -> None:
    """pandas and Grafana read the bare host's `/feed.csv` with a name for each column."""
    send(server, f"GET /update?api_key={channel.write_key}&field1=1&field2=a%2Cb HTTP/1.1\r\n{HOST}\r\n\r\n")
    path = f"/channels/{channel.id}/feed.csv?api_key={channel.read_key}"
    (row,) = csv.DictReader(io.StringIO(send(server, f"GET {path} HTTP/1.1\r\nHost: thingspeak.com\r\n\r\n").body))
    assert (row["entry_id"], row["field1"], row["field2"]) == ("1", "1", "a,b")
