"""PyPI's `thingspeak`, unmodified: all of it, and Home Assistant's use of it, which knows one address only."""

from __future__ import annotations

import importlib
import json
import re
import socket
import sys
import types
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import thingspeak

from server import ChannelKeys, Server, running_server


def client(server: Server, channel: ChannelKeys, key: str | None, fmt: str = "json") -> thingspeak.Channel:
    return thingspeak.Channel(channel.id, api_key=key, fmt=fmt, timeout=5, server_url=server.url)


@pytest.fixture
def filled(server: Server, channel: ChannelKeys) -> ChannelKeys:
    """Two entries, written with the library."""
    writer = client(server, channel, channel.write_key)
    assert json.loads(writer.update({"field1": "9.2", "field2": 1000}))["entry_id"] == 1
    assert json.loads(writer.update({"field1": "25.0", "created_at": "2026-01-02T03:04:05Z"}))["entry_id"] == 2
    return channel


class TestJson:
    def test_update_answers_the_entry(self, server: Server, channel: ChannelKeys) -> None:
        answer = client(server, channel, channel.write_key).update({"field1": 1, "status": "a b&c"})
        nulls = "".join(f'"field{number}":null,' for number in range(2, 9))
        assert re.sub(r"\d{4}-[0-9T:-]+Z", "TIME", answer) == (
            f'{{"channel_id":{channel.id},"created_at":"TIME","entry_id":1,"field1":"1",{nulls}'
            '"latitude":null,"longitude":null,"elevation":null,"status":"a b&c"}'
        )

    @pytest.mark.parametrize("key", ["read_key", "write_key"])
    def test_get(self, server: Server, filled: ChannelKeys, key: str) -> None:
        reader = client(server, filled, getattr(filled, key))
        feed = json.loads(reader.get())
        assert [entry["field1"] for entry in feed["feeds"]] == ["25.0", "9.2"]
        assert feed["channel"]["last_entry_id"] == 2
        assert [entry["entry_id"] for entry in json.loads(reader.get({"results": 1}))["feeds"]] == [1]

    def test_get_field(self, server: Server, filled: ChannelKeys) -> None:
        feed = json.loads(client(server, filled, filled.read_key).get_field(2, {"results": 2}))
        assert [entry["field2"] for entry in feed["feeds"]] == [None, "1000"]

    def test_get_field_last(self, server: Server, filled: ChannelKeys) -> None:
        last = json.loads(client(server, filled, filled.read_key).get_field_last(2))
        assert (last["entry_id"], last["field2"]) == (1, "1000")

    def test_get_last_data_age(self, server: Server, filled: ChannelKeys) -> None:
        age = json.loads(client(server, filled, filled.read_key).get_last_data_age(1))
        assert (age["last_data_age_units"], int(age["last_data_age"]) < 60) == ("s", True)

    def test_view(self, server: Server, filled: ChannelKeys) -> None:
        shown = json.loads(client(server, filled, filled.read_key).view())
        assert (shown["id"], shown["name"], shown["last_entry_id"]) == (filled.id, "n", 2)


class TestXml:
    def test_all_calls(self, server: Server, filled: ChannelKeys) -> None:
        one = client(server, filled, filled.write_key, "xml")
        assert ET.fromstring(one.update({"field1": 3})).findtext("entry-id") == "3"
        feed = ET.fromstring(one.get({"results": 2}))
        assert [found.findtext("field1") for found in feed.iter("feed")] == ["9.2", "3"]
        assert ET.fromstring(one.get_field(1)).findtext("id") == str(filled.id)
        assert ET.fromstring(one.get_field_last(2)).findtext("field2") == "1000"
        assert ET.fromstring(one.get_last_data_age(1)).findtext("last-data-age-units") == "s"
        assert ET.fromstring(one.view()).findtext("name") == "n"


class TestText:
    """Any other format asks for paths without an extension."""

    def test_all_calls(self, server: Server, filled: ChannelKeys) -> None:
        one = client(server, filled, filled.write_key, "txt")
        assert one.update({"field1": 3}) == "3"
        assert json.loads(one.get())["channel"]["id"] == filled.id
        assert json.loads(one.get_field(1))["channel"]["id"] == filled.id
        assert one.get_field_last(2) == "1000"
        assert int(one.get_last_data_age(1)) < 60
        assert one.view().startswith("<!doctype html>"), "a page, as upstream"


