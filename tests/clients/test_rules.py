"""Rules on a real server: what REST and MQTT store has them run, once, also across a restart."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

from headwater.mqtt.encode import render_packet
from headwater.mqtt.packets import Disconnect
from server import ADMIN_TOKEN, ChannelKeys, Server, running_server, start_server, wait_until

REACT = {
    "condition": "numeric",
    "numeric_field": "1",
    "numeric_operator": ">",
    "value": "30",
    "check": "0",
    "run": "first",
    "pause": "0",
}
ENTRY = re.compile(r"<small>entry (\d+)</small>")


def add_react(server: Server, channel: ChannelKeys, **changes: str) -> str:
    """A React that publishes; its path."""
    if not server.cookies:
        server.sign_in()
    form = REACT | {"name": "Too hot", "channel": str(channel.id)} | changes
    actions = server.submit("/apps/react/new", **form).headers["Location"]
    server.submit(actions, action="publish", topic="alarms", payload="%%field1%%", qos="1")
    return actions.removesuffix("/actions/new")


def runs(server: Server, path: str) -> list[int]:
    """The entries that a rule ran for, the first first."""
    page = html.unescape(server.visit(path).body.decode())
    return [int(number) for number in reversed(ENTRY.findall(page))]


def update(server: Server, channel: ChannelKeys, value: str) -> None:
    assert server.call("GET", "/update", api_key=channel.write_key, field1=value).status == 200


def bulk(server: Server, channel: ChannelKeys, *values: str) -> None:
    updates = [{"created_at": f"2026-01-01T00:00:{n:02}Z", "field1": value} for n, value in enumerate(values)]
    body = json.dumps({"write_api_key": channel.write_key, "updates": updates})
    headers = {"Content-Type": "application/json"}
    assert server.call("POST", f"/channels/{channel.id}/bulk_update.json", body, headers).status == 202


def test_updates_over_rest_and_mqtt_and_a_bulk_run_a_rule(server: Server) -> None:
    channel = server.create_channel()
    path = add_react(server, channel, run="each")
    update(server, channel, "20")
    update(server, channel, "31")
    wait_until(lambda: runs(server, path) == [2])
    with server.mqtt_client() as client:
        topic = f"channels/{channel.id}/publish/{channel.write_key}"
        server.publish_acknowledged(client, topic, b"field1=32")
        client.sendall(render_packet(Disconnect()))
    wait_until(lambda: runs(server, path) == [2, 3])
    bulk(server, channel, "10", "33", "34", "11")
    wait_until(lambda: runs(server, path) == [2, 3, 5])
    update(server, channel, "35")
    wait_until(lambda: runs(server, path) == [2, 3, 5, 8])  # and none of the others of the bulk before


def test_a_met_condition_stays_met_across_restarts(tmp_path: Path) -> None:
    data = tmp_path / "data"
    server = start_server(data)
    channel = server.create_channel()
    path = add_react(server, channel)
    update(server, channel, "31")
    wait_until(lambda: runs(server, path) == [1])
    assert server.stop() == 0, server.log
    with running_server(data) as again:
        again.sign_in()
        update(again, channel, "32")
        update(again, channel, "20")
        update(again, channel, "33")
        wait_until(lambda: runs(again, path) == [1, 4])


def test_a_deleted_channel_leaves_a_rule_that_says_so(server: Server) -> None:
    channel = server.create_channel()
    path = add_react(server, channel)
    assert server.call("DELETE", f"/channels/{channel.id}.json", api_key=ADMIN_TOKEN).status == 200
    assert "is gone: choose another" in server.visit(path).body.decode()
    server.submit(f"{path}/delete", page=path)
