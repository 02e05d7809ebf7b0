"""npm's `thingspeakclient`, unmodified: each of its calls. It knows singular paths and the parameter `key` only."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from mqtt_js_client import install

from server import ADMIN_NAME, ADMIN_TOKEN, ChannelKeys, Server, require_program

_HERE = Path(__file__).parent / "thingspeak_js"


def run(server: Server, *calls: list[Any], **options: Any) -> list[tuple[str | None, Any]]:
    """What the callback of each call got: the text of an error, and a body."""
    told = json.dumps([{"server": server.url, "useTimeoutMode": False, **options}, *calls])
    done = subprocess.run(
        [require_program("node"), "--no-deprecation", str(_HERE / "driver.cjs")],
        input=told,
        capture_output=True,
        text=True,
        timeout=30,
        env=os.environ | {"NODE_PATH": str(install(_HERE))},
    )
    assert done.returncode == 0, done.stderr
    return [(error, body) for error, body in json.loads(done.stdout)]


def attach(channel: ChannelKeys, **keys: str) -> list[Any]:
    return ["attachChannel", channel.id, keys or {"writeKey": channel.write_key, "readKey": channel.read_key}]


def test_a_private_channel(server: Server, channel: ChannelKeys) -> None:
    first = {"field1": 21.5, "field2": "a&b", "status": "one", "created_at": "2026-01-02T03:04:05Z"}
    answers = run(
        server,
        attach(channel),
        ["updateChannel", channel.id, first],
        ["updateChannel", channel.id, {"field2": 7}],
        ["getChannelFeeds", channel.id, {"results": 2}],
        ["getLastEntryInChannelFeed", channel.id, {"status": True}],
        ["getFieldFeed", channel.id, 2],
        ["getLastEntryInFieldFeed", channel.id, 1],
        ["getStatusUpdates", channel.id, {"start": "2026-01-01 00:00:00"}],
    )
    assert [error for error, _ in answers] == [None] * 8
    assert [body for _, body in answers[1:3]] == ["1", "2"], "which counts as more than 0"
    feed, last, field, last_of_field, statuses = (body for _, body in answers[3:])
    assert [entry["field2"] for entry in feed["feeds"]] == ["a&b", "7"]
    assert (feed["channel"]["id"], feed["channel"]["last_entry_id"]) == (channel.id, 2)
    assert (last["entry_id"], last["field1"], last["field2"], last["status"]) == (2, None, "7", None)
    assert [sorted(entry) for entry in field["feeds"]] == [["created_at", "entry_id", "field2"]] * 2
    assert last_of_field == {"created_at": "2026-01-02T03:04:05Z", "entry_id": 1, "field1": "21.5"}
    assert [entry["status"] for entry in statuses["feeds"]] == ["one", None]


def test_its_queue_of_updates(server: Server, channel: ChannelKeys) -> None:
    """As it is set up by itself: one update after the other, with a pause that thingspeak.com asks for."""
    calls = [
        attach(channel),
        ["updateChannel", channel.id, {"field1": 1}],
        ["updateChannel", channel.id, {"field1": 2}],
    ]
    answers = run(server, *calls, useTimeoutMode=True, updateTimeout=1)
    assert answers == [(None, None), (None, "1"), (None, "2")]


def test_refused(server: Server, channel: ChannelKeys) -> None:
    """-1 is read as the number that it is; 0 is no success."""
    answers = run(
        server,
        attach(channel, writeKey="WRONG", readKey="WRONG"),
        ["updateChannel", channel.id, {"field1": 1}],
        ["getChannelFeeds", channel.id],
        ["getLastEntryInChannelFeed", channel.id],
        ["getFieldFeed", channel.id, 1],
        ["getLastEntryInFieldFeed", channel.id, 1],
        ["getStatusUpdates", channel.id],
    )
    assert answers == [(None, None), (None, "0"), *[(None, -1)] * 5]
    assert server.feeds(channel) == []


def test_public_channels_and_people(server: Server) -> None:
    channel = server.create_channel("for node", public_flag="true", tags="node-client")
    answers = run(
        server,
        ["getChannelFeeds", channel.id],
        ["listPublicChannels", {"tag": "node-client"}],
        ["listUserInfo", ADMIN_NAME],
        ["listUserInfo", ADMIN_NAME, {"key": ADMIN_TOKEN}],
        ["listUserChannels", ADMIN_NAME],
        ["listUserChannels", ADMIN_NAME, {"key": ADMIN_TOKEN}],
        ["listUserInfo", "nobody"],
    )
    feed, public, person, themselves, channels, own, nobody = (body for _, body in answers)
    assert feed["feeds"] == []
    assert [one["id"] for one in public["channels"]] == [channel.id]
    assert public["pagination"] == {"current_page": 1, "per_page": 15, "total_entries": 1}
    assert (person["login"], "email" in person, "email" in themselves) == (ADMIN_NAME, False, True)
    assert channel.id in [one["id"] for one in channels["channels"]]
    assert all("api_keys" in one for one in own["channels"])
    assert nobody["status"] == "404"