class TestRefused:
    def test_without_a_key_the_library_sends_nothing(self, server: Server, channel: ChannelKeys) -> None:
        with pytest.raises(ValueError, match="Missing api_key"):
            client(server, channel, None).update({"field1": 1})

    @pytest.mark.parametrize("key", [None, "wrong_key"])
    def test_a_private_channel(self, server: Server, filled: ChannelKeys, key: str | None) -> None:
        one = client(server, filled, key)
        for call in (one.get, lambda: one.get_field(1), lambda: one.get_field_last(1)):
            with pytest.raises(requests.HTTPError) as refused:
                call()
            assert refused.value.response.status_code == 400
            assert refused.value.response.text == "-1"

    def test_a_public_channel_needs_no_key(self, server: Server) -> None:
        channel = server.create_channel(public_flag="true")
        for key in (None, "any"):
            assert json.loads(client(server, channel, key).get())["feeds"] == []

    def test_writing_with_the_read_key(self, server: Server, channel: ChannelKeys) -> None:
        with pytest.raises(requests.HTTPError) as refused:
            client(server, channel, channel.read_key).update({"field1": 1})
        assert (refused.value.response.status_code, refused.value.response.text) == (400, "0")

    def test_a_channel_that_is_not_there(self, server: Server, channel: ChannelKeys) -> None:
        with pytest.raises(requests.HTTPError) as refused:
            client(server, channel._replace(id=99_999_999), channel.read_key).get()
        assert refused.value.response.status_code == 404


@pytest.fixture(scope="module")
def named_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("named") / "data"
    with running_server(data, HEADWATER_TLS_HOST_NAMES="api.thingspeak.com") as running:
        yield running


@pytest.fixture
def named(named_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server that api.thingspeak.com resolves to, port 443 too."""
    original = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *rest: Any, **named_rest: Any) -> Any:
        if (host, port) == ("api.thingspeak.com", 443):
            host, port = "127.0.0.1", named_server.https_port
        return original(host, port, *rest, **named_rest)

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(named_server.ca_path))
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return named_server


class TestUnderTheNameOfThingSpeak:
    """As when a router resolves api.thingspeak.com to Headwater: the library's own address, by HTTPS."""

    def test_home_assistant(self, named: Server) -> None:
        """It reads the feed when it starts, with the write key and a time-out of 5 s, and ends if that fails; then it
        updates field1 whenever the state of an entity changes."""
        keys = named.create_channel()
        channel = thingspeak.Channel(keys.id, api_key=keys.write_key, timeout=5)
        channel.get()
        for state in (21.5, 0, 1.0):
            channel.update({"field1": state})
        assert [entry["field1"] for entry in named.feeds(keys)] == ["21.5", "0", "1.0"]
        with pytest.raises(requests.RequestException):
            thingspeak.Channel(keys.id, api_key="wrong", timeout=5).get()

    @pytest.mark.filterwarnings("ignore::ResourceWarning")  # the tool leaves its file of settings open
    def test_the_command_line_tool(
        self, named: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        keys = named.create_channel()
        packages = types.ModuleType("pkg_resources")  # the tool asks it for its version; new Pythons bring none
        packages.get_distribution = lambda name: types.SimpleNamespace(version="1.0.0")  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "pkg_resources", packages)
        tool = importlib.import_module("thingspeak.cmdline")

        def run(*arguments: str) -> Any:
            monkeypatch.setattr(sys, "argv", ["thingspeak", "-q", *arguments])
            tool.main()
            return capsys.readouterr().out

        written = run(f"--api-key={keys.write_key}", str(keys.id), "field1", "21.5", "field2", "60")
        entry, shown = (json.loads(line) for line in written.splitlines())
        assert (entry["field1"], entry["field2"], shown["last_entry_id"]) == ("21.5", "60", 1)
        read = json.loads(run(f"--api-key={keys.read_key}", "-r", "5", str(keys.id)))
        assert [one["field1"] for one in read["feeds"]] == ["21.5"]
        config = tmp_path / "thingspeak.json"
        config.write_text(json.dumps({"--api-key": keys.read_key}))
        assert json.loads(run("-c", str(config), str(keys.id)))["id"] == keys.id
