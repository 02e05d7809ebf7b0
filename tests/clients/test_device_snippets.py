"""What the page with a new device's credentials gives to copy works as it stands there."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from pathlib import Path

from mqtt_client import MqttClient
from server import ChannelKeys, Credentials, Server, wait_until


def shown_snippets(server: Server, channel: ChannelKeys, name: str) -> dict[str, str]:
    """The texts of the page by the first word of their titles."""
    if not server.cookies:
        server.sign_in()
    page = server.submit("/devices/new", name=name, publish=[channel.id]).body.decode()
    found = re.findall(r"<figcaption>(.*?)<button.*?<pre><code>(.*?)</code></pre>", page, re.DOTALL)
    return {html.unescape(title).split(" ")[0]: html.unescape(text) for title, text in found}


def test_the_python_program_runs(server: Server, channel: ChannelKeys, prefix: str, tmp_path: Path) -> None:
    program = shown_snippets(server, channel, prefix)["Python"]
    (tmp_path / "ca.crt").write_bytes(server.call("GET", "/ca.crt").body)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done
    wait_until(lambda: [entry["field1"] for entry in server.feeds(channel)] == ["21.5"], what="the entry")


def test_tasmota_with_these_commands_writes_entries(server: Server, channel: ChannelKeys, prefix: str, connect) -> None:  # type: ignore[no-untyped-def]
    backlog, rule, *_ = shown_snippets(server, channel, prefix)["Tasmota"].splitlines()
    said = dict(one.strip().split(" ", 1) for one in backlog.removeprefix("Backlog ").split(";"))
    assert int(said["MqttPort"]) == server.mqtt_port
    who = Credentials(said["MqttClient"], said["MqttUser"], said["MqttPassword"])
    tasmota: MqttClient = connect(who=who, keep_alive_s=30)
    topic, payload = rule.split(" DO Publish ")[1].removesuffix(" ENDON").split(" ")
    tasmota.publish(topic, payload.replace("%value%", "19.5"), 1)
    assert [entry["field1"] for entry in server.feeds(channel)] == ["19.5"]
