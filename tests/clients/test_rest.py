"""ThingSpeak's REST API on a real server, down to the bytes."""

from __future__ import annotations

import json
import re
import urllib.parse

import pytest

from server import ADMIN_TOKEN, ChannelKeys, Server

ISO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def update(server: Server, channel: ChannelKeys, **fields: object) -> bytes:
    answer = server.call("POST", "/update", urllib.parse.urlencode({"api_key": channel.write_key, **fields}))
    assert answer.status == 200
    return answer.body


class TestWireForm:
    """Rules 1, 4, 5, 7, 9: what the official Arduino library and its kin search for, on raw bytes."""

    def request(self, channel: ChannelKeys, target: str = "/update", body: bytes = b"field1=5&headers=false") -> bytes:
        return (
            f"POST {target} HTTP/1.1\r\nHost: api.thingspeak.com\r\nUser-Agent: tslib-arduino/2.0\r\n"
            f"X-THINGSPEAKAPIKEY: {channel.write_key}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body

    def test_update(self, server: Server, channel: ChannelKeys) -> None:
        answer = server.raw_call(self.request(channel))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nContent-Length: 1\r\n" in head + b"\r\n"
        assert b"\r\nContent-Type: text/plain" in head
        assert b"Transfer-Encoding" not in head
        assert body == b"1"

    def test_every_header_name_is_in_title_case(self, server: Server, channel: ChannelKeys) -> None:
        for target in ("/update", "/update.json", "/no/such/page", "/sign-in", f"/channels/{channel.id}/feeds.json"):
            head = server.raw_call(self.request(channel, target)).partition(b"\r\n\r\n")[0]
            names = [line.split(b":")[0].decode() for line in head.split(b"\r\n")[1:]]
            assert "Content-Length" in names, (target, names)
            for name in names:
                assert name == "-".join(part.capitalize() for part in name.split("-")), (target, name)

    def test_refused_requests_are_spelled_so_too(self, server: Server) -> None:
        head = server.raw_call(b"this is not HTTP\r\n\r\n").partition(b"\r\n\r\n")[0]
        assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b"\r\nContent-Length: " in head
        assert b"\r\nContent-Type: " in head

    def test_http_1_0(self, server: Server, channel: ChannelKeys) -> None:
        answer = server.raw_call(f"GET /update?api_key={channel.write_key}&field1=1 HTTP/1.0\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"\r\n\r\n1")

    def test_answers_are_compact_json(self, server: Server, channel: ChannelKeys) -> None:
        update(server, channel, field1="5", lat="1.5")
        body = server.call(
            "GET", f"/channels/{channel.id}/feeds/last.json", api_key=channel.read_key, location="true"
        ).body
        assert b'"field1":"5"' in body
        assert b'"latitude":"1.5"' in body
        assert b'"created_at":"20' in body

    def test_cors(self, server: Server, channel: ChannelKeys) -> None:
        for method, path in (("OPTIONS", "/update"), ("OPTIONS", "/channels/1/feeds.json"), ("GET", "/update")):
            headers = server.call(method, path).headers
            assert headers["Access-Control-Allow-Origin"] == "*"
            assert headers["Access-Control-Allow-Methods"] == "GET, POST, PUT, OPTIONS, DELETE, PATCH"
            assert headers["Access-Control-Allow-Headers"] == "origin, content-type, X-Requested-With"
            assert headers["Access-Control-Max-Age"] == "1800"

    @pytest.mark.parametrize("path", ["/", "/talkbacks/4/commands/6", "/channels", "/no/such/path/at/all.json"])
    def test_options_on_any_path(self, server: Server, path: str) -> None:
        answer = server.call("OPTIONS", path, headers={"Origin": "http://example.org"})
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in answer.headers, "nobody's cookies come along"
        assert "Access-Control-Allow-Origin" not in server.call("GET", "/sign-in").headers

    def test_options_and_sniffing_on_every_path(self, server: Server, channel: ChannelKeys) -> None:
        below = f"/channels/{channel.id}"
        reads = ("feeds.json", "feed.json", "feeds/last.json", "fields/1.json", "field/field1.json")
        for path in ("/update", "/update.json", "/channels.json", f"{below}.json", *(f"{below}/{r}" for r in reads)):
            answer = server.call("OPTIONS", path)
            assert (answer.status, answer.body) == (200, b"")
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            for method in ("OPTIONS", "GET", "POST", "DELETE"):
                assert server.call(method, path).headers["X-Content-Type-Options"] == "nosniff"


class TestUpdate:
    @pytest.mark.parametrize(
        ("method", "where", "how"),
        [
            ("GET", "query", "api_key"),
            ("POST", "query", "api_key"),
            ("POST", "body", "api_key"),
            ("POST", "body", "key"),
            ("POST", "body", "THINGSPEAKAPIKEY"),
            ("POST", "query", "x-thingspeakapikey"),
            ("POST", "json", "api_key"),
            ("POST", "odd", "api_key"),
        ],
    )
    def test_wherever_clients_put_things(
        self, server: Server, channel: ChannelKeys, method: str, where: str, how: str
    ) -> None:
        headers, parameters = {}, {"field1": "21.5"}
        if "THINGSPEAK" in how.upper():
            headers[how] = channel.write_key
        else:
            parameters[how] = channel.write_key
        form = urllib.parse.urlencode(parameters)
        if where == "query":
            answer = server.call(method, f"/update?{form}", headers=headers)
        elif where == "json":
            answer = server.call(method, "/update", json.dumps(parameters), {"Content-Type": "application/json"})
        else:
            kind = "text/html" if where == "odd" else "application/x-www-form-urlencoded"
            answer = server.call(method, "/update", form, headers | {"Content-Type": kind})
        assert (answer.status, answer.body) == (200, b"1")
        assert [entry["field1"] for entry in server.feeds(channel)] == ["21.5"]

    @pytest.mark.parametrize("path", ["/update", "/update.json"])
    def test_head_writes_nothing(self, server: Server, channel: ChannelKeys, path: str) -> None:
        answer = server.call("HEAD", path, api_key=channel.write_key, field1="1")
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, POST")
        assert server.feeds(channel) == []

    @pytest.mark.parametrize("scheme", ["Token", "Bearer", "bearer"])
    def test_key_in_the_authorization_header(self, server: Server, channel: ChannelKeys, scheme: str) -> None:
        def headers(key: str) -> dict[str, str]:
            return {"Authorization": f"{scheme} {key}"}

        assert server.call("POST", "/update", "field1=1", headers(channel.write_key)).body == b"1"
        feeds = server.call("GET", f"/channels/{channel.id}/feeds.json", headers=headers(channel.read_key))
        assert feeds.json()["feeds"][0]["field1"] == "1"
        assert server.call("POST", "/channels.json", "name=n", headers(ADMIN_TOKEN)).status == 200
        first = server.call("POST", "/update", "field1=2", headers(channel.write_key), api_key="WRONG")
        assert first.body == b"0", "key parameters come first"

    def test_json_answer_has_production_order(self, server: Server, channel: ChannelKeys) -> None:
        answer = server.call("POST", "/update.json", api_key=channel.write_key, field1="1", status="ok", long="7")
        created_at = answer.json()["created_at"]
        nulls = "".join(f'"field{n}":null,' for n in range(2, 9))
        assert answer.body.decode() == (
            f'{{"channel_id":{channel.id},"created_at":"{created_at}","entry_id":1,"field1":"1",{nulls}'
            '"latitude":null,"longitude":"7","elevation":null,"status":"ok"}'
        )
        assert ISO_TIME.fullmatch(created_at)

    def test_json_numbers_are_echoed_as_numbers_and_read_as_text(self, server: Server, channel: ChannelKeys) -> None:
        body = f'{{"api_key":"{channel.write_key}","field1":21.50,"field2":"7"}}'
        answer = server.call("POST", "/update.json", body, {"Content-Type": "application/json"})
        assert b'"field1":21.50,"field2":"7"' in answer.body
        assert server.feeds(channel)[0]["field1"] == "21.50"

    @pytest.mark.parametrize(
        "text", ["nan", "INF", "-INF", "on", "", "1,5", "0x10", "1e3", "-0", "007", "+5 °C", "a&b"]
    )
    def test_texts_come_back_as_they_were(self, server: Server, channel: ChannelKeys, text: str) -> None:
        update(server, channel, field1=text)
        assert server.feeds(channel)[0]["field1"] == text

    def test_no_field_at_all_is_an_entry(self, server: Server, channel: ChannelKeys) -> None:
        assert update(server, channel) == b"1"
        assert server.feeds(channel)[0]["field1"] is None

    @pytest.mark.parametrize("path", ["/update", "/update.json"])
    @pytest.mark.parametrize("key", ["wrong", "read", "none"])
    def test_refused_key(self, server: Server, channel: ChannelKeys, path: str, key: str) -> None:
        keys = {"wrong": "0123456789ABCDEF", "read": channel.read_key}
        query = {"api_key": keys[key]} if key in keys else {}
        answer = server.call("POST", path, "field1=1", **query)
        assert (answer.status, answer.body) == (400, b"0")

    def test_created_at(self, server: Server, channel: ChannelKeys) -> None:
        update(server, channel, field1="a", created_at="2026-01-02T03:04:05Z")
        update(server, channel, field1="b", created_at="2026-01-02 05:04:05", timezone="Europe/Berlin")
        update(server, channel, field1="c", created_at="2026-01-02T05:04:05+00:00")
        assert [(entry["field1"], entry["created_at"]) for entry in server.feeds(channel)] == [
            ("a", "2026-01-02T03:04:05Z"),
            ("b", "2026-01-02T04:04:05Z"),
            ("c", "2026-01-02T05:04:05Z"),
        ]

    def test_a_time_that_cannot_be_read_is_the_time_of_receipt(self, server: Server, channel: ChannelKeys) -> None:
        update(server, channel, field1="a", created_at="yesterday")
        assert len(server.feeds(channel, minutes=5)) == 1

    def test_a_time_that_is_taken_is_a_conflict(self, server: Server, channel: ChannelKeys) -> None:
        update(server, channel, field1="a", created_at="2026-01-02T03:04:05Z")
        query = {"api_key": channel.write_key, "created_at": "2026-01-02T03:04:05Z"}
        answer = server.call("POST", "/update", **query)
        assert (answer.status, answer.body) == (409, b"0")
        assert server.call("POST", "/update.json", **query).json()["error"]["error_code"] == "error_conflict"
        update(server, channel, field1="c", created_at="2026-01-02T03:04:04Z")
        assert [entry["field1"] for entry in server.feeds(channel)] == ["c", "a"]


class TestReads:
    def test_window_and_limit(self, server: Server, channel: ChannelKeys) -> None:
        for n in range(5):
            update(server, channel, field1=n, created_at=f"2026-01-0{n + 1}T00:00:00Z")

        def read(**query: object) -> list[str]:
            return [entry["field1"] for entry in server.feeds(channel, **query)]

        assert read() == ["0", "1", "2", "3", "4"]
        assert read(results=2) == ["3", "4"]
        assert read(results=0) == []
        assert read(start="2026-01-02 00:00:00", end="2026-01-04 00:00:00") == ["1", "2", "3"]
        assert read(start="2026-01-02 00:00:00", results=1) == ["4"]
        assert read(start="2026-01-02 01:00:00", timezone="Europe/Berlin") == ["1", "2", "3", "4"]
        assert read(days=1) == []

    def test_zone_of_the_answer(self, server: Server, channel: ChannelKeys) -> None:
        update(server, channel, field1=1, created_at="2026-01-02T03:04:05Z")
        assert server.feeds(channel, timezone="Asia/Kolkata")[0]["created_at"] == "2026-01-02T08:34:05+05:30"
        assert server.feeds(channel, offset="-5")[0]["created_at"] == "2026-01-01T22:04:05-05:00"
        assert server.feeds(channel, timezone="No/Where")[0]["created_at"] in (
            "2026-01-02T03:04:05Z",
            "2026-01-02T03:04:05+00:00",
        )

    def test_one_field(self, server: Server, channel: ChannelKeys) -> None:
        update(server, channel, field1="1", field2="2")
        for path in (f"/channels/{channel.id}/fields/2.json", f"/channels/{channel.id}/field/field2.json"):
            answer = server.call("GET", path, api_key=channel.read_key).json()
            assert answer["channel"]["field1"] == "Temp"
            assert [list(entry) for entry in answer["feeds"]] == [["created_at", "entry_id", "field2"]]

    def test_last(self, server: Server, channel: ChannelKeys) -> None:
        path = f"/channels/{channel.id}/feeds/last.json"
        assert server.call("GET", path, api_key=channel.read_key).status == 404
        update(server, channel, field1="1")
        update(server, channel, field2="2", status="s")
        entry = server.call("GET", path, api_key=channel.write_key, status="true").json()
        assert list(entry) == ["created_at", "entry_id", "field1", "field2", "status"]
        assert (entry["entry_id"], entry["field1"], entry["field2"], entry["status"]) == (2, None, "2", "s")

    @pytest.mark.parametrize("read", ["feeds.json", "feed.json", "fields/1.json", "feeds/last.json"])
    def test_refused_reads(self, server: Server, channel: ChannelKeys, read: str) -> None:
        other = server.create_channel()
        for query in ({}, {"api_key": "0123456789ABCDEF"}, {"api_key": other.write_key}, {"api_key": other.read_key}):
            answer = server.call("GET", f"/channels/{channel.id}/{read}", **query)
            assert (answer.status, answer.body) == (400, b"-1")
        unknown = server.call("GET", f"/channels/99999999/{read}", api_key=channel.read_key)
        assert (unknown.status, unknown.json()["error"]["error_code"]) == (404, "error_resource_not_found")

    def test_public_channels_need_no_key(self, server: Server) -> None:
        channel = server.create_channel(public_flag="true")
        update(server, channel, field1=1)
        assert server.call("GET", f"/channels/{channel.id}/feeds.json").status == 200


class TestChannels:
    def test_needs_the_user_key(self, server: Server, channel: ChannelKeys) -> None:
        for key in ("", "0123456789ABCDEF", channel.write_key):
            answer = server.call("POST", "/channels.json", f"api_key={key}&name=x")
            assert answer.status == 401
            assert answer.json()["status"] == "401"
            assert answer.json()["error"]["error_code"] == "error_auth_required"

    def test_keys_are_shown_to_the_owner_only(self, server: Server, channel: ChannelKeys) -> None:
        path = f"/channels/{channel.id}.json"
        assert len(server.call("GET", path, api_key=ADMIN_TOKEN).json()["api_keys"]) == 2
        for key in (channel.read_key, channel.write_key):
            answer = server.call("GET", path, api_key=key)
            assert answer.status == 200
            assert "api_keys" not in answer.json()
        assert server.call("GET", path).status == 401

    def test_wrong_method(self, server: Server, channel: ChannelKeys) -> None:
        answer = server.call("PATCH", f"/channels/{channel.id}/feeds.json")
        assert answer.status == 405
        assert answer.json()["error"]["error_code"] == "error_method_invalid"
        assert answer.headers["Allow"] == "GET, HEAD, DELETE"

    def test_head_of_a_read(self, server: Server, channel: ChannelKeys) -> None:
        answer = server.call("HEAD", f"/channels/{channel.id}/feeds.json", api_key=channel.read_key)
        assert (answer.status, answer.body) == (200, b"")
        assert int(answer.headers["Content-Length"]) > 0

    @pytest.mark.parametrize("channel_id", ["9" * 5_000, "9" * 19, "99999999", "x", "1x", "\u0661"])
    @pytest.mark.parametrize("rest", ["", "/feeds", "/feeds/last", "/fields/1"])
    def test_ids_that_no_channel_has(self, server: Server, channel_id: str, rest: str) -> None:
        answer = server.call("GET", f"/channels/{urllib.parse.quote(channel_id)}{rest}.json")
        assert answer.status == 404
        assert answer.json()["error"]["error_code"] == "error_resource_not_found"


def test_the_ca_certificate_is_saved_under_the_name_that_examples_use(server: Server) -> None:
    assert server.call("GET", "/ca.crt").headers["Content-Disposition"] == 'attachment; filename="ca.crt"'
