"""`headwater import thingspeak`, with the real command line: a Headwater that stands for ThingSpeak, and one that gets
its channel."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from server import ChannelKeys, Server, running_server, wait_until

FIRST_S = 1_600_000_000
ENTRIES = 20_000
BULK = 9_999  # entries of one second stay together: those of another request with their time would be passed over


class Gate:
    """A proxy in front of a server: holds requests for what is later than some time, until it is opened."""

    def __init__(self, server: Server) -> None:
        self.targets: list[str] = []
        self.held = 0
        self.holds_after = ""
        self._opened = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.targets.append(self.path)
                start = urllib.parse.parse_qs(self.path.partition("?")[2]).get("start", [""])[0]
                if outer.holds_after and start > outer.holds_after:
                    outer.held += 1
                    outer._opened.wait(60)
                connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=30)
                key = self.headers.get("X-THINGSPEAKAPIKEY")
                connection.request("GET", self.path, headers={"X-THINGSPEAKAPIKEY": key} if key else {})
                answer = connection.getresponse()
                body = answer.read()
                connection.close()
                self.send_response(answer.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """Who is killed does not wait for the answer."""

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def open(self) -> None:
        self.holds_after = ""
        self._opened.set()

    def close(self) -> None:
        self.open()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def command(data: Path, *arguments: str | int) -> list[str]:
    return [sys.executable, "-m", "headwater", "import", "thingspeak", "--data", str(data), *map(str, arguments)]


def bring(data: Path, *arguments: str | int, code: int = 0, stdin: str = "", **environment: str) -> str:
    """Run the command; what it says."""
    done = subprocess.run(
        command(data, *arguments),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=100,
        env=os.environ | environment,
        check=False,
    )
    assert done.returncode == code, done
    assert (done.stdout, "Traceback" in done.stderr) == ("", False)
    return done.stderr


def fill(server: Server, channel: ChannelKeys, entries: list[dict[str, Any]]) -> None:
    for first in range(0, len(entries), BULK):
        body = json.dumps({"write_api_key": channel.write_key, "updates": entries[first : first + BULK]})
        answer = server.call(
            "POST", f"/channels/{channel.id}/bulk_update.json", body, {"Content-Type": "application/json"}
        )
        assert answer.status == 202, answer


def entries_of(server: Server, channel_id: int, key: str) -> list[tuple[Any, ...]]:
    """Everything in a channel, in the order of time."""
    found: list[tuple[Any, ...]] = []
    last = 10**9
    while True:
        query = {"api_key": key, "end_entry_id": last, "results": 8000, "status": "true", "location": "true"}
        rows = server.call("GET", f"/channels/{channel_id}/feeds.json", **query).json()["feeds"]
        found[:0] = [tuple(row.values()) for row in rows]
        if len(rows) < 8000:
            return found
        last = rows[0]["entry_id"] - 1


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("upstream") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def large(upstream: Server) -> ChannelKeys:
    """Private, with more entries than fit into two pages: every third of a second that another has, and a gap."""
    channel = upstream.create_channel("Weather – Köln", description="two\nlines", latitude="50.9", elevation="53")
    entries = [
        {"created_at": FIRST_S + number // 3 * 2 + (10**7 if number > 15_000 else 0), "field1": f"{number}.50"}
        | ({"status": f"<{number}>", "latitude": "1.5"} if number % 100 == 0 else {})
        | ({"field2": "on"} if number % 7 == 0 else {})
        for number in range(ENTRIES)
    ]
    fill(upstream, channel, entries)
    return channel


@pytest.fixture
def gate(upstream: Server) -> Iterator[Gate]:
    opened = Gate(upstream)
    yield opened
    opened.close()


@pytest.fixture
def here(data: Path) -> Iterator[Server]:
    with running_server(data) as running:
        yield running


def made_channel(server: Server, told: str) -> tuple[int, str]:
    """The channel that the command made, and its write key."""
    found = re.search(r"^channel (\d+) was made", told, re.MULTILINE)
    assert found is not None, told
    return int(found[1]), write_key(server, int(found[1]))


def write_key(server: Server, channel_id: int) -> str:
    if not server.cookies:
        server.sign_in()
    page = server.visit(f"/channels/{channel_id}/api_keys").body.decode()
    key = re.search(r"update\?api_key=([0-9A-Z]{16})", page)
    assert key is not None
    return key[1]


def last_entry_id(server: Server, channel_id: int, key: str) -> int:
    head = server.call("GET", f"/channels/{channel_id}/feeds.json", api_key=key, results=0)
    return int(head.json()["channel"]["last_entry_id"] or 0)


def test_killed_in_the_middle_and_called_again(
    upstream: Server, large: ChannelKeys, gate: Gate, here: Server, tmp_path: Path
) -> None:
    key_file = tmp_path / "key.txt"
    key_file.write_text(f"{large.read_key}\n")
    arguments = ("--channel", large.id, "--url", gate.url, "--key-file", str(key_file))
    gate.holds_after = "2020-09-13 13:00:00"  # some thousand entries are before
    with subprocess.Popen(command(here.data, *arguments), stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: gate.held, timeout_s=60, what="the import to be in the middle")
        key = write_key(here, 1)
        wait_until(lambda: last_entry_id(here, 1, key), what="the first entries to be stored")
        process.kill()
        process.communicate(timeout=20)
    assert 0 < last_entry_id(here, 1, key) < ENTRIES
    gate.open()
    told = bring(here.data, *arguments)
    assert "was made" not in told
    assert large.read_key not in told
    assert entries_of(here, 1, key) == entries_of(upstream, large.id, large.read_key)
    assert all(large.read_key not in target for target in gate.targets)
    channel = here.call("GET", "/channels/1/feeds.json", api_key=key, results=0).json()["channel"]
    for name in ("name", "description", "latitude", "elevation", "field1", "field2"):
        assert (
            channel[name]
            == {
                "name": "Weather – Köln",
                "description": "two\nlines",
                "latitude": "50.9",
                "elevation": "53",
                "field1": "Temp",
                "field2": "Hum",
            }[name]
        )
    assert here.call("GET", "/update", api_key=key, field1=1).body == str(ENTRIES + 1).encode()
    assert large.read_key not in here.log


def test_called_again_it_brings_what_is_new(upstream: Server, here: Server) -> None:
    channel = upstream.create_channel("small")
    fill(upstream, channel, [{"created_at": FIRST_S + n, "field1": n} for n in range(5)])
    arguments = ("--channel", channel.id, "--url", upstream.url)
    told = bring(here.data, *arguments, THINGSPEAK_API_KEY=channel.read_key)
    channel_id, key = made_channel(here, told)
    assert "5 entries imported" in told
    fill(upstream, channel, [{"created_at": FIRST_S + 4 + n, "field1": n} for n in range(1, 4)])
    told = bring(here.data, *arguments, "--key-file", "-", stdin=channel.write_key)
    assert "was made" not in told
    assert f"4 entries imported into channel {channel_id}" in told  # the newest second is looked at again
    assert entries_of(here, channel_id, key) == entries_of(upstream, channel.id, channel.read_key)
    assert [row[1] for row in entries_of(here, channel_id, key)] == list(range(1, 9))
    # When devices write here already, what comes after is numbered behind them.
    assert here.call("GET", "/update", api_key=key, field1="own").body == b"9"
    fill(upstream, channel, [{"created_at": FIRST_S + 100, "field1": "late"}])
    bring(here.data, *arguments, "--key", channel.read_key)
    assert [(row[1], row[2]) for row in entries_of(here, channel_id, key)][-2:] == [(10, "late"), (9, "own")]
    for _ in range(2):
        bring(here.data, *arguments, "--key", channel.read_key)
        assert len(entries_of(here, channel_id, key)) == 10


def test_into_a_channel_that_has_entries(upstream: Server, here: Server) -> None:
    channel = upstream.create_channel("public", public_flag="true")
    fill(upstream, channel, [{"created_at": FIRST_S + n, "field1": n} for n in range(4)])
    target = here.create_channel("mine")
    fill(here, target, [{"created_at": FIRST_S + 1, "field1": "kept"}, {"created_at": FIRST_S + 50, "field1": "own"}])
    for _ in range(2):
        bring(here.data, "--channel", channel.id, "--url", upstream.url, "--into", target.id)
        found = entries_of(here, target.id, target.read_key)
        assert [(row[1], row[2]) for row in sorted(found, key=lambda row: row[0])] == [
            (3, "0"),
            (1, "kept"),
            (4, "2"),
            (5, "3"),
            (2, "own"),
        ]


def test_without_a_server(upstream: Server, data: Path) -> None:
    channel = upstream.create_channel("alone", public_flag="true")
    fill(upstream, channel, [{"created_at": FIRST_S + n // 2, "field1": n} for n in range(6)])
    with running_server(data):
        pass  # so that there is a data directory with an account
    for _ in range(2):
        bring(data, "--channel", channel.id, "--url", upstream.url)
    with running_server(data) as here:
        assert entries_of(here, 1, write_key(here, 1)) == entries_of(upstream, channel.id, channel.read_key)
        here.submit("/channels/1/clear", page="/channels/1/settings", confirmation=1)
        told = bring(data, "--channel", channel.id, "--url", upstream.url)  # begins anew, in the same channel
        assert "6 entries imported into channel 1" in told
        assert entries_of(here, 1, write_key(here, 1)) == entries_of(upstream, channel.id, channel.read_key)


def test_an_empty_channel(upstream: Server, here: Server) -> None:
    channel = upstream.create_channel("empty", public_flag="true")
    told = bring(here.data, "--channel", channel.id, "--url", upstream.url)
    channel_id, _ = made_channel(here, told)
    assert f"0 entries imported into channel {channel_id}" in told
    assert "was made" not in bring(here.data, "--channel", channel.id, "--url", upstream.url)


def test_what_cannot_be_is_told(upstream: Server, here: Server) -> None:
    private = upstream.create_channel("private")
    url = ("--url", upstream.url)
    opened = ("--channel", private.id, *url, "--key", private.read_key)
    for arguments, sentence in (
        (("--channel", private.id, *url), f"channel {private.id} is private: give one of its keys with --key-file"),
        (("--channel", private.id, *url, "--key", "WRONGWRONGWRONG1"), "the key does not open channel"),
        (("--channel", 10**6, *url), f"has no channel {10**6}"),
        ((*opened, "--into", "nowhere"), "there is no channel 'nowhere'"),
        ((*opened, "--account", "bob"), "there is no account bob"),
        (("--channel", private.id, *url, "--key-file", "/no/such/file"), "/no/such/file"),
    ):
        told = bring(here.data, *arguments, code=1)
        assert sentence in told, told
        assert told.count("\n") == 1
        assert "WRONGWRONG" not in told
        assert private.read_key not in told
    told = bring(here.data, "--channel", private.id, "--url", "thingspeak", code=2)
    assert "--url: give an address like https://api.thingspeak.com" in told
